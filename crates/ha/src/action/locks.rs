//! What a change of leader rests on, and the numbers of timelines.

use bellwether_types::{Revision, TimelineId, takeover::Takeover};
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
