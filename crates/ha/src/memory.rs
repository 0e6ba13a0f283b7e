//! What must survive from one tick to the next, and nothing more: a missed wake-up must cost one tick, not correctness.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_types::{
    Lsn, MemberName, Revision, Term, TimelineId, Timestamp, WallTime,
    cluster::{Cluster, SyncState},
};
use serde::{Deserialize, Serialize};

use crate::{
    action::NextTimeline,
    gray::GrayMemory,
    view::{JobKind, RestartConditions},
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The last view in which somebody held the leader lock: whom to ask when it is gone.
    pub last_healthy: Option<Arc<Cluster>>,
    /// The other members that the store showed within the last `ttl`, where to ask them, and when it did so last. Kept as it is while the
    /// store has lost everything.
    #[serde(default)]
    pub lately_seen: BTreeMap<MemberName, (String, Timestamp)>,
    /// The cluster was first seen without a leader at this instant.
    pub unlocked_since: Option<Timestamp>,
    /// This member won the right to found the cluster and has not finished.
    pub bootstrapping: Option<BootstrapStage>,
    /// The revision of `initialize` as this process has claimed it.
    pub claim: Option<Revision>,
    /// PostgreSQL was started (or rewound) to recover from a stop, and the end has not been seen yet.
    pub recovering: bool,
    /// PostgreSQL on this member was a primary when it stopped without being told to.
    pub crashed_as_primary_at: Option<Timestamp>,
    pub rewind: RewindState,
    /// A rewind failed at this member, and not because nobody answered.
    pub rewind_failed_at: Option<Timestamp>,
    /// This member holds the lock since then, with a server that is no primary yet.
    pub promoting_since: Option<Timestamp>,
    /// `pre_promote` failed: this member stays out of races for a while.
    pub pre_promote_failed_at: Option<Timestamp>,
    /// A demotion in progress: why, and what follows.
    pub demoting: Option<Demoting>,
    /// The lock was given up on purpose: somebody else shall have a chance first.
    pub released_at: Option<Timestamp>,
    pub was_paused: bool,
    pub race_backoff_since: Option<Timestamp>,
    pub previous_position: Option<Lsn>,
    /// Peers' answers older than this do not count for the decision at hand.
    pub need_peers_since: Option<Timestamp>,
    /// Peers are asked again since then because one told an old position.
    pub old_positions_since: Option<Timestamp>,
    pub sync: SyncMemory,
    /// What this leader wrote to `/failsafe` since it has seen the last one.
    #[serde(default)]
    pub failsafe_written: Option<FailsafeWritten>,
    #[serde(default)]
    pub takeover: TakeoverMemory,
    pub checkpoint_after_promote: Checkpoint,
    /// Slots of absent members and when each was last wanted.
    pub retained_slots: BTreeMap<String, Timestamp>,
    /// The slots that were to be made when that was decided last.
    #[serde(default)]
    pub slots_asked: BTreeSet<String>,
    /// What this standby knows about its copies of logical slots.
    #[serde(default)]
    pub slot_copies: SlotCopies,
    /// This member asked to be released from its duty as synchronous standby since then.
    pub sync_release_since: Option<Timestamp>,
    /// Some callback has fired since the agent started.
    pub callback_fired: bool,
    pub scheduled_restart: Option<RestartConditions>,
    /// The role last told to `on_role_change`.
    pub announced_role: Option<bellwether_types::Role>,
    /// The leader that this member last followed and its timeline then.
    pub followed: Option<(MemberName, Option<TimelineId>)>,
    /// When each kind of paced action was last decided: an action whose effect does not show is not repeated in a hurry.
    pub attempts: BTreeMap<Attempt, Timestamp>,
    /// PostgreSQL may write and no armed guardian watches it since then.
    pub guardian_dead_since: Option<Timestamp>,
    /// Single-user crash recovery was tried in this episode of recovery; once is enough.
    pub crash_recovery_tried: bool,
    /// When each kind of job was last decided on: an older result is not this one's.
    pub jobs: BTreeMap<JobKind, Timestamp>,
    /// PostgreSQL was stopped on the way to something else and shall run again, even in pause.
    pub start_wanted: bool,
    /// The start time limit of the restart under way, if it differs from `primary_start_timeout`.
    pub start_timeout: Option<Duration>,
    /// The lock was asked for and it is not known yet who got it.
    pub racing: bool,
    /// The number taken together with the lock, until this member runs as primary.
    pub claimed: Option<Claimed>,
    /// The lock of this term is good for promotions; see [`crate::mandate`].
    #[serde(default)]
    pub mandate: Option<Term>,
    /// The number that this member tries to take under a lock that it holds.
    pub claiming: Option<TimelineId>,
    /// This member was given the lock, or has tried to take it over from a leader: the store's revision from then on, and when that was. Views from
    /// before it show the leader that it may have replaced.
    #[serde(default)]
    pub given: Option<(Revision, Timestamp)>,
    /// The revision of the request that this member raced with; it is cleared by the winner.
    pub raced_with_request: Option<Revision>,
    /// When `previous_position` was taken.
    pub position_seen_at: Timestamp,
    pub restart_at: Option<ScheduledRestart>,
    /// What is wrong with a server that runs.
    #[serde(default)]
    pub gray: GrayMemory,
    /// This agent does not belong to the running server (identity checks failed): it must not stop it when it ends.
    pub refused_to_attach: bool,
}

