//! The task that keeps the records while this member leads. It may wait for servers as long as it likes: nobody waits for it.

mod attempt;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bellwether_config::sections::{
    dns::Dns,
    vip::{Vip, VipKind},
};
use bellwether_types::{Term, Timestamp};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::attempt::{Attempt, Outcome};
use super::{
    plan::{Fence, Wanted, leads, refresh_at, retry_after},
    servers::address_of,
};
use crate::{
    Agent,
    board::{Board, Entry, Part, wall},
    situation::Situation,
};

const KIND: &str = "dns";
/// How often is looked whether all servers answer as wanted, as long as they do not.
const VERIFY_EACH: Duration = Duration::from_secs(1);

/// What the configuration says about names, and what names lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: no names are kept.
    pub dns: Option<Dns>,
    pub vip: Vip,
    /// Where others reach the PostgreSQL of this member.
    pub own_host: String,
}

/// Keeps the records. Made once; [`Manager::run`] is its life.
#[derive(Debug)]
pub struct Manager {
    agent: Agent,
    config: watch::Receiver<Arc<Settings>>,
    board: Board,
    runtime_dir: PathBuf,
    /// Since when this member leads, by the number of its leadership.
    led_since: Option<(Term, Timestamp)>,
    written: Option<Written>,
    failures: u32,
    next_try: Timestamp,
}

/// What was written last.
#[derive(Debug)]
struct Written {
    wanted: Wanted,
    at: Timestamp,
    refresh_at: Timestamp,
    check_at: Timestamp,
    /// All servers have been seen to answer with it.
    verified: bool,
    overdue_told: bool,
}

impl Manager {
    pub fn new(
        agent: Agent,
        config: watch::Receiver<Arc<Settings>>,
        board: Board,
        runtime_dir: PathBuf,
    ) -> Self {
        let next_try = (agent.now)();
        Self { agent, config, board, runtime_dir, led_since: None, written: None, failures: 0, next_try }
    }

