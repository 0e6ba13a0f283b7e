//! What a log entry can say, and how it is written down.
//!
//! JSON with base64 for bytes: a few hundred bytes each, readable in a dump, and tolerant of fields that a later
//! version adds.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bellwether_dcs::{Check, Condition, Write};
use bellwether_types::{LeaseId, Revision};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::consensus::LeaderTag;

/// Bytes as base64 text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Blob).map_err(D::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckRecord {
    pub(crate) key: String,
    pub(crate) condition: ConditionRecord,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConditionRecord {
    Absent,
    AtRevision(u64),
    HasValue(Blob),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WriteRecord {
    Put { key: String, value: Blob, lease: Option<u64> },
    Delete { key: String },
}

impl From<&Check> for CheckRecord {
    fn from(check: &Check) -> Self {
        let condition = match &check.condition {
            Condition::Absent => ConditionRecord::Absent,
            Condition::AtRevision(Revision(revision)) => ConditionRecord::AtRevision(*revision),
            Condition::HasValue(value) => ConditionRecord::HasValue(Blob(value.clone())),
        };
        Self { key: check.key.0.clone(), condition }
    }
}

impl From<&Write> for WriteRecord {
    fn from(write: &Write) -> Self {
        match write {
            Write::Put { key, value, lease } => Self::Put {
                key: key.0.clone(),
                value: Blob(value.clone()),
                lease: lease.map(|LeaseId(lease)| lease),
            },
            Write::Delete { key } => Self::Delete { key: key.0.clone() },
        }
    }
}

/// One change of the store, decided by its leader and applied by every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// All checks hold and all writes happen, or nothing does.
    Commit {
        checks: Vec<CheckRecord>,
        writes: Vec<WriteRecord>,
    },
    Grant {
        ttl_ms: u64,
    },
    Revoke {
        lease: u64,
    },
    /// Proposed by the store leader `by` when it saw no renewal of the lease for its ttl. Void under another leader:
    /// that one started every lease anew. `granted` names the grant, so that it can never hit a later lease.
    Expire {
        lease: u64,
        granted: u64,
        by: LeaderTag,
    },
    /// Written by a forced recovery: no revision and no lease of before may come again with another meaning.
    SkipAhead {
        by: u64,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { checks, writes } => {
                write!(f, "commit of {} writes on {} checks", writes.len(), checks.len())
            }
            Self::Grant { ttl_ms } => write!(f, "grant for {ttl_ms} ms"),
            Self::Revoke { lease } => write!(f, "revoke {lease}"),
            Self::Expire { lease, by, .. } => write!(f, "expire {lease} by {by}"),
            Self::SkipAhead { by } => write!(f, "skip {by} revisions"),
        }
    }
}

/// What applying a command gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Applied {
        revision: u64,
    },
    Refused {
        found: Option<u64>,
    },
    Granted {
        lease: u64,
    },
    /// The lease is gone now, whether or not it was there before.
    Gone,
    /// An expiry that no longer holds.
    Void,
    /// An entry without a command.
    Nothing,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
