//! The task that keeps `pg_dist_node` while this member leads the coordinator's group. What is to be done says
//! [`bellwether_ha::citus`]; here it is done, over one session, and told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_dcs::{Deadline, Key, Snapshot, codec, mirror::Mirror};
use bellwether_ha::citus::{
    Address, Change, End, Group, GroupLeader, Next, NodeRole, Register, Row, Ticket, Work,
};
use bellwether_postgres::{
    citus::{CitusError, CitusNode, CitusSession},
    settings::PgSettings,
};
use bellwether_types::{
    Role, Timestamp,
    citus::{CitusEvent, CitusEventKind},
    cluster::{Cluster, Member},
    status::NodeStatus,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Surroundings, leads};
use crate::{clock, journal::Journal, work};

/// How long a report waits for a fresh look into the store.
const LOOK: Duration = Duration::from_secs(2);
/// How long reading the table may take, the connection included.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The longest sleep.
const NAP: Duration = Duration::from_secs(10);

/// A report of a worker's leader.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(super) event: CitusEvent,
    /// Used, or dropped, when nobody needs to wait any longer.
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    database: String,
    /// Of all groups.
    mirror: Mirror,
    status: watch::Receiver<Arc<NodeStatus>>,
    settings: watch::Receiver<Arc<PgSettings>>,
    heard: mpsc::Receiver<Heard>,
    journal: Journal,
    register: Register,
    session: Option<CitusSession>,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
    last_ticket: u64,
    /// The last failure that was told.
    told: Option<String>,
}

impl Coordinator {
    pub(super) fn new(
        database: String,
        around: Surroundings,
        settings: watch::Receiver<Arc<PgSettings>>,
        heard: mpsc::Receiver<Heard>,
    ) -> Self {
        Self {
            database,
            mirror: Mirror::new(around.groups, NAP),
            status: around.status,
            settings,
            heard,
            journal: around.journal,
            register: Register::default(),
            session: None,
            waiting: BTreeMap::new(),
            last_ticket: 0,
            told: None,
        }
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mirror = self.mirror.clone();
        let following = mirror.run(stop.clone());
        let keeping = stop.run_until_cancelled(self.keep());
        tokio::join!(following, keeping);
    }

    async fn keep(&mut self) {
        let mut changes = self.mirror.subscribe();
        loop {
            let now = clock::now();
            let status = self.status.borrow_and_update().clone();
            let wake_at = if leads(&status, now) { self.step(&status, now).await } else { self.rest() };
            let Some(wake_at) = wake_at else { continue };
            tokio::select! {
                Some(heard) = self.heard.recv() => self.hear(heard).await,
                // Both ends live as long as the agent.
                _ = changes.changed() => {}
                _ = self.status.changed() => {}
                () = tokio::time::sleep(clock::now().until(wake_at).min(NAP)) => {}
            }
        }
    }

    /// Somebody else leads: the next leadership begins with a look at the table.
    fn rest(&mut self) -> Option<Timestamp> {
        self.register = Register::default();
        self.session = None;
        self.waiting.clear();
        self.told = None;
        Some(Timestamp::MAX)
    }

    /// Does the next thing; `None`: there may be more.
    async fn step(&mut self, status: &NodeStatus, now: Timestamp) -> Option<Timestamp> {
        self.look(status, now);
        let next = self.register.next(now);
        self.answer();
        match next {
            Next::Wait(until) => return Some(until),
            Next::Read => self.read().await,
            Next::Run(work) => self.run_work(work).await,
        }
        self.answer();
        None
    }

    /// Takes in what the store says, unless that is too old to act on.
    fn look(&mut self, status: &NodeStatus, now: Timestamp) {
        let seen = self.mirror.state();
        let is_fresh = seen.cluster.is_some() && now.since(seen.confirmed_at) < status.settings.ttl;
        let groups = if is_fresh { groups(&seen.snapshot) } else { BTreeMap::new() };
        self.register.see(groups);
    }

