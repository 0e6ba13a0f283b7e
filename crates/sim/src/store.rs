//! Model store with the semantics of the real ones: transactions over several keys, leases with guaranteed time, and three ends
//! of a write. Typed instead of bytes: the codec has tests of its own.

mod kind;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bellwether_types::{
    LeaseId, MemberName, Revision, Term,
    cluster::{
        Cluster, ConfigDocument, FailoverRequest, FailsafeMap, History, Initialize, Keyed, Leader, Member,
        Status, SyncState, TimelineClaim,
    },
    takeover::Takeover,
};

use crate::{random::Random, schedule::Nanos};
pub use kind::StoreKind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Initialize,
    Config,
    Leader,
    Member(MemberName),
    Failover,
    Sync,
    Status,
    History,
    Failsafe,
    Timeline,
    Takeover,
    Founder,
}

#[derive(Clone, Debug)]
pub enum Condition {
    Absent,
    At(Revision),
    /// The key hangs on this lease.
    HeldBy(LeaseId),
}

#[derive(Clone, Debug)]
pub enum Write {
    Initialize(Initialize),
    /// Which bootstrap writes `initialize` in the same transaction.
    Founder(String),
    /// An empty `initialize` that vanishes with the lease.
    Claim(LeaseId),
    Config(ConfigDocument),
    Leader(MemberName, LeaseId),
    Member(Box<Member>, LeaseId),
    Failover(Option<FailoverRequest>),
    Sync(SyncState),
    Status(Status),
    History(History),
    Failsafe(FailsafeMap),
    Timeline(TimelineClaim),
    Takeover(Takeover),
    Delete(Key),
}

#[derive(Clone, Debug)]
pub enum Operation {
    Snapshot,
    Grant { ttl: Nanos },
    KeepAlive { lease: LeaseId, holding: bool },
    Commit { checks: Vec<(Key, Condition)>, writes: Vec<Write> },
    Revoke { lease: LeaseId },
}

/// What the store says, with everything it holds at that moment.
#[derive(Clone, Debug)]
pub struct Answer {
    pub verdict: Verdict,
    pub cluster: Arc<Cluster>,
    /// What the asker gets to see of it, and how old that is.
    pub seen: Arc<Cluster>,
    pub behind: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Read,
    Granted(LeaseId),
    Valid { guaranteed: Nanos },
    Gone,
    NotHolding,
    Applied(Revision),
    Refused,
    Revoked,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Nanos,
    expires_at: Nanos,
}

#[derive(Debug)]
pub struct Store {
    cluster: Arc<Cluster>,
    revision: u64,
    leases: BTreeMap<LeaseId, Lease>,
    members: BTreeMap<MemberName, LeaseId>,
    next_lease: u64,
    kind: StoreKind,
    random: Random,
    /// What it held lately, the oldest first.
    past: VecDeque<(Nanos, Arc<Cluster>)>,
    /// How many faults keep it from having a quorum: requests are lost.
    pub silenced: u32,
}

impl Store {
    pub fn new(kind: StoreKind, seed: u64) -> Self {
        Self {
            cluster: Arc::default(),
            revision: 0,
            leases: BTreeMap::new(),
            members: BTreeMap::new(),
            next_lease: 0,
            kind,
            random: Random::new(seed ^ 0x5704),
            past: VecDeque::new(),
            silenced: 0,
        }
    }

    /// How long a lease that is renewed now will last.
    fn lasts(&mut self, ttl: Nanos) -> Nanos {
        self.kind.lasts(ttl, &mut self.random)
    }

    /// Its content has just changed.
    pub(crate) fn remember(&mut self, now: Nanos) {
        self.past.push_back((now, self.cluster.clone()));
        while self.past.len() > 1 && self.past[1].0 + self.kind.worst_lag() < now {
            self.past.pop_front();
        }
    }

