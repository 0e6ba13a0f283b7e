//! Why a decision was taken: one variant per rule, with a stable code for machines and a sentence for people.

use bellwether_types::MemberName;
use serde::{Deserialize, Serialize};

/// A rule that fired. Sentences that Patroni's users grep for are literally the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    LeaderWithTheLock { me: MemberName },
    SecondaryFollowing { me: MemberName, leader: MemberName },
    LostLeaderLock { held_by: MemberName },
    StoreUnreachable,
}

impl Reason {
    /// Stable and snake_case: for the API, metrics and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LeaderWithTheLock { .. } => "leader_with_the_lock",
            Self::SecondaryFollowing { .. } => "secondary_following",
            Self::LostLeaderLock { .. } => "lost_leader_lock",
            Self::StoreUnreachable => "store_unreachable",
        }
    }

    /// For people.
    pub fn sentence(&self) -> String {
        match self {
            Self::LeaderWithTheLock { me } => format!("no action. I am ({me}), the leader with the lock"),
            Self::SecondaryFollowing { me, leader } => {
                format!("no action. I am ({me}), a secondary, and following a leader ({leader})")
            }
            Self::LostLeaderLock { .. } => {
                "demoting self because I do not have the lock and I was a leader".to_owned()
            }
            Self::StoreUnreachable => "DCS is not accessible".to_owned(),
        }
    }
}
