//! What a member does for clients, as an operator has set it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Whether a member takes readers (`routing` in the dynamic configuration), in HAProxy's words. The leader keeps its writers whatever
/// is said of it: a failover must never end at a member that nobody is led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    #[default]
    Ready,
    /// Nobody new is led there; who is there may stay.
    Drain,
    /// Nobody new, and whoever is between transactions is sent away.
    Maint,
}

impl Duty {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Duty {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Ready, Self::Drain, Self::Maint]
            .into_iter()
            .find(|duty| duty.as_str().eq_ignore_ascii_case(word.trim()))
            .ok_or(())
    }
}
