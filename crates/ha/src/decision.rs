//! What a tick decided.

use bellwether_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Action, Memory, Reason};

/// The actions of one tick, in order, and why. The executor stops at the first that does not succeed; outcomes are part of
/// the next view, and there is no other way back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decision {
    pub actions: Vec<Action>,
    /// The deciding reason first; never empty, above all not when nothing is done.
    pub reasons: Vec<Reason>,
    pub memory: Memory,
    /// Decide again then at the latest, even if nothing happens.
    pub wake_at: Timestamp,
}