    /// What it held then, or the oldest that is known.
    pub(crate) fn as_of(&self, at: Nanos) -> Arc<Cluster> {
        let past = self.past.iter().rev().find(|(since, _)| *since <= at).or(self.past.front());
        past.map_or_else(|| self.cluster.clone(), |(_, cluster)| cluster.clone())
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The present leader and its lease, as only the store itself knows for sure.
    pub fn leader(&self) -> Option<&Leader> {
        self.cluster.leader.as_ref()
    }

    /// Carries out one request at `now`. The second value is a lease that now ends at a new time.
    pub fn carry_out(&mut self, now: Nanos, operation: Operation) -> (Answer, Option<(LeaseId, Nanos)>) {
        let mut ends = None;
        let verdict = match operation {
            Operation::Snapshot => Verdict::Read,
            Operation::Grant { ttl } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                let expires_at = now + self.lasts(ttl);
                self.leases.insert(lease, Lease { ttl, expires_at });
                ends = Some((lease, expires_at));
                Verdict::Granted(lease)
            }
            Operation::KeepAlive { lease, holding } => match self.leases.get(&lease).copied() {
                None => Verdict::Gone,
                Some(entry) => {
                    let expires_at = now + self.lasts(entry.ttl);
                    self.leases.insert(lease, Lease { expires_at, ..entry });
                    let guaranteed = self.kind.guaranteed(entry.ttl);
                    let holds =
                        self.cluster.leader.as_ref().is_some_and(|leader| leader.lease == Some(lease));
                    if holding && !holds { Verdict::NotHolding } else { Verdict::Valid { guaranteed } }
                }
            },
            Operation::Commit { checks, writes } => self.commit(&checks, writes),
            Operation::Revoke { lease } => {
                self.end_lease(lease);
                Verdict::Revoked
            }
        };
        let (cluster, seen) = (self.cluster.clone(), self.cluster.clone());
        (Answer { verdict, cluster, seen, behind: 0 }, ends)
    }

    /// The lease's time is up, unless it was renewed: then the answer is when to look again.
    pub fn expire(&mut self, now: Nanos, lease: LeaseId) -> Option<Nanos> {
        let entry = self.leases.get(&lease)?;
        if entry.expires_at > now {
            return Some(entry.expires_at);
        }
        self.end_lease(lease);
        None
    }

    /// A new store leader does not know when leases were renewed last: each starts anew with its full time.
    pub fn elected(&mut self, now: Nanos) {
        for lease in self.leases.values_mut() {
            lease.expires_at = now + lease.ttl;
        }
    }