/// The number that a promotion of this member will give to its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub timeline: TimelineId,
    /// PostgreSQL may have been told to promote: it may have begun that timeline.
    pub used: bool,
}

impl Claimed {
    pub(crate) fn unused(next: NextTimeline) -> Self {
        Self { timeline: next.timeline, used: false }
    }
}

/// A restart at a given time: one per member, kept by its agent and published in the member key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledRestart {
    pub at: WallTime,
    /// The time as the operator wrote it.
    pub text: String,
    pub conditions: RestartConditions,
    pub timeout: Option<Duration>,
    /// The postmaster that was to be restarted; another one makes the schedule void.
    pub postmaster_started_at: Option<String>,
}

/// Actions that take effect at once, if they do, and must not be repeated for ever if they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attempt {
    AcquireLease,
    ResumeLease,
    ReleaseLease,
    ClaimInitialize,
    WriteInitialize,
    WriteConfig,
    WriteStatus,
    TakeTimeline,
    WriteHistory,
    WriteFailsafe,
    WriteFailover,
    WriteSync,
    ArmGuardian,
    DisarmGuardian,
    RespawnGuardian,
    Watchdog,
    Follow,
    CreateSlots,
    DropSlots,
    AdvanceSlots,
    CreateLogicalSlots,
    AdvanceLogicalSlots,
    AskLeaderSlots,
    ForceFeedback,
    SyncNames,
    GenerateWal,
    ProbeCommit,
    ProveNamesInForce,
    ResumeReplay,
    SetRole,
    SetState,
    PublishMember,
    AskSuspect,
    AskVoters,
    OpenEpoch,
    CloseEpoch,
    Promise,
    ForgetPromise,
    AskFailsafe,
    ClearFailsafe,
    SetAside,
    FinishBootstrap,
    CancelJob,
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapStage {
    Creating,
    /// The server runs as primary; roles and hooks are next.
    PostBootstrap,
    /// Everything is done but the entries in the store.
    Publishing,
    /// Stop, set the data directory aside, give `initialize` back, end.
    Failed,
    /// Somebody else has founded the cluster: stop, and begin anew as everybody else.
    Overtaken,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum RewindState {
    #[default]
    Initial,
    /// The post-promotion checkpoint is done: others may rewind from us.
    Checkpoint,
    /// Histories must be compared before following anybody.
    Check {
        since: Timestamp,
    },
    Need,
    NotNeed,
    Success,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demoting {
    pub mode: crate::action::DemoteMode,
    pub since: Timestamp,
}

/// What the running primary knows about its synchronous standbys; see [`crate::sync`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncMemory {
    /// The leadership that all this belongs to; another one starts afresh.
    pub term: Option<Term>,
    /// `synchronous_standby_names` as last seen on the running primary.
    pub names_seen: Option<String>,
    /// The answer of the server that was taken in last.
    pub seen_at: Timestamp,
    /// Where the WAL ended when `names_seen` was seen first: a walsender that sent more has read it.
    pub changed_at: Lsn,
    /// Walsender connections that may still act by an earlier text.
    pub stale: BTreeSet<String>,
    /// Texts by which some walsender may still act, the shown one included.
    pub unspent: Vec<String>,
    /// There may be others among them: this process has not seen what was before it.
    pub blind: bool,
    /// Since when the server has shown nothing but texts by which commits wait, and nothing else was asked for.
    pub defined_since: Option<Timestamp>,
    /// Since when it is not known that the checkpointer has read them.
    pub unproven_since: Option<Timestamp>,
    /// Standbys must pass this position before they count.
    pub gate: Option<Lsn>,
    /// Since when something is waited for.
    pub waiting_since: Timestamp,
    /// Connections that passed the gate.
    pub ready: BTreeSet<String>,
    /// The text that was asked for last and has not been seen yet.
    pub asked_names: Option<String>,
    /// Writes of `/sync` of which it is not known whether they land.
    pub pending: Option<PendingSync>,
    /// A warning about strict mode was given in this episode.
    pub strict_warned: bool,
    /// The mode is off, and the names were given back.
    pub released: bool,
}

impl SyncMemory {
    /// What is known of the server, whoever leads.
    pub(crate) fn of_server(&self) -> Self {
        Self {
            asked_names: self.asked_names.clone(),
            defined_since: self.defined_since,
            unproven_since: self.unproven_since,
            ..Self::default()
        }
    }
}

/// Writes of `/failsafe` that may have taken effect, or may yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailsafeWritten {
    /// The revision of the last one that was seen when they were tried.
    pub after: Revision,
    /// Everybody named in one of them.
    pub names: BTreeMap<MemberName, String>,
    /// One of them was empty.
    pub barred_nobody: bool,
}

