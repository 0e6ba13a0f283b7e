//! The messages of quorum take-over, by which a lost primary is replaced without waiting for its lease.
//!
//! What they mean, and why they suffice, is in `docs/src/internals/quorum-takeover.md`.

use serde::{Deserialize, Serialize};

use crate::{MemberName, Revision, TimelineId, WalPosition};

/// `takeover`: the present or last attempt to replace a leader that voters do not hear any more.
///
/// An attempt (an *epoch*) is told apart by the revision at which the key was written when it was opened, not by its number: no two
/// writes have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// For people: one more than that of the attempt before.
    pub epoch: u64,
    pub state: EpochState,
    /// Who opened it. Says nothing about who may win.
    pub opened_by: MemberName,
    /// Who is to be replaced.
    pub leader: MemberName,
    /// The revision of `leader` when the epoch was opened. The take-over compares it.
    pub leader_revision: Revision,
    /// The revision of `sync` when the epoch was opened. The take-over compares it.
    pub sync_revision: Revision,
    /// The last take-over that took place, whatever was opened since.
    pub taken: Option<Taken>,
}

/// Whether promises for an epoch may still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochState {
    Open,
    /// Given up: whoever promised is free again.
    Closed,
    /// The leader was replaced.
    Taken,
}

/// A take-over that took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub by: MemberName,
    pub from: MemberName,
    /// The timeline that the new leader took the number of in the same transaction: who runs as primary of an earlier one was
    /// replaced, whether `history` tells it already or not.
    pub timeline: TimelineId,
}

/// What a voter promises: to receive nothing from anybody until it knows that the epoch is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The revision of `takeover` that it is made for.
    pub revision: Revision,
    /// For people.
    pub epoch: u64,
    /// From whom nothing is received any more.
    pub leader: MemberName,
    /// All WAL that this member has on disk, found out *after* its WAL receiver was gone: at least what it ever acknowledged.
    pub position: WalPosition,
}

/// What a member tells the others about a lost primary, beside its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Whom its WAL receiver is to listen to, and how long ago it last got anything from there. `None`: to nobody.
    pub heard: Option<Heard>,
    /// The promise that it is bound by.
    pub promise: Option<Promise>,
}

/// The last sign of life from an upstream, as it is told to others: their clocks are not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub from: MemberName,
    pub ago_ms: u64,
}

impl Takeover {
    pub fn is_open(&self) -> bool {
        self.state == EpochState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;

    #[test]
    fn a_word_is_told_in_a_stable_form() {
        let name = |text: &str| MemberName::new(text).unwrap();
        let word = Word {
            heard: Some(Heard { from: name("a"), ago_ms: 1200 }),
            promise: Some(Promise {
                revision: Revision(7),
                epoch: 1,
                leader: name("a"),
                position: WalPosition { timeline: TimelineId(2), lsn: Lsn(0x3000) },
            }),
        };
        let text = serde_json::to_string(&word).unwrap();
        let expected = concat!(
            r#"{"heard":{"from":"a","ago_ms":1200},"promise":{"revision":7,"epoch":1,"leader":"a","#,
            r#""position":{"timeline":2,"lsn":12288}}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Word>(&text).unwrap(), word);
    }
}
