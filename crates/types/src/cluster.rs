//! The state of a cluster as the store holds it, decoded.
//!
//! The text forms (Patroni's JSON) are the business of the `dcs` crate; here are only the meanings.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    LeaseId, Lsn, MemberName, PostgresState, ReplicationState, Revision, Role, SystemId, Tags, Term,
    TimelineId, WallTime, takeover::Takeover,
};

/// Everything below the cluster's prefix, read at one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub revision: Revision,
    pub initialize: Option<Keyed<Initialize>>,
    /// The lease that an `initialize` in progress vanishes with; `None` if it stays, as Patroni's do.
    #[serde(default)]
    pub initialize_lease: Option<LeaseId>,
    /// Which bootstrap wrote an `initialize`; see [`Cluster::founded_by`].
    #[serde(default)]
    pub founder: Option<Keyed<String>>,
    /// The dynamic configuration as written; `None` if the key is absent.
    pub config: Option<Keyed<ConfigDocument>>,
    pub leader: Option<Leader>,
    pub members: BTreeMap<MemberName, Member>,
    /// A request for a switchover or failover; an empty request (`{}`) reads as `value: None`.
    pub failover: Option<Keyed<Option<FailoverRequest>>>,
    pub sync: Option<Keyed<SyncState>>,
    pub status: Option<Keyed<Status>>,
    pub history: Option<Keyed<History>>,
    pub failsafe: Option<Keyed<FailsafeMap>>,
    /// Which number the last promotion was to give to its timeline; `value: None` if what is written cannot be read.
    #[serde(default)]
    pub timeline_claim: Option<Keyed<Option<TimelineClaim>>>,
    /// The present or last attempt to replace a leader before its lease ends; `value: None` if what is written cannot be read.
    #[serde(default)]
    pub takeover: Option<Keyed<Option<Takeover>>>,
}

/// A value with the revision at which its key was last written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed<T> {
    pub value: T,
    pub revision: Revision,
}

/// `initialize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Initialize {
    /// Somebody is bootstrapping right now.
    InProgress,
    Done(SystemId),
    /// Neither empty nor a system identifier.
    Invalid(String),
}

/// `config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConfigDocument {
    Valid(Value),
    /// Not a JSON object: the last valid configuration stays in force.
    Invalid,
}

/// `leader`: who holds the leader lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub name: MemberName,
    /// The revision at which the key was created: the leadership number.
    pub term: Term,
    pub revision: Revision,
    /// The lease that the key hangs on, where the store tells.
    pub lease: Option<LeaseId>,
}

/// `members/{name}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub name: MemberName,
    pub revision: Revision,
    pub conn_url: Option<String>,
    pub api_url: Option<String>,
    pub proxy_url: Option<String>,
    /// `None` if absent or a word we do not know.
    pub state: Option<PostgresState>,
    pub role: Option<Role>,
    /// Patroni's version or, for us, the one we claim compatibility with.
    pub version: Option<String>,
    /// Our own protocol level; absent on Patroni members.
    pub bellwether: Option<PeerProtocol>,
    pub tags: Tags,
    pub timeline: Option<TimelineId>,
    pub xlog_location: Option<Lsn>,
    pub receive_lsn: Option<Lsn>,
    pub replay_lsn: Option<Lsn>,
    pub replication_state: Option<ReplicationState>,
    pub pending_restart: bool,
    pub pending_restart_reason: Option<Value>,
    /// `Some(false)` while the leader's first checkpoint after its promotion is not done.
    pub checkpoint_after_promote: Option<bool>,
    pub scheduled_restart: Option<Value>,
    /// This member has seen the pause.
    pub pause: bool,
    /// Every field, known or not, as it was read.
    pub raw: Value,
}

impl Member {
    /// A member of which nothing is known but the name (its key is gone or unreadable).
    pub fn unknown(name: MemberName) -> Self {
        Self {
            name,
            revision: Revision::default(),
            conn_url: None,
            api_url: None,
            proxy_url: None,
            state: None,
            role: None,
            version: None,
            bellwether: None,
            tags: Tags::default(),
            timeline: None,
            xlog_location: None,
            receive_lsn: None,
            replay_lsn: None,
            replication_state: None,
            pending_restart: false,
            pending_restart_reason: None,
            checkpoint_after_promote: None,
            scheduled_restart: None,
            pause: false,
            raw: Value::Null,
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == Some(PostgresState::Running)
    }
}

/// What a Bellwether member says about itself beyond Patroni's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProtocol {
    /// Our version, for people.
    pub version: String,
    /// Level of the messages between agents; members differ by at most one.
    pub level: u32,
}

/// `failover`: what an operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// Present: a switchover away from this leader. Absent: a manual failover to `candidate`.
    pub leader: Option<MemberName>,
    pub candidate: Option<MemberName>,
    pub scheduled_at: Option<Schedule>,
}

