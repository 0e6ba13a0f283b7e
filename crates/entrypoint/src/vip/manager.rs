//! The task that keeps the virtual addresses of this member: it compares what should be with what is, and acts.
//!
//! What is held is renewed in the kernel with every renewal of the lease. Nothing here waits for anything but the kernel.

mod hold;
mod neighbours;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bellwether_config::sections::vip::{Vip, VipAddress, VipEntry};
use bellwether_types::Timestamp;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{hold::Hold, neighbours::Neighbours};
use super::{
    link::Links,
    place::{Interface, Place, place},
    plan::{Holding, Wanted, wanted},
    privilege,
    record::{Record, Recorded},
};
use crate::{
    Agent,
    board::{Board, Entry, Part, wall},
    confirm::{Moved, Outcome, confirm},
    situation::Situation,
};

/// How often everything is looked at, whatever happens.
const TICK: Duration = Duration::from_secs(1);
/// How often the interfaces of the host are looked at.
const SURVEY: Duration = Duration::from_secs(5);
/// How long addresses stay that an agent leaves which is stopped in a pause: enough for an upgrade.
const KEPT_IN_PAUSE: u32 = 300;
const KIND: &str = "vip";

/// Keeps the addresses. Made once; [`Manager::run`] is its life.
#[derive(Debug)]
pub struct Manager {
    agent: Agent,
    config: watch::Receiver<Arc<Vip>>,
    vip: Arc<Vip>,
    board: Board,
    record: Record,
    links: Links,
    neighbours: Neighbours,
    interfaces: Vec<Interface>,
    surveyed_at: Option<Timestamp>,
    holds: BTreeMap<(String, VipAddress), Hold>,
    /// As it stands in the file.
    recorded: Vec<Recorded>,
    unprivileged: bool,
    /// Questions to other members.
    questions: JoinSet<(Moved, Outcome)>,
}

impl Manager {
    /// To be called on a runtime. What an agent before this one has left is taken over, or taken back by [`clean_up`].
    pub fn new(
        agent: Agent,
        config: watch::Receiver<Arc<Vip>>,
        board: Board,
        runtime_dir: &Path,
    ) -> io::Result<Self> {
        let record = Record::within(runtime_dir);
        let recorded = record.read().unwrap_or_default();
        let vip = config.borrow().clone();
        Ok(Self {
            agent,
            config,
            vip,
            board,
            record,
            links: Links::open()?,
            neighbours: Neighbours::default(),
            interfaces: Vec::new(),
            surveyed_at: None,
            holds: BTreeMap::new(),
            recorded,
            unprivileged: false,
            questions: JoinSet::new(),
        })
    }

