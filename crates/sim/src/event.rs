//! Everything that can happen at an instant, and to whom.

use std::{rc::Rc, sync::Arc};

use bellwether_ha::view::Kept;
use bellwether_types::{LeaseId, Timestamp, cluster::Cluster};

use crate::{
    agent::{
        peers::{PeerAnswerBody, PeerQuestion},
        takeover::Making,
    },
    faults::Fault,
    store::{Answer, Operation},
    wal::Pos,
};

/// A host; also the number of the member that lives on it.
pub type HostId = usize;

#[derive(Debug)]
pub enum Event {
    // --- the world ---
    FaultBegins(Box<Fault>),
    FaultEnds(Box<Fault>),
    Operator,
    Inspect,
    /// By now somebody else should lead than the leader that was lost by that fault, if nothing has happened since.
    TakenOver {
        from: HostId,
        disturbance: u64,
    },

    // --- the store ---
    StoreRequest {
        from: HostId,
        agent: u32,
        id: u64,
        operation: Box<Operation>,
    },
    LeaseExpiry {
        lease: LeaseId,
    },
    /// Its voters have agreed on a leader, unless anything has changed for them since.
    StoreElected {
        change: u64,
    },

    // --- one agent ---
    AgentStarts {
        host: HostId,
        boot: u32,
    },
    Agent {
        host: HostId,
        agent: u32,
        what: AgentEvent,
    },

    // --- between agents ---
    Question {
        from: HostId,
        agent: u32,
        to: HostId,
        round: u64,
        question: Rc<PeerQuestion>,
    },

    // --- the guardian, which outlives agents but no host ---
    GuardianDeadline {
        host: HostId,
        boot: u32,
        sequence: u32,
    },
    GuardianKills {
        host: HostId,
        boot: u32,
    },

    // --- PostgreSQL ---
    Postgres {
        host: HostId,
        generation: u32,
        what: PostgresEvent,
    },
    /// Backends without a postmaster.
    OrphanCommits {
        host: HostId,
        boot: u32,
    },
    OrphansEnd {
        host: HostId,
        boot: u32,
    },

    // --- replication connections ---
    Deliver {
        connection: u32,
        upto: Pos,
    },
    Acknowledge {
        connection: u32,
        upto: Pos,
    },
    /// One side learns that the other is gone.
    SenderClosed {
        connection: u32,
    },
    ReceiverClosed {
        connection: u32,
    },
    /// Nothing was heard for the whole timeout, if the way is still cut.
    ConnectionTimeout {
        connection: u32,
    },
}

#[derive(Debug)]
pub enum AgentEvent {
    /// Decide, unless a later tick was planned meanwhile.
    Tick {
        sequence: u32,
    },
    KeepAlive,
    Answered {
        id: u64,
        answer: Answer,
    },
    TimedOut {
        id: u64,
    },
    Watched {
        cluster: Arc<Cluster>,
    },
    PeerAnswered {
        from: HostId,
        round: u64,
        body: PeerAnswerBody,
    },
    PeersTimedOut {
        round: u64,
        failsafe: bool,
    },
    /// The action in hand has had its effect.
    ActionDone {
        id: u64,
    },
    /// The checkpointer is looked at, which was told to read the files: that of which server, and when.
    CheckpointerSeen {
        id: u64,
        read: (u32, Timestamp),
        looks: usize,
    },
    /// PostgreSQL was told to receive nothing from anybody: has it stopped?
    Detached {
        id: u64,
        making: Making,
        tries: u32,
    },
    /// The promise is on disk.
    Promised {
        id: u64,
        kept: Box<Kept>,
    },
    /// The job goes on.
    Job {
        id: u64,
    },
    /// The postmaster vanished.
    PostmasterExited,
    GuardianDied,
}

#[derive(Debug)]
pub enum PostgresEvent {
    Started,
    Flushed,
    ClientWrites,
    Promoted,
    /// Fast stop: clients are out.
    ClientsOut,
    ShutdownCheckpoint,
    /// Fast stop: are the walsenders done?
    Drained {
        patience: u32,
    },
    Exits {
        fast: bool,
    },
    Checkpointed,
    ReceiverTries,
    StatusDue {
        connection: u32,
    },
    /// A SIGHUP arrives at the checkpointer.
    Reloaded,
    /// The checkpointer tells all backends what it has read.
    ReloadTold,
    /// It arrives at one walsender.
    SenderReloaded {
        connection: u32,
    },
    /// The postmaster looks for its files.
    MissesFiles,
    /// Recovery after a restore is over.
    Restored,
    /// It arrives at the startup process: a new upstream.
    UpstreamReloaded,
}