/// A point in time as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    At { text: String, time: WallTime },
    Unparsable { text: String },
}

/// `sync`: whom a promotion must consult. Absent key or no leader: synchronous mode is not active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncState {
    pub leader: Option<MemberName>,
    pub quorum: u32,
    /// `sync_standby`.
    pub voters: BTreeSet<MemberName>,
}

impl SyncState {
    pub fn is_active(&self) -> bool {
        self.leader.is_some()
    }

    pub fn has_voter(&self, name: &MemberName) -> bool {
        self.voters.iter().any(|voter| voter.same_standby(name))
    }

    pub fn is_leader(&self, name: &MemberName) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader.same_standby(name))
    }

    /// A voter or the leader that wrote the state.
    pub fn includes(&self, name: &MemberName) -> bool {
        self.has_voter(name) || self.is_leader(name)
    }
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The last position that the leader reported.
    pub optime: Lsn,
    /// Position per replication slot on the leader; `None` if not published.
    pub slots: Option<BTreeMap<String, Lsn>>,
    pub retain_slots: Option<BTreeSet<String>>,
}

/// `history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History(pub Vec<HistoryEntry>);

impl History {
    /// The cluster's present timeline: one after the last finished one, 1 for an empty array.
    pub fn timeline(&self) -> TimelineId {
        TimelineId(self.0.last().map_or(1, |entry| entry.timeline.0 + 1))
    }
}

/// One finished timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The timeline that ended.
    pub timeline: TimelineId,
    pub end: Lsn,
    pub reason: String,
    /// When the next one began, ISO 8601; absent on old entries.
    pub promoted_at: Option<String>,
    pub new_leader: Option<MemberName>,
}

/// `timeline`: the number that a member took for its timeline together with the leader lock, before it was promoted. Whether the
/// promotion happened is not said: the number is used up either way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineClaim {
    pub timeline: TimelineId,
    pub leader: MemberName,
}

/// `failsafe`: every member with its `api_url`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailsafeMap(pub BTreeMap<MemberName, String>);

impl Cluster {
    pub fn leader_name(&self) -> Option<&MemberName> {
        self.leader.as_ref().map(|leader| &leader.name)
    }

    pub fn is_unlocked(&self) -> bool {
        self.leader.is_none()
    }

    pub fn member(&self, name: &MemberName) -> Option<&Member> {
        self.members.get(name)
    }

    /// The leader's member key, if both exist.
    pub fn leader_member(&self) -> Option<&Member> {
        self.members.get(self.leader_name()?)
    }

    /// A pending request, with the revision to compare when clearing it.
    pub fn failover_request(&self) -> Option<(&FailoverRequest, Revision)> {
        let keyed = self.failover.as_ref()?;
        keyed.value.as_ref().map(|request| (request, keyed.revision))
    }

    /// `/sync`, if synchronous mode is active.
    pub fn active_sync(&self) -> Option<&SyncState> {
        self.sync.as_ref().map(|keyed| &keyed.value).filter(|sync| sync.is_active())
    }

    pub fn sync_revision(&self) -> Option<Revision> {
        self.sync.as_ref().map(|keyed| keyed.revision)
    }

    pub fn system_id(&self) -> Option<SystemId> {
        match self.initialize.as_ref()?.value {
            Initialize::Done(id) => Some(id),
            _ => None,
        }
    }

    /// The bootstrap that filled in the present `initialize`: it named itself in the same transaction. `None` if nobody did so, as when
    /// `initialize` was written by a Patroni or by hand; what an earlier founder left behind does not count.
    pub fn founded_by(&self) -> Option<&str> {
        self.system_id()?;
        let at = self.initialize.as_ref()?.revision;
        self.founder.as_ref().filter(|founder| founder.revision == at).map(|founder| founder.value.as_str())
    }

    /// `None` if unknown (the key is absent).
    pub fn timeline(&self) -> Option<TimelineId> {
        self.history.as_ref().map(|keyed| keyed.value.timeline())
    }

    /// An epoch of quorum take-over whose transaction may still be applied, with the revision that tells it from all others: it is open,
    /// and neither `leader` nor `sync` was written since it was opened.
    pub fn live_epoch(&self) -> Option<(&Takeover, Revision)> {
        let keyed = self.takeover.as_ref()?;
        let takeover = keyed.value.as_ref().filter(|takeover| takeover.is_open())?;
        let is_led = self.leader.as_ref().is_some_and(|leader| {
            leader.revision == takeover.leader_revision && leader.name == takeover.leader
        });
        let is_live = is_led && self.sync_revision() == Some(takeover.sync_revision);
        is_live.then_some((takeover, keyed.revision))
    }

    pub fn optime(&self) -> Lsn {
        self.status.as_ref().map_or(Lsn::ZERO, |keyed| keyed.value.optime)
    }
}
