//! What wakes the loop.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_ha::{
    action::Answer,
    view::{FailsafeRound, PeerAnswer, RequestKind},
};
use bellwether_postgres::{config::PendingRestart, postmaster::PostmasterId};
use bellwether_types::{MemberName, Timestamp};
use tokio::sync::oneshot;

use crate::{
    agent::{ReloadError, Reloaded},
    job::JobNews,
    slot_keeper::LeaderAnswer,
};

/// One thing that happened. Store and lease changes come through their own watches.
#[derive(Debug)]
pub(crate) enum Event {
    Job {
        id: u64,
        news: JobNews,
    },
    /// The process ended, whoever stopped it.
    PostmasterExited(PostmasterId),
    PeersPolled {
        began_at: Timestamp,
        answers: BTreeMap<MemberName, PeerAnswer>,
    },
    FailsafeAsked(FailsafeRound),
    /// An operator's request; answered once, by the decision that deals with it or by the job it starts.
    Request {
        kind: RequestKind,
        reply: oneshot::Sender<Answer>,
    },
    /// Read the configuration file again.
    Reload,
    /// It has been read, or cannot be.
    Reloaded(Box<Result<Reloaded, ReloadError>>),
    /// These parameters wait for a restart.
    PendingRestart(Vec<PendingRestart>),
    /// Logical slots were made or moved; what these need is gone.
    SlotsMoved {
        unusable: BTreeSet<String>,
    },
    LeaderSlots(LeaderAnswer),
    /// Somebody wants to know where PostgreSQL is now.
    Look,
    /// Something outside changed that a decision may depend on.
    Nudge,
}