    /// Runs until `stop`, and gives the addresses back.
    pub async fn run(mut self, stop: CancellationToken) {
        self.check_privileges();
        self.take_over();
        loop {
            if self.vip.entries.is_empty() && self.holds.is_empty() {
                // Most members have no such addresses, and shall not pay for them.
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = self.config.changed() => if changed.is_err() { return },
                }
                self.take_configuration().await;
                continue;
            }
            self.look().await;
            let now = (self.agent.now)();
            let due = self.next_due().map_or(TICK, |due| now.until(due).min(TICK));
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.agent.topology.changed() => if changed.is_err() { break },
                changed = self.config.changed() => {
                    if changed.is_ok() {
                        self.take_configuration().await;
                    }
                }
                Some(Ok((moved, outcome))) = self.questions.join_next() => self.tell_confirmation(&moved, outcome),
                sighting = self.neighbours.next() => self.hear(sighting),
                () = tokio::time::sleep(due) => {}
            }
        }
        self.farewell().await;
    }

    fn check_privileges(&mut self) {
        let missing = privilege::missing();
        self.unprivileged = !missing.is_empty() && !self.vip.entries.is_empty();
        if self.unprivileged {
            let missing = missing.join(" and ");
            error!(
                "virtual addresses cannot be moved: the agent lacks {missing}; add `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW` to its unit"
            );
        }
    }

    /// Addresses that an agent before this one has left, which are still wanted by the configuration.
    fn take_over(&mut self) {
        for left in self.recorded.clone() {
            let address = VipAddress { ip: left.address, prefix_len: left.prefix_len };
            let known = self.vip.entries.get(&left.entry);
            if known.is_some_and(|entry| entry.addresses.contains(&address)) {
                info!(address = %left.address, interface = left.interface, "found an address that an agent before this one has left");
                self.holds.insert((left.entry, address), Hold::adopted());
            }
        }
    }

    async fn take_configuration(&mut self) {
        let vip = self.config.borrow_and_update().clone();
        if vip == self.vip {
            return;
        }
        // What is not configured any more goes, before its interface is forgotten.
        let gone: Vec<(String, VipAddress)> = self
            .holds
            .keys()
            .filter(|(name, address)| {
                vip.entries.get(name).is_none_or(|entry| !entry.addresses.contains(address))
            })
            .cloned()
            .collect();
        for key in gone {
            self.release(&key, "it is not configured any more").await;
            self.holds.remove(&key);
        }
        self.vip = vip;
        self.surveyed_at = None;
        self.check_privileges();
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.holds.iter().filter_map(|((_, address), hold)| {
            hold.next_due(&self.vip.announce, self.neighbours.may_burst(address.ip))
        });
        due.min()
    }

    /// Wanted and actual state, compared and repaired.
    async fn look(&mut self) {
        let situation = self.agent.situation();
        self.survey(situation.now).await;
        let vip = self.vip.clone();
        for (name, entry) in &vip.entries {
            self.look_at(name, entry, &situation).await;
        }
        let names: Vec<&str> = vip.entries.keys().map(String::as_str).collect();
        self.board.keep(KIND, &names);
    }

    async fn survey(&mut self, now: Timestamp) {
        if self.surveyed_at.is_some_and(|at| now.since(at) < SURVEY) {
            return;
        }
        match self.links.interfaces().await {
            Ok(interfaces) => {
                self.interfaces = interfaces;
                self.surveyed_at = Some(now);
            }
            Err(error) => warn!(%error, "the interfaces of this host could not be looked at"),
        }
        let watched: BTreeSet<IpAddr> = self.vip.addresses().map(|address| address.ip).collect();
        let mut wanted = BTreeMap::new();
        for entry in self.vip.entries.values() {
            for address in &entry.addresses {
                if let Place::Here { index, name, mac: Some(mac), .. } = self.place_of(entry, *address) {
                    wanted.insert(index, (name, mac));
                }
            }
        }
        if let Err(error) = self.neighbours.listen(&wanted, watched)
            && !self.unprivileged
        {
            warn!(%error, "neighbours cannot be heard: conflicts over an address will not be noticed");
        }
    }

    fn place_of(&self, entry: &VipEntry, address: VipAddress) -> Place {
        let ours: BTreeSet<IpAddr> = self.vip.addresses().map(|address| address.ip).collect();
        place(address, entry.interface.as_deref(), &self.interfaces, &ours, self.vip.announce.on)
    }

    async fn look_at(&mut self, name: &str, entry: &VipEntry, situation: &Situation) {
        let mut parts = Vec::new();
        let mut held = false;
        let holding = self.holding(name, entry);
        let wanted = wanted(entry, situation, holding);
        for address in &entry.addresses {
            let key = (name.to_owned(), *address);
            let place = self.place_of(entry, *address);
            let mut part = Part { what: address.ip.to_string(), ..Part::default() };
            part.seen_at = self.neighbours.seen(address.ip).map(|seen| seen.to_string());
            match place {
                Place::Elsewhere => part.state = "belongs to another site".into(),
                Place::Unusable { why } => {
                    self.fail(name, &format!("{}: {why}", address.ip));
                    part.state = why;
                }
                Place::Here { index, name: interface, mac, has_carrier } => {
                    part.place.clone_from(&interface);
                    part.hardware_address = mac.map(|mac| mac.to_string());
                    match wanted {
                        Wanted::Held { until, .. } => {
                            self.hold(&key, index, &interface, until, situation).await
                        }
                        Wanted::Coming => self.expect(&key, index, mac, situation.now),
                        Wanted::AsItIs => {}
                        Wanted::NotHere { because } => self.release(&key, because).await,
                    }
                    let is_here = self.holds.get(&key).is_some_and(Hold::is_here);
                    held |= is_here;
                    part.state = match (is_here, has_carrier) {
                        (true, true) => "here",
                        (true, false) => "here, and the interface has no carrier",
                        (false, true) => "not here",
                        (false, false) => "not here, and the interface has no carrier",
                    }
                    .into();
                    if let Some(mac) = mac {
                        self.announce(&key, index, mac, situation.now);
                    }
                }
            }
            parts.push(part);
        }
        let (is_wanted, because) = match wanted {
            Wanted::Held { because, .. } => (true, because),
            Wanted::Coming => (true, "this member leads, and its PostgreSQL does not take writes yet"),
            Wanted::AsItIs => (held, "an agent before this one has left it, and its lease may still last"),
            Wanted::NotHere { because } => (false, because),
        };
        let because = because.to_owned();
        let picture = Entry {
            kind: KIND.into(),
            name: name.into(),
            parts,
            wanted: is_wanted,
            because,
            held,
            ..Entry::default()
        };
        self.board.put(picture, wall());
    }

    fn holding(&self, name: &str, entry: &VipEntry) -> Holding {
        let holds = entry.addresses.iter().filter_map(|address| self.holds.get(&(name.to_owned(), *address)));
        let mut holding = Holding::No;
        for hold in holds {
            match hold {
                Hold::Here { .. } => return Holding::Yes,
                Hold::Adopted => holding = Holding::Adopted,
                Hold::Coming { .. } => {}
            }
        }
        holding
    }

    /// Adds the address, or renews it.
    async fn hold(
        &mut self,
        key: &(String, VipAddress),
        index: u32,
        interface: &str,
        until: Timestamp,
        situation: &Situation,
    ) {
        let (name, address) = key;
        let now = (self.agent.now)();
        let before = self.holds.get(key).copied();
        if !Hold::needs_renewal(before.as_ref(), now, until) {
            return;
        }
        // First the file: what a killed agent has added must be known to the next one.
        self.remember(name, interface, *address);
        let seconds = self.vip.kernel_lifetime.then(|| super::plan::kernel_seconds(now, until));
        match self.links.put(index, interface, *address, seconds).await {
            Ok(()) => {
                let is_new = !before.as_ref().is_some_and(Hold::is_here);
                let was_adopted = matches!(before, Some(Hold::Adopted));
                let renewed = Hold::renewed(before.as_ref(), now, until, situation.ttl);
                self.holds.insert(key.clone(), renewed);
                self.board.clear_error(KIND, name);
                if is_new {
                    let did = if was_adopted { "took over" } else { "added" };
                    info!(entry = name, address = %address.ip, interface, "{did} the virtual address");
                    let record =
                        json!({"action": did, "entry": name, "address": address.ip, "interface": interface});
                    self.agent.tell(KIND, record);
                    self.ask_others(name, *address, index, situation);
                }
            }
            Err(error) => {
                self.surveyed_at = None;
                self.fail(name, &format!("{} cannot be added to {interface}: {error}", address.ip));
            }
        }
    }

    /// Do other members see it here?
    fn ask_others(&mut self, name: &str, address: VipAddress, index: u32, situation: &Situation) {
        let mac = self.interfaces.iter().find(|known| known.index == index).and_then(|known| known.mac);
        let (Some(mac), true) = (mac, self.vip.announce.on) else { return };
        let others = situation.members.iter().filter(|member| member.name != situation.me);
        let others: Vec<(String, String)> =
            others.filter_map(|member| Some((member.name.to_string(), member.api_url.clone()?))).collect();
        let moved = Moved {
            name: name.to_owned(),
            address: address.ip.to_string(),
            hardware_address: mac.to_string(),
        };
        let (client, board) = (self.agent.client.clone(), self.board.clone());
        self.questions.spawn(async move {
            let outcome = confirm(client, others, moved.clone(), board).await;
            (moved, outcome)
        });
    }

    fn tell_confirmation(&self, moved: &Moved, outcome: Outcome) {
        let Moved { name, address, .. } = moved;
        match outcome {
            Outcome::Confirmed => info!(entry = name, address, "other members see the virtual address here"),
            Outcome::Unseen => {
                warn!(
                    entry = name,
                    address,
                    "no other member has seen the virtual address here: does the network pass announcements on?"
                );
            }
            Outcome::Unknown => return,
        }
        let record = json!({
            "action": if outcome == Outcome::Confirmed { "confirmed" } else { "unseen" },
            "entry": name, "address": address,
        });
        self.agent.tell(KIND, record);
    }

    /// Removes the address if an agent of this member has added it.
    async fn release(&mut self, key: &(String, VipAddress), because: &str) {
        let (name, address) = key;
        let Some(hold) = self.holds.get(key) else { return };
        if !hold.may_be_here() {
            self.holds.remove(key);
            return;
        }
        let on = self.recorded.iter().find(|left| left.entry == *name && left.address == address.ip);
        let interface = on.map(|left| left.interface.clone()).unwrap_or_default();
        let index = self.interfaces.iter().find(|known| known.name == interface).map(|known| known.index);
        let removed = match index {
            Some(index) => self.links.remove(index, *address).await,
            // With its interface the address is gone, too.
            None => Ok(false),
        };
        match removed {
            Ok(_) => {
                self.holds.remove(key);
                self.forget(name, *address);
                self.board.clear_error(KIND, name);
                info!(entry = name, address = %address.ip, interface, because, "removed the virtual address");
                let record =
                    json!({"action": "removed", "entry": name, "address": address.ip, "because": because});
                self.agent.tell(KIND, record);
            }
            Err(error) => self.fail(name, &format!("{} cannot be removed: {error}", address.ip)),
        }
    }

    /// The address is about to come here: who has it now?
    fn expect(
        &mut self,
        key: &(String, VipAddress),
        index: u32,
        mac: Option<super::place::HardwareAddress>,
        now: Timestamp,
    ) {
        let hold = self.holds.entry(key.clone()).or_insert_with(|| Hold::coming(now));
        if let (true, Some(mac)) = (hold.probe_is_due(now), mac) {
            self.neighbours.probe(index, key.1.ip, mac);
        }
    }

    fn announce(
        &mut self,
        key: &(String, VipAddress),
        index: u32,
        mac: super::place::HardwareAddress,
        now: Timestamp,
    ) {
        let Some(hold) = self.holds.get_mut(key) else { return };
        let burst = self.neighbours.may_burst(key.1.ip);
        if !hold.announcement_is_due(&self.vip.announce, burst, now) {
            return;
        }
        if burst.is_some() {
            self.neighbours.burst_done(key.1.ip);
        }
        if let Err(error) = self.neighbours.announce(index, key.1.ip, mac) {
            let why = format!("{} cannot be announced: {error}", key.1.ip);
            self.fail(&key.0.clone(), &why);
        }
    }

    /// A neighbour says that an address is his.
    fn hear(&mut self, sighting: super::frame::Sighting) {
        let now = (self.agent.now)();
        let own = self.interfaces.iter().any(|interface| interface.mac == Some(sighting.at));
        let holds_it = |(_, address): &&(String, VipAddress)| address.ip == sighting.ip;
        let Some(key) = self.holds.keys().find(holds_it).cloned() else {
            self.neighbours.note(sighting, now, false);
            return;
        };
        let is_foreign = !own && self.holds.get(&key).is_some_and(|hold| !matches!(hold, Hold::Adopted));
        if self.neighbours.note(sighting, now, is_foreign) && is_foreign {
            warn!(address = %sighting.ip, at = %sighting.at, "another host says that it has the virtual address of this member");
            let record = json!({"action": "conflict", "entry": key.0, "address": sighting.ip, "at": sighting.at.to_string()});
            self.agent.tell(KIND, record);
        }
    }

    fn remember(&mut self, name: &str, interface: &str, address: VipAddress) {
        let is_finite = self.vip.kernel_lifetime;
        let is_new = |left: &Recorded| {
            !(left.entry == name
                && left.address == address.ip
                && left.interface == interface
                && left.is_finite == is_finite
                && !left.is_kept)
        };
        if self.recorded.iter().all(is_new) {
            self.recorded.retain(|left| left.entry != name || left.address != address.ip);
            self.recorded.push(Recorded {
                entry: name.to_owned(),
                interface: interface.to_owned(),
                address: address.ip,
                prefix_len: address.prefix_len,
                is_finite,
                is_kept: false,
            });
            self.write_record();
        }
    }

    fn forget(&mut self, name: &str, address: VipAddress) {
        self.recorded.retain(|left| left.entry != name || left.address != address.ip);
        self.write_record();
    }

    fn write_record(&self) {
        if let Err(error) = self.record.write(&self.recorded) {
            error!(%error, file = %self.record.path().display(), "what was added to this host could not be written down");
        }
    }

    fn fail(&self, name: &str, why: &str) {
        if self.board.fail(KIND, name, why, wall()) {
            error!(entry = name, "{why}");
        }
    }

    /// Gives back what is here. In a pause with a running primary the agent may be stopped for an upgrade: the address stays for a
    /// while.
    async fn farewell(&mut self) {
        let situation = self.agent.situation();
        let stays = situation.paused
            && situation.local == crate::situation::Local::Leads
            && !situation.another_leads();
        for key in self.holds.keys().cloned().collect::<Vec<_>>() {
            let is_here = self.holds.get(&key).is_some_and(Hold::is_here);
            if stays && is_here && self.keep_in_pause(&key).await {
                continue;
            }
            self.release(&key, "the agent stops").await;
        }
    }

    async fn keep_in_pause(&mut self, key: &(String, VipAddress)) -> bool {
        let (name, address) = key;
        let Some(at) =
            self.recorded.iter().position(|left| left.entry == *name && left.address == address.ip)
        else {
            return false;
        };
        let interface = self.recorded[at].interface.clone();
        let Some(index) =
            self.interfaces.iter().find(|known| known.name == interface).map(|known| known.index)
        else {
            return false;
        };
        self.recorded[at].is_kept = true;
        self.write_record();
        let kept = self.links.put(index, &interface, *address, Some(KEPT_IN_PAUSE)).await.is_ok();
        if kept {
            info!(
                entry = name, address = %address.ip,
                "the virtual address stays for {KEPT_IN_PAUSE} s: the cluster is paused, and PostgreSQL goes on without the agent"
            );
        }
        kept
    }
}

