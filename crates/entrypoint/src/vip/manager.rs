//! The task that keeps the virtual addresses of this member: it compares what should be with what is, and acts.
//!
//! What is held is renewed in the kernel with every renewal of the lease. Nothing here waits for anything but the kernel.

mod giving_back;
mod hold;
mod neighbours;
mod remembered;
mod sightings;

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

pub use self::giving_back::{clean_up, take_back};
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

    fn fail(&self, name: &str, why: &str) {
        if self.board.fail(KIND, name, why, wall()) {
            error!(entry = name, "{why}");
        }
    }
}