    async fn hear(&mut self, Heard { event, done }: Heard) {
        let status = self.status.borrow().clone();
        if !leads(&status, clock::now()) {
            return;
        }
        // Who sends it has just got the lock, or is about to give it up.
        let _ = self.mirror.refresh(Deadline::after(LOOK)).await;
        self.look(&status, clock::now());
        let ticket = (event.kind == CitusEventKind::BeforeDemote).then(|| self.ticket(done));
        if !self.register.hear(&event, ticket) {
            info!(event = event.kind.as_str(), group = event.group, leader = %event.leader, "discarding a report: its sender does not lead the group");
            ticket.and_then(|ticket| self.waiting.remove(&ticket));
        }
    }

    fn ticket(&mut self, done: oneshot::Sender<()>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, done);
        ticket
    }

    fn answer(&mut self) {
        for ticket in self.register.take_dealt_with() {
            if let Some(done) = self.waiting.remove(&ticket) {
                let _ = done.send(());
            }
        }
    }

    async fn read(&mut self) {
        let reading = async { self.session().await?.nodes().await };
        match tokio::time::timeout(READ_LIMIT, reading).await {
            Ok(Ok(nodes)) => {
                self.told = None;
                self.register.learn(nodes.into_iter().map(row).collect());
            }
            Ok(Err(error)) => self.fail(None, work::chain(&error)).await,
            Err(_) => self.fail(None, format!("no answer within {READ_LIMIT:?}")).await,
        }
    }

    async fn session(&mut self) -> Result<&CitusSession, CitusError> {
        if self.session.is_none() {
            let settings = self.settings.borrow().clone();
            self.session = Some(CitusSession::begin(&settings, &self.database).await?);
        }
        Ok(self.session.as_ref().expect("just made"))
    }

    async fn run_work(&mut self, work: Work) {
        let begin = clock::now();
        let running = async {
            let session = self.session().await?;
            run(session, &work).await
        };
        match tokio::time::timeout(work.limit, running).await {
            Ok(Ok(())) => {
                self.tell(&work, clock::now().since(begin));
                self.told = None;
                self.register.done(work);
            }
            Ok(Err(error)) => self.fail(Some(&work), work::chain(&error)).await,
            Err(_) => self.fail(Some(&work), format!("not done within {:?}", work.limit)).await,
        }
    }

    fn tell(&self, work: &Work, took: Duration) {
        let changes: Vec<String> = work.changes.iter().map(ToString::to_string).collect();
        let (cause, end) = (work.cause.as_str(), end(work.end));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match work.end {
            End::RollBack => warn!(
                group = work.group,
                cause, "rolling back a change of the Citus metadata: its end was never reported"
            ),
            _ => info!(group = work.group, cause, ?changes, end, took_ms, "Citus metadata changed"),
        }
        let record = json!({
            "group": work.group, "cause": cause, "changes": changes, "end": end, "took_ms": took_ms,
        });
        self.journal.record("citus", record);
    }

    /// The session may hold a transaction with locks: it ends with it.
    async fn fail(&mut self, work: Option<&Work>, why: String) {
        if let Some(session) = self.session.take() {
            session.abandon().await;
        }
        self.register.failed(work, clock::now());
        if self.told.as_ref() != Some(&why) {
            let group = work.map(|work| work.group);
            warn!(
                group,
                why,
                database = self.database,
                "the Citus metadata cannot be kept; is the extension `citus` in that database?"
            );
            let record = json!({"group": group, "failure": why});
            self.journal.record("citus", record);
            self.told = Some(why);
        }
    }
}

fn end(end: End) -> &'static str {
    match end {
        End::None | End::Commit => "committed",
        End::Hold => "held open",
        End::RollBack => "rolled back",
    }
}

