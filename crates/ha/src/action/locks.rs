//! What a change of leader rests on, and the numbers of timelines.

use bellwether_types::{
    Revision, TimelineId,
    cluster::{FailsafeMap, History, Status, SyncState, TimelineClaim},
    takeover::Takeover,
};
use serde::{Deserialize, Serialize};

/// What a take-over rests on, and what it writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The revision of `takeover`, by which everybody promised.
    pub opened_at: Revision,
    /// As it is to be written: state `Taken`.
    pub takeover: Takeover,
    /// The revision of `leader`.
    pub leader: Revision,
    /// The revision of `sync`; its content stays.
    pub sync: Revision,
    pub timeline: NextTimeline,
}

/// What a store that was wiped should hold: see [`Action::RestoreKeys`](crate::Action::RestoreKeys). `None`: it is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostKeys {
    /// The revision of a claim in `initialize` that is to be replaced. `None` = it must be absent.
    pub initialize: Option<Revision>,
    /// Write `config` from the local dynamic configuration.
    pub config: bool,
    /// The revision of `sync`. `None` = it must be absent.
    pub sync_revision: Option<Revision>,
    pub sync: Option<SyncState>,
    pub status: Option<Status>,
    pub history: Option<History>,
    pub failsafe: Option<FailsafeMap>,
    pub takeover: Option<Takeover>,
    /// The number that was taken last, if no promotion follows.
    pub claimed: Option<TimelineClaim>,
    /// Taken in the same transaction, if a promotion is to follow.
    pub timeline: Option<NextTimeline>,
}

/// The number that the holder of the lock will give to its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTimeline {
    pub timeline: TimelineId,
    /// The revision of `timeline` that this was decided on. `None` = it must be absent.
    pub expect: Option<Revision>,
}

/// Timelines that others have begun, or may have: all after `after`, which is the local one, up to and with `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenTimelines {
    pub after: TimelineId,
    pub through: TimelineId,
}