    /// Runs until `stop`. Records stay as they are: the next leader writes its own.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let settings = self.config.borrow_and_update().clone();
            let due = match &settings.dns {
                Some(dns) => self.look(dns, &settings).await,
                None => Timestamp::MAX,
            };
            if settings.dns.is_none() {
                self.board.keep(KIND, &[]);
                self.written = None;
            }
            let now = (self.agent.now)();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (self.written, self.failures, self.next_try) = (None, 0, now);
                }
                changed = self.agent.topology.changed(), if settings.dns.is_some() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(now.until(due)), if due < Timestamp::MAX => {}
            }
        }
    }

    /// Does what is due, and says when to look again.
    async fn look(&mut self, dns: &Dns, settings: &Settings) -> Timestamp {
        let situation = self.agent.situation();
        let Some(term) = leads(&situation) else {
            (self.led_since, self.written, self.failures, self.next_try) = (None, None, 0, situation.now);
            self.show(dns, None, "this member does not hold the lease, or takes no writes");
            return Timestamp::MAX;
        };
        if self.led_since.is_none_or(|(known, _)| known != term) {
            self.led_since = Some((term, situation.now));
        }
        let Some(wanted) = self.wanted(dns, settings, &situation, term).await else {
            self.show(dns, None, "the addresses of this member are not known yet");
            return situation.now + VERIFY_EACH;
        };
        if situation.now < self.next_try {
            return self.next_try;
        }
        let led_for = self.led_since.map_or(Duration::ZERO, |(_, since)| situation.now.since(since));
        let is_refresh = self.written.as_ref().is_some_and(|written| situation.now >= written.refresh_at);
        match &self.written {
            Some(written) if written.wanted == wanted && !is_refresh => self.verify(dns, &wanted).await,
            _ => self.write(dns, wanted, led_for, is_refresh).await,
        }
    }

    async fn write(&mut self, dns: &Dns, wanted: Wanted, led_for: Duration, is_refresh: bool) -> Timestamp {
        let attempt = Attempt {
            agent: &self.agent,
            dns,
            wanted: &wanted,
            led_for,
            is_refresh,
            runtime_dir: &self.runtime_dir,
        };
        let outcome = attempt.make().await;
        let now = (self.agent.now)();
        match outcome {
            Outcome::Written { by } => {
                info!(name = dns.name, server = by, "the name leads to this member");
                self.agent.tell(KIND, json!({"action": "written", "entry": dns.name, "server": by}));
                self.succeed(dns, wanted, now)
            }
            Outcome::WasSo { by } => {
                info!(name = dns.name, server = by, "the name leads to this member already");
                self.succeed(dns, wanted, now)
            }
            Outcome::NotOurs => now,
            Outcome::Failed { why } => {
                self.failures += 1;
                self.next_try = now + retry_after(self.failures, rand::random());
                if self.board.fail(KIND, &dns.name, &why, wall()) {
                    error!(name = dns.name, "the name could not be changed: {why}");
                    self.agent.tell(KIND, json!({"action": "failed", "entry": dns.name, "because": why}));
                }
                self.show(dns, Some(&wanted), "this member leads, and the name could not be changed");
                self.next_try
            }
        }
    }

    fn succeed(&mut self, dns: &Dns, wanted: Wanted, now: Timestamp) -> Timestamp {
        (self.failures, self.next_try) = (0, now);
        self.board.clear_error(KIND, &dns.name);
        self.written = Some(Written {
            wanted,
            at: now,
            refresh_at: refresh_at(now, dns.refresh, rand::random()),
            check_at: now,
            verified: false,
            overdue_told: false,
        });
        now
    }

    /// Looks whether every server answers as wanted; one that does not is repaired by writing again.
    async fn verify(&mut self, dns: &Dns, wanted: &Wanted) -> Timestamp {
        let Some(written) = &mut self.written else { return Timestamp::MAX };
        let now = (self.agent.now)();
        if now < written.check_at {
            return written.check_at.min(written.refresh_at);
        }
        let answers = attempt::answers(dns, wanted).await;
        let now = (self.agent.now)();
        let all_right = !answers.is_empty() && answers.iter().all(|answer| answer.is_right);
        // The first one is where it was written: it does not lag behind.
        let overwritten = answers.first().is_some_and(|first| first.is_wrong);
        let parts: Vec<Part> = answers.iter().map(attempt::Answer::part).collect();
        if overwritten {
            warn!(name = dns.name, "the name was changed by somebody else, and is changed back");
            self.agent.tell(KIND, json!({"action": "conflict", "entry": dns.name}));
            self.written = None;
            self.show_parts(dns, wanted, parts, "this member leads, and somebody else has changed the name");
            return now;
        }
        let age = now.since(written.at);
        if all_right && !written.verified {
            written.verified = true;
            info!(
                name = dns.name,
                after_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                "all servers of the zone answer with the address of this member"
            );
        }
        if !all_right && age >= dns.verify_timeout && !written.overdue_told {
            written.overdue_told = true;
            let behind: Vec<&str> = answers
                .iter()
                .filter(|answer| !answer.is_right)
                .map(|answer| answer.server.as_str())
                .collect();
            let why = format!("{} do not answer with the address of this member", behind.join(", "));
            self.board.fail(KIND, &dns.name, &why, wall());
            warn!(name = dns.name, "{why}");
        }
        let pause = if all_right { dns.check_interval } else { VERIFY_EACH.min(dns.check_interval) };
        written.check_at = now + pause;
        let due = written.check_at.min(written.refresh_at);
        self.show_parts(dns, wanted, parts, "this member leads and takes writes");
        due
    }

    /// `None`: not known yet.
    async fn wanted(
        &self,
        dns: &Dns,
        settings: &Settings,
        situation: &Situation,
        term: Term,
    ) -> Option<Wanted> {
        let site = situation.zone.as_ref().and_then(|zone| dns.sites.get(zone));
        let own = match site {
            Some(site) if !site.addresses.is_empty() => site.addresses.iter().copied().collect(),
            _ => self.own_addresses(dns, settings).await,
        };
        if own.is_empty() {
            return None;
        }
        let mut sets = vec![(dns.name.clone(), own.clone())];
        let of_sites =
            dns.sites.iter().filter_map(|(zone, site)| Some((site.reader_name.as_ref()?, Some(zone))));
        let readers: Vec<_> = dns.reader_name.iter().map(|name| (name, None)).chain(of_sites).collect();
        if !readers.is_empty() {
            let replicas = replicas(situation).await;
            for (name, zone) in readers {
                let near = replicas.iter().filter(|(at, _)| zone.is_none() || at.as_ref() == zone);
                let near: BTreeSet<IpAddr> = near.map(|(_, address)| *address).collect();
                let all = replicas.iter().map(|(_, address)| *address);
                // A name that leads nowhere is remembered as such by resolvers: better far away than that.
                let set = [near, all.collect(), own.clone()].into_iter().find(|set| !set.is_empty());
                sets.push((name.clone(), set.unwrap_or_default()));
            }
        }
        Some(Wanted { sets, fence: Fence { member: situation.me.clone(), term } })
    }

    /// What the name leads to when this member leads: what is configured, or its virtual addresses, or else its own.
    async fn own_addresses(&self, dns: &Dns, settings: &Settings) -> BTreeSet<IpAddr> {
        if !dns.addresses.is_empty() {
            return dns.addresses.iter().copied().collect();
        }
        let leaders = settings.vip.entries.iter().filter(|(_, entry)| entry.kind == VipKind::Leader);
        let names: Vec<&String> = leaders.map(|(name, _)| name).collect();
        if names.is_empty() {
            return address_of(&settings.own_host, 0).await.iter().map(std::net::SocketAddr::ip).collect();
        }
        let entries = self.board.entries();
        let of_leader = entries.iter().filter(|entry| entry.kind == "vip" && names.contains(&&entry.name));
        // One without a place belongs to another site.
        let here = of_leader.flat_map(|entry| &entry.parts).filter(|part| !part.place.is_empty());
        here.filter_map(|part| part.what.parse().ok()).collect()
    }

    fn show(&self, dns: &Dns, wanted: Option<&Wanted>, because: &str) {
        let entry = Entry {
            kind: KIND.into(),
            name: dns.name.clone(),
            wanted: wanted.is_some(),
            because: because.into(),
            parts: wanted.map(records).unwrap_or_default(),
            ..Entry::default()
        };
        self.board.put(entry, wall());
        self.board.keep(KIND, &[&dns.name]);
    }

    fn show_parts(&self, dns: &Dns, wanted: &Wanted, answers: Vec<Part>, because: &str) {
        let held = self.written.is_some();
        let entry = Entry {
            kind: KIND.into(),
            name: dns.name.clone(),
            wanted: true,
            held,
            because: because.into(),
            parts: records(wanted).into_iter().chain(answers).collect(),
            ..Entry::default()
        };
        self.board.put(entry, wall());
    }
}

