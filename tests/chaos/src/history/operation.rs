//! One operation of one client.

use serde::{Deserialize, Serialize};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Append this number to the list, and tell what the list is then. It commits, and so waits for the standbys.
    Append(i64),
    /// Tell what the list is. Nothing commits: a deposed primary may answer from what it has.
    Read,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done: the list as the server told it, and the timeline on which it did it.
    Done { list: Vec<i64>, timeline: u32 },
    /// Refused for certain.
    Refused(String),
    /// Nobody knows: the connection broke, or no answer came.
    Unknown(String),
}

/// An operation from its beginning to its end, in microseconds since the history began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub client: usize,
    /// The host whose server was asked.
    pub host: String,
    /// Which list.
    pub key: i64,
    pub kind: Kind,
    pub began: u64,
    /// Of an unknown one: when it was given up.
    pub ended: u64,
    pub outcome: Outcome,
}

impl Operation {
    /// The list that it was told, if it was.
    pub fn list(&self) -> Option<&[i64]> {
        match &self.outcome {
            Outcome::Done { list, .. } => Some(list),
            _ => None,
        }
    }
}