    fn end_lease(&mut self, lease: LeaseId) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let gone: Vec<_> =
            self.members.iter().filter(|(_, owner)| **owner == lease).map(|(name, _)| name.clone()).collect();
        let leads = self.cluster.leader.as_ref().is_some_and(|leader| leader.lease == Some(lease));
        let claims = self.cluster.initialize_lease == Some(lease);
        if !leads && !claims && gone.is_empty() {
            return;
        }
        self.revision += 1;
        let cluster = Arc::make_mut(&mut self.cluster);
        cluster.revision = Revision(self.revision);
        if leads {
            cluster.leader = None;
        }
        if claims {
            (cluster.initialize, cluster.initialize_lease) = (None, None);
        }
        for name in gone {
            cluster.members.remove(&name);
            self.members.remove(&name);
        }
    }

    fn commit(&mut self, checks: &[(Key, Condition)], writes: Vec<Write>) -> Verdict {
        let leased = |write: &Write| match write {
            Write::Leader(_, lease) | Write::Member(_, lease) | Write::Claim(lease) => Some(*lease),
            _ => None,
        };
        let leases_live = writes.iter().filter_map(leased).all(|lease| self.leases.contains_key(&lease));
        if !leases_live || !checks.iter().all(|(key, condition)| self.holds(key, condition)) {
            return Verdict::Refused;
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        Arc::make_mut(&mut self.cluster).revision = revision;
        for write in writes {
            self.apply(write, revision);
        }
        Verdict::Applied(revision)
    }

    fn holds(&self, key: &Key, condition: &Condition) -> bool {
        match condition {
            Condition::Absent => self.revision_of(key).is_none(),
            Condition::At(revision) => self.revision_of(key) == Some(*revision),
            Condition::HeldBy(lease) => match key {
                Key::Leader => {
                    self.cluster.leader.as_ref().is_some_and(|leader| leader.lease == Some(*lease))
                }
                Key::Member(name) => self.members.get(name) == Some(lease),
                _ => false,
            },
        }
    }

    fn revision_of(&self, key: &Key) -> Option<Revision> {
        let cluster = &self.cluster;
        match key {
            Key::Initialize => cluster.initialize.as_ref().map(|keyed| keyed.revision),
            Key::Config => cluster.config.as_ref().map(|keyed| keyed.revision),
            Key::Leader => cluster.leader.as_ref().map(|leader| leader.revision),
            Key::Member(name) => cluster.members.get(name).map(|member| member.revision),
            Key::Failover => cluster.failover.as_ref().map(|keyed| keyed.revision),
            Key::Sync => cluster.sync.as_ref().map(|keyed| keyed.revision),
            Key::Status => cluster.status.as_ref().map(|keyed| keyed.revision),
            Key::History => cluster.history.as_ref().map(|keyed| keyed.revision),
            Key::Failsafe => cluster.failsafe.as_ref().map(|keyed| keyed.revision),
            Key::Timeline => cluster.timeline_claim.as_ref().map(|keyed| keyed.revision),
            Key::Takeover => cluster.takeover.as_ref().map(|keyed| keyed.revision),
            Key::Founder => cluster.founder.as_ref().map(|keyed| keyed.revision),
        }
    }

    fn apply(&mut self, write: Write, revision: Revision) {
        let cluster = Arc::make_mut(&mut self.cluster);
        match write {
            Write::Initialize(value) => {
                (cluster.initialize, cluster.initialize_lease) = (Some(Keyed { value, revision }), None);
            }
            Write::Claim(lease) => {
                cluster.initialize = Some(Keyed { value: Initialize::InProgress, revision });
                cluster.initialize_lease = Some(lease);
            }
            Write::Founder(value) => cluster.founder = Some(Keyed { value, revision }),
            Write::Config(value) => cluster.config = Some(Keyed { value, revision }),
            Write::Leader(name, lease) => {
                let term = cluster.leader.as_ref().map_or(Term(revision.0), |leader| leader.term);
                cluster.leader = Some(Leader { name, term, revision, lease: Some(lease) });
            }
            Write::Member(mut member, lease) => {
                member.revision = revision;
                self.members.insert(member.name.clone(), lease);
                cluster.members.insert(member.name.clone(), *member);
            }
            Write::Failover(value) => cluster.failover = Some(Keyed { value, revision }),
            Write::Sync(value) => cluster.sync = Some(Keyed { value, revision }),
            Write::Status(value) => cluster.status = Some(Keyed { value, revision }),
            Write::History(value) => cluster.history = Some(Keyed { value, revision }),
            Write::Failsafe(value) => cluster.failsafe = Some(Keyed { value, revision }),
            Write::Timeline(claim) => cluster.timeline_claim = Some(Keyed { value: Some(claim), revision }),
            Write::Takeover(value) => cluster.takeover = Some(Keyed { value: Some(value), revision }),
            Write::Delete(key) => match key {
                Key::Initialize => (cluster.initialize, cluster.initialize_lease) = (None, None),
                Key::Config => cluster.config = None,
                Key::Leader => cluster.leader = None,
                Key::Member(name) => {
                    cluster.members.remove(&name);
                    self.members.remove(&name);
                }
                Key::Failover => cluster.failover = None,
                Key::Sync => cluster.sync = None,
                Key::Status => cluster.status = None,
                Key::History => cluster.history = None,
                Key::Failsafe => cluster.failsafe = None,
                Key::Timeline => cluster.timeline_claim = None,
                Key::Takeover => cluster.takeover = None,
                Key::Founder => cluster.founder = None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
