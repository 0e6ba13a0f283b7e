//! The guards of the protocol. Each is left out once, to see that the checker finds what it protects from.

/// Something that the protocol insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A promise comes after the end of the WAL receiver.
    DetachFirst,
    /// The position is found out after the end of the WAL receiver.
    PositionLast,
    /// A promise is on disk before it is told.
    DurablePromise,
    /// A promise is forgotten only when the store shows that its epoch is over.
    SeenToBeOver,
    /// More than `quorum` members must have promised.
    QuorumAndOne,
    /// Only promises that the candidate covers count.
    Covered,
    /// The take-over compares `sync`.
    ComparesSync,
    /// The take-over compares `takeover`.
    ComparesTakeover,
    /// Who was replaced does not take the lock again as it runs.
    ReplacedStops,
    /// Who was given the lock follows nobody by a view of the store from before that.
    ReadsAfterLock,
}

impl Guard {
    pub const ALL: [Guard; 10] = [
        Guard::DetachFirst,
        Guard::PositionLast,
        Guard::DurablePromise,
        Guard::SeenToBeOver,
        Guard::QuorumAndOne,
        Guard::Covered,
        Guard::ComparesSync,
        Guard::ComparesTakeover,
        Guard::ReplacedStops,
        Guard::ReadsAfterLock,
    ];
}