async fn run(session: &CitusSession, work: &Work) -> Result<(), CitusError> {
    if let Some(patience) = work.begin {
        session.start_transaction(patience).await?;
    }
    for change in &work.changes {
        match change {
            Change::Update { id, host, port } => session.update_node(*id, host, *port, work.cooldown).await?,
            Change::Add { group, address, role } => {
                session.add_node(&address.host, address.port, *group, role.as_str()).await?;
            }
            Change::Remove { address } => session.remove_node(&address.host, address.port).await?,
        }
    }
    match work.end {
        End::None | End::Hold => Ok(()),
        End::Commit => session.commit().await,
        End::RollBack => session.roll_back().await,
    }
}

fn row(node: CitusNode) -> Row {
    let role = if node.is_primary { NodeRole::Primary } else { NodeRole::Secondary };
    Row::new(node.id, node.group, Address { host: node.host, port: node.port }, role)
}

/// Every group below the prefix that they share.
fn groups(snapshot: &Snapshot) -> BTreeMap<u32, Group> {
    let mut of_group: BTreeMap<u32, Snapshot> = BTreeMap::new();
    for (key, entry) in &snapshot.entries {
        let Some((number, key)) = key.as_str().split_once('/') else { continue };
        let Some(group) = group_number(number) else { continue };
        of_group.entry(group).or_default().entries.insert(Key::from(key), entry.clone());
    }
    of_group.into_iter().map(|(number, snapshot)| (number, group(&codec::decode(&snapshot)))).collect()
}

/// `0`, or a number without leading zeros: anything else below the prefix is not a group.
fn group_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn group(cluster: &Cluster) -> Group {
    let address = |member: &Member| {
        let at = work::address_of(member.conn_url.as_deref()?)?;
        Some(Address { host: at.host, port: at.port })
    };
    let leader = cluster.leader_name().and_then(|name| {
        let member = cluster.member(name)?;
        let is_primary = member.is_running() && member.role == Some(Role::Primary);
        Some(GroupLeader { name: name.clone(), address: address(member)?, is_primary })
    });
    let serves = |member: &&Member| {
        Some(&member.name) != cluster.leader_name() && member.is_running() && !member.tags.noloadbalance()
    };
    let secondaries: BTreeSet<Address> =
        cluster.members.values().filter(serves).filter_map(address).collect();
    let secondaries = secondaries
        .into_iter()
        .filter(|at| leader.as_ref().is_none_or(|leader| leader.address != *at))
        .collect();
    Group { leader, secondaries }
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::Entry;
    use bellwether_types::Revision;

    use super::*;

    #[test]
    fn groups_are_read_from_the_keys_below_the_shared_name() {
        let entry = |value: &str| Entry {
            value: value.as_bytes().to_vec(),
            created: Revision(1),
            modified: Revision(1),
            lease: None,
        };
        let member = |host: &str, rest: &str| format!(r#"{{"conn_url":"postgres://{host}:5/p",{rest}}}"#);
        let running = r#""state":"running""#;
        let keys = [
            ("0/leader", "c".to_owned()),
            ("0/members/c", member("c", r#""state":"running","role":"promoted""#)),
            ("1/leader", "a".to_owned()),
            ("1/members/a", member("a", r#""state":"running","role":"primary""#)),
            ("1/members/b", member("b", running)),
            ("1/members/d", member("d", r#""state":"starting""#)),
            ("1/members/e", member("e", r#""state":"running","tags":{"noloadbalance":true}"#)),
            ("01/leader", "a".to_owned()),
            ("leader", "x".to_owned()),
        ];
        let entries = keys.iter().map(|(key, value)| (Key::from(*key), entry(value))).collect();
        let groups = groups(&Snapshot { revision: Revision(1), entries });
        assert_eq!(groups.keys().collect::<Vec<_>>(), [&0, &1]);
        let leader = |group: u32| groups[&group].leader.clone().unwrap();
        assert_eq!((leader(0).name.as_str(), leader(0).is_primary), ("c", false));
        assert_eq!((leader(1).address.to_string().as_str(), leader(1).is_primary), ("a:5", true));
        let secondaries: Vec<String> = groups[&1].secondaries.iter().map(ToString::to_string).collect();
        assert_eq!(secondaries, ["b:5"]);
    }
}