/// Removes what an agent before this one has left and what nobody is entitled to now: addresses that are not configured any more, and
/// those that the kernel would keep for ever. To be called before anything else is done.
pub async fn clean_up(runtime_dir: &Path, vip: &Vip) -> io::Result<()> {
    let record = Record::within(runtime_dir);
    let left = record.read()?;
    let is_configured = |left: &Recorded| {
        let address = VipAddress { ip: left.address, prefix_len: left.prefix_len };
        vip.entries.get(&left.entry).is_some_and(|entry| entry.addresses.contains(&address))
    };
    let (stays, goes): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|left| is_configured(left) && (left.is_finite || left.is_kept));
    if goes.is_empty() {
        return Ok(());
    }
    take_back(&goes).await?;
    record.write(&stays)
}

/// Removes these addresses from this host.
pub async fn take_back(addresses: &[Recorded]) -> io::Result<()> {
    let links = Links::open()?;
    let interfaces = links.interfaces().await?;
    for left in addresses {
        let address = VipAddress { ip: left.address, prefix_len: left.prefix_len };
        if let Some(interface) = interfaces.iter().find(|interface| interface.name == left.interface)
            && links.remove(interface.index, address).await?
        {
            info!(entry = left.entry, address = %left.address, interface = left.interface, "removed a virtual address that was left behind");
        }
    }
    Ok(())
}
