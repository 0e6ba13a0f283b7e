//! Everything a decision may do to the world: one variant, one executor function, one metric label.
//!
//! No meaningful choice is left to the executor. If it needs an `if` about policy, the action lacks a field.
//! Every action is idempotent: running one twice, or after a crash half-way, is harmless.

mod locks;
mod people;
mod slots;
mod stops;

use std::collections::{BTreeMap, BTreeSet};

use bellwether_types::{
    Lsn, MemberName, PostgresState, Revision, Role, Term, Timestamp,
    cluster::{FailoverRequest, FailsafeMap, History, Status, SyncState},
    slots::LogicalSlot,
    takeover::Takeover,
};
use serde::{Deserialize, Serialize};

pub use self::{
    locks::{LostKeys, NextTimeline, TakeOver, TakenTimelines},
    people::{Answer, CallbackEvent, Exit, MemberUpdate},
    slots::{DropWhy, LogicalAdvance},
    stops::{CopyBy, DemoteMode, Earlier, StartRole, StopMode},
};
use crate::view::{JobKind, Upstream};

/// What an action was decided on. Checked again at the last moment before the effect; an expired one refuses the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The create revision of the leader key.
    pub term: Term,
    pub valid_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    // --- the store ---
    /// Create `initialize` with an empty value, if it is absent; it vanishes with our lease, unless an identity is filled in before.
    ClaimInitialize,
    /// Write this member's system identifier into `initialize`, and in the same transaction who founds the cluster
    /// ([`PostgresView::founding`](crate::view::PostgresView::founding)). `expect`: `None` = it must be absent.
    WriteInitialize {
        expect: Option<Revision>,
    },
    /// Remove `initialize` after a failed bootstrap of ours, if it still has this revision.
    RemoveInitialize {
        expect: Revision,
    },
    /// Write `/config` from the local dynamic configuration. `expect`: `None` = it must be absent.
    WriteConfig {
        expect: Option<Revision>,
    },
    /// Create `leader` with our name and lease, if it is absent and `sync` still has the revision decided on.
    AcquireLease {
        sync: Option<Revision>,
        /// Taken in the same transaction, if a promotion is to follow.
        timeline: Option<NextTimeline>,
    },
    /// In one transaction: create `leader` as [`Action::AcquireLease`] does, write this member's system identifier into `initialize`, and
    /// every key that is given. Each must be absent, or have the revision decided on.
    RestoreKeys(Box<LostKeys>),
    /// The leader key bears our name and hangs on the lease of a former process of ours: hang it on our lease, if it still has
    /// this revision.
    ResumeLease {
        revision: Revision,
    },
    /// Write `takeover`, if it still has this revision (`None` = is absent) and `leader` and `sync` have those that the epoch names.
    OpenEpoch {
        expect: Option<Revision>,
        takeover: Takeover,
    },
    /// Write `takeover`, if it still has the revision at which the epoch was opened. Nobody is bound by its promises afterwards.
    CloseEpoch {
        opened_at: Revision,
        takeover: Takeover,
    },
    /// In one transaction: write `leader` (our name, our lease), `sync` (the same content), `timeline` and `takeover`, if `leader`, `sync`
    /// and `takeover` have the revisions decided on. As after [`Action::AcquireLease`], a renewal proves that the lock is ours.
    TakeOver(Box<TakeOver>),
    /// Delete `leader` if it is still ours, writing the final position first.
    ReleaseLease {
        optime: Option<Lsn>,
    },
    /// Write our member key if it changed.
    PublishMember {
        member: MemberUpdate,
    },
    WriteStatus {
        status: Status,
    },
    /// Compare-and-set; `expect: None` = the key must be absent.
    WriteSync {
        expect: Option<Revision>,
        state: SyncState,
    },
    DeleteSync {
        expect: Revision,
    },
    /// Compare-and-set; `None` clears the request (writes `{}`).
    WriteFailover {
        expect: Revision,
        request: Option<FailoverRequest>,
    },
    /// The number for a promotion under a lock that was taken without one, or whose number may be used up.
    TakeTimeline {
        next: NextTimeline,
    },
    WriteHistory {
        history: History,
    },
    WriteFailsafe {
        map: FailsafeMap,
    },

    // --- peers ---
    /// Ask these members for their status, all in parallel; the answers are in a later view. Who has not answered after
    /// `timeout` counts as unreachable, and the round is complete.
    PollPeers {
        members: BTreeMap<MemberName, String>,
        timeout: std::time::Duration,
    },
    /// Tell these members that the leader lives although the store is silent, and for how long it wants to rely on their acceptance.
    /// Nobody to tell: accepted at once.
    AskFailsafe {
        members: BTreeMap<MemberName, String>,
        rely_on: std::time::Duration,
    },
    /// Forget what we accepted or were promised.
    ClearFailsafe,

    // --- quorum take-over ---
    /// Receive nothing from anybody any more, then promise it. In this order, and an error at one step ends it without a promise:
    ///
    /// 1. the files have no `primary_conninfo`, fsynced; the server has read them;
    /// 2. no WAL receiver process is left;
    /// 3. the position and its timeline: everything on disk, found out after 2;
    /// 4. the promise is in its file, fsynced, as is the directory;
    /// 5. the promise is in the view, and told to peers ([`bellwether_types::takeover::Word`]).
    ///
    /// With a promise for the same revision in place it does nothing. From 4 on nothing writes `primary_conninfo` into the files, nor
    /// begins to copy or rewind, until [`Action::ForgetPromise`].
    DetachAndPromise {
        revision: Revision,
        epoch: u64,
        leader: MemberName,
    },
    /// The epoch opened at this revision is over: remove the file of the promise, fsync the directory.
    ForgetPromise {
        revision: Revision,
    },

    // --- PostgreSQL ---
    /// Make a new database. Until [`Action::FinishBootstrap`] a durable mark says that it is in the making, and names this bootstrap.
    Bootstrap,
    /// Found a standby cluster: copy the remote member and start as a standby of it.
    BootstrapStandby {
        from: Upstream,
    },
    PostBootstrap,
    /// The new cluster is complete: remove that mark.
    FinishBootstrap,
    /// Make the data directory anew from a running member. `None`: by a method that needs no source.
    Clone {
        from: Option<Upstream>,
    },
    Start {
        role: StartRole,
    },
    Promote {
        fence: Fence,
        /// Numbers that PostgreSQL must not give to the new timeline although it knows nothing of them.
        taken: Option<TakenTimelines>,
    },
    /// Stop whatever runs and stop PostgreSQL; replaces any job. What follows is decided when it has ended.
    Demote {
        mode: DemoteMode,
        /// A planned stop that takes longer becomes an immediate one, and a kill after twice the time. The other modes escalate by
        /// themselves.
        stop_limit: Option<std::time::Duration>,
    },
    /// Stop PostgreSQL for other reasons than a loss of leadership.
    Stop {
        mode: StopMode,
    },
    /// Point a running standby at another upstream (or at none), by reload where the server can, else by restart.
    Follow {
        upstream: Option<Upstream>,
    },
    /// Stop and start in the same role. A server that may write carries the right to do so, checked again before the start;
    /// `None`: a standby, or an operator's wish in pause.
    ///
    /// A fast stop that takes longer than `stop_limit` becomes an immediate one, and after twice that time the server is killed: its
    /// clients are gone already, and the lock is held meanwhile.
    Restart {
        timeout: Option<std::time::Duration>,
        stop_limit: std::time::Duration,
        fence: Option<Fence>,
    },
    Reload,
    /// Compare histories with the leader; the result is in a later view's `divergence`.
    CheckDivergence {
        leader: Upstream,
    },
    Rewind {
        source: Upstream,
    },
    /// Single-user crash recovery, so that the control file shows a clean shutdown.
    CrashRecovery,
    /// Stop, empty the data directory, clone.
    Reinitialize {
        from: Upstream,
        by: CopyBy,
    },
    WipeDataDirectory {
        why: String,
    },
    /// Rename the data directory of a failed or abandoned bootstrap, or of a rewind that cannot be finished.
    SetDataDirectoryAside {
        earlier: Earlier,
    },
    SetSyncNames {
        names: String,
    },
    /// Write a little WAL so that standbys have something to pass the gate with; never waits for a standby.
    GenerateWal,
    /// Try a commit beside the loop, unless one is under way. How it goes is in the next views.
    ProbeCommit,
    /// Make the checkpointer read the configuration files, and find out whether it has. What is found is in the next view.
    ProveNamesInForce,
    Checkpoint,
    CreateSlots {
        names: BTreeSet<String>,
    },
    /// Those of them that are still inactive.
    DropSlots {
        slots: BTreeMap<String, DropWhy>,
    },
    /// Physical slots.
    AdvanceSlots {
        to: BTreeMap<String, Lsn>,
    },
    /// Beside the loop: making a logical slot waits for the transactions that run. Replaces what was asked for before.
    CreateLogicalSlots {
        slots: BTreeMap<String, LogicalSlot>,
    },
    /// Beside the loop, on a standby: WAL is decoded up to there. Replaces what was asked for before.
    AdvanceLogicalSlots {
        to: BTreeMap<String, LogicalAdvance>,
    },
    /// Ask the primary about these slots, and for the state files of some; the answer is in a later view.
    AskLeaderSlots {
        leader: Upstream,
        names: BTreeSet<String>,
        states_of: BTreeSet<String>,
    },
    /// Stop a standby, put the state files of these logical slots, as the primary gave them last, into place, and start it again.
    CopySlots {
        names: BTreeSet<String>,
        stop_limit: std::time::Duration,
    },
    /// `hot_standby_feedback` is on whatever the user wants, or is the user's again.
    ForceFeedback {
        on: bool,
    },
    ResumeReplay,
    CancelJob {
        kind: JobKind,
    },
    SetRole {
        role: Role,
    },
    SetState {
        state: PostgresState,
    },

    // --- fencing ---
    /// Give the guardian the lease's deadline and read its acknowledgement.
    ArmGuardian {
        until: Timestamp,
    },
    DisarmGuardian,
    RespawnGuardian,
    ActivateWatchdog,
    DisableWatchdog,

    // --- people ---
    RunCallback {
        event: CallbackEvent,
        role: Role,
    },
    Answer {
        request: u64,
        answer: Answer,
    },
    /// End the process.
    Exit {
        exit: Exit,
    },
}