/// What a voter knows about a leader that it may have to suspect; see [`crate::takeover`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TakeoverMemory {
    /// The leadership that this belongs to: the revision of its key.
    pub leader: Option<Revision>,
    /// When the last round of questions began that the leader's agent answered, or did not.
    pub answered_at: Option<Timestamp>,
    pub unanswered_at: Option<Timestamp>,
    /// Who answered in that round.
    pub living: BTreeSet<MemberName>,
    /// The last attempt that was given up, and when this member saw it.
    pub closed: Option<(Revision, Timestamp)>,
    /// When something came last, and the longest silence that was seen since.
    #[serde(default)]
    pub quiet: Option<(Timestamp, Duration)>,
    /// The longest silence of late after which the same leader was heard again, and when that was.
    #[serde(default)]
    pub survived: Option<(Duration, Timestamp)>,
}

/// The copies of logical slots on a standby; see [`crate::slots`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotCopies {
    /// Whose slots they are copies of; another leader starts afresh.
    pub leader: Option<MemberName>,
    /// The last answer of that leader that was taken in.
    pub seen_at: Timestamp,
    /// The `catalog_xmin` of the original when the primary was first seen to keep what this standby asks for.
    pub recorded: BTreeMap<String, u32>,
    /// Safe to be used after a promotion.
    pub ready: BTreeSet<String>,
    /// When each was copied last.
    pub copied_at: BTreeMap<String, Timestamp>,
    /// The `catalog_xmin` of the original then.
    #[serde(default)]
    pub copied_xmin: BTreeMap<String, u32>,
    /// A copy is wanted since then, and waits for its turn.
    #[serde(default)]
    pub wanted_since: Option<Timestamp>,
    /// No other standby was seen to restart since then.
    #[serde(default)]
    pub all_up_since: Option<Timestamp>,
    /// A copy waits until this standby is released from its duty as synchronous standby.
    pub waiting: bool,
}

/// Writes that were tried on one revision of `/sync`: at most one of them lands, and none once the revision has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PendingSync {
    pub on: Option<Revision>,
    pub states: Vec<SyncState>,
    /// An earlier process of this member, or another one, may have tried others.
    pub others: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checkpoint {
    /// Not a primary, or nothing to do.
    #[default]
    None,
    Wanted,
    Running,
    Done,
}
