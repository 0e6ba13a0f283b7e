//! What the other members said when they were asked, and what was said between them and a leader without a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{Lsn, MemberName, Role, SystemId, TimelineId, Timestamp, takeover::Word};
use serde::{Deserialize, Serialize};

/// What peers answered when they were last asked directly.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Peers {
    /// When the last complete round *began*; `None` before the first.
    pub polled_at: Option<Timestamp>,
    pub answers: BTreeMap<MemberName, PeerAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerAnswer {
    /// No answer. `refused`: the host is there and nobody listens (evidence); otherwise silence (none).
    Unreachable {
        refused: bool,
    },
    Answered(PeerReport),
}

/// What a member said about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    pub role: Role,
    /// It said that its PostgreSQL runs and is no standby, or that it was none when it fell silent.
    pub is_running_primary: bool,
    /// The larger of received and replayed, or the primary's location; `None` if its PostgreSQL is down or does not answer.
    pub position: Option<Lsn>,
    pub as_of: AsOf,
    pub timeline: Option<TimelineId>,
    pub nofailover: bool,
    pub failover_priority: i64,
    pub watchdog_failed: bool,
    /// No PostgreSQL runs there, and it holds no lock: nothing there starts as a primary before the store gives it one. Members of Patroni do not
    /// say it.
    #[serde(default)]
    pub at_rest: bool,
    /// It was given the leader lock, whatever it is doing with it. Members of Patroni do not say it.
    #[serde(default)]
    pub holds_lock: bool,
    /// `None`: it has no data, or does not say.
    #[serde(default)]
    pub system_id: Option<SystemId>,
    /// What it says about a lost primary; nothing, as members of Patroni.
    #[serde(default)]
    pub takeover: Word,
    /// It is in trouble itself, see [`bellwether_types::Alarm::makes_unfit`].
    #[serde(default)]
    pub unfit: bool,
}

/// When a member looked up the position that it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AsOf {
    /// After it had been asked.
    Asked,
    /// So long before it answered, and before it was asked: it may have more by now.
    Earlier { ago: Duration },
    /// It replays WAL of its own that it had before it was restarted: it has more than it can tell.
    AtLeast,
    /// It does not say, as members of Patroni; taken for the present one.
    Unsaid,
}

/// The failsafe protocol, both directions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FailsafeView {
    /// A leader without a store told us that it lives; durable before it was answered.
    pub accepted: Option<FailsafeAcceptance>,
    /// Our own last complete round as leader.
    pub round: Option<FailsafeRound>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailsafeAcceptance {
    pub leader: MemberName,
    pub conn_url: String,
    pub api_url: String,
    /// We promised not to race until then.
    pub until: Timestamp,
    pub slots: BTreeMap<String, Lsn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailsafeRound {
    /// Before the first request left: what the acceptances are counted from.
    pub began_at: Timestamp,
    pub asked: BTreeSet<MemberName>,
    pub accepted: BTreeSet<MemberName>,
    /// For how long, from `began_at`, every acceptance may be relied on: see [`crate::lease::failsafe_belief`].
    pub good_for: Duration,
    /// Still under way.
    pub running: bool,
    /// Where those that accepted were then: while the store is silent nothing else tells it.
    #[serde(default)]
    pub positions: BTreeMap<MemberName, Lsn>,
}