fn records(wanted: &Wanted) -> Vec<Part> {
    let pairs = wanted.sets.iter().flat_map(|(name, set)| set.iter().map(move |address| (name, address)));
    pairs
        .map(|(name, address)| Part {
            what: format!("{name} {address}"),
            state: "wanted".into(),
            ..Part::default()
        })
        .collect()
}

/// Where the replicas that take readers are, and their addresses.
async fn replicas(situation: &Situation) -> Vec<(Option<String>, IpAddr)> {
    let readers = situation.members.iter().filter(|peer| {
        peer.is_replica && peer.is_running && !peer.wants_no_reads && peer.name != situation.me
    });
    let mut found = Vec::new();
    for peer in readers {
        if let Some(host) = peer.conn_url.as_deref().and_then(host_of)
            && let Some(address) = address_of(&host, 0).await
        {
            found.push((peer.zone.clone(), address.ip()));
        }
    }
    found
}

/// The host in `postgres://host:port/database`.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, behind)| behind);
    match host_port.strip_prefix('[') {
        Some(rest) => rest.split(']').next().map(str::to_owned),
        None => Some(host_port.rsplit_once(':').map_or(host_port, |(host, _)| host).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_the_address_of_a_member() {
        for (url, host) in [
            ("postgres://10.0.0.1:5432/postgres", "10.0.0.1"),
            ("postgres://[2001:db8::1]:5432/postgres", "2001:db8::1"),
            ("postgres://u@db-1.example:5432/x", "db-1.example"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host));
        }
        assert_eq!(host_of("nonsense"), None);
    }
}
