//! Patroni's key layout and JSON: a [`Snapshot`] in, a [`Cluster`] out, and the text of every value we write.
//!
//! Reading never fails. A value of the wrong kind is empty for its key, with one exception: a broken `config` is told apart
//! ([`ConfigDocument::Invalid`]), because the last valid configuration must stay in force. Writing is compact, in Patroni's
//! field order, and keeps the fields that we do not know wherever several writers share a value.
//!
//! [`keys`] names the keys, [`differs`] answers "did it change?"; a file per value has its two directions.

mod change;
mod history;
mod json;
pub mod keys;
mod member;
mod own;
mod request;
mod status;
mod sync;
mod takeover;
mod timeline;

use bellwether_types::{
    MemberName, SystemId, Term,
    cluster::{Cluster, ConfigDocument, Initialize, Keyed, Leader},
};
use serde_json::Value;

pub use change::{differs, same};
pub use history::{encode_failsafe, encode_history};
pub use member::{COMPATIBLE_VERSION, MemberDocument};
pub use own::{decode_journal, encode_feature_level, encode_journal, feature_level};
pub use request::{NO_REQUEST, encode_failover, parse_schedule, schedule_text};
pub use status::{encode_optime, encode_status};
pub use sync::encode_sync;
pub use takeover::encode_takeover;
pub use timeline::encode_timeline_claim;

use crate::store::{Entry, Key, Snapshot};

/// Reads everything we know below the cluster's prefix. Unknown keys are ignored.
pub fn decode(snapshot: &Snapshot) -> Cluster {
    let entry = |key: &str| snapshot.entries.get(&Key::from(key));
    Cluster {
        revision: snapshot.revision,
        initialize: entry(keys::INITIALIZE).map(|entry| keyed(entry, initialize(&entry.value))),
        initialize_lease: entry(keys::INITIALIZE).and_then(|entry| entry.lease),
        founder: entry(keys::FOUNDER)
            .and_then(|entry| Some(keyed(entry, String::from_utf8(entry.value.clone()).ok()?))),
        config: entry(keys::CONFIG).map(|entry| keyed(entry, config(&entry.value))),
        leader: entry(keys::LEADER).and_then(leader),
        members: snapshot
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((keys::member_of(key)?, entry)))
            .map(|(name, entry)| (name.clone(), member::decode(name, entry.modified, &entry.value)))
            .collect(),
        failover: entry(keys::FAILOVER).map(|entry| keyed(entry, request::decode(&entry.value))),
        sync: entry(keys::SYNC).map(|entry| keyed(entry, sync::decode(&entry.value))),
        status: entry(keys::STATUS)
            .or_else(|| entry(keys::LEGACY_OPTIME))
            .and_then(|entry| Some(keyed(entry, status::decode(&entry.value)?))),
        history: entry(keys::HISTORY)
            .and_then(|entry| Some(keyed(entry, history::decode_history(&entry.value)?))),
        failsafe: entry(keys::FAILSAFE)
            .and_then(|entry| Some(keyed(entry, history::decode_failsafe(&entry.value)?))),
        timeline_claim: entry(keys::TIMELINE).map(|entry| keyed(entry, timeline::decode(&entry.value))),
        takeover: entry(keys::TAKEOVER).map(|entry| keyed(entry, takeover::decode(&entry.value))),
    }
}

fn keyed<T>(entry: &Entry, value: T) -> Keyed<T> {
    Keyed { value, revision: entry.modified }
}

fn leader(entry: &Entry) -> Option<Leader> {
    let name = MemberName::new(std::str::from_utf8(&entry.value).ok()?).ok()?;
    Some(Leader { name, term: Term(entry.created.0), revision: entry.modified, lease: entry.lease })
}

fn initialize(bytes: &[u8]) -> Initialize {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<SystemId>() {
        Ok(id) => Initialize::Done(id),
        Err(_) if text.is_empty() => Initialize::InProgress,
        Err(_) => Initialize::Invalid(text.into_owned()),
    }
}

fn config(bytes: &[u8]) -> ConfigDocument {
    json::parse_object(bytes)
        .map_or(ConfigDocument::Invalid, |fields| ConfigDocument::Valid(Value::Object(fields)))
}

/// The text of `initialize`: empty while bootstrapping.
pub fn encode_initialize(system_id: Option<SystemId>) -> String {
    system_id.map(|id| id.to_string()).unwrap_or_default()
}

/// Compact JSON of the dynamic configuration, which is always written whole.
pub fn encode_config(document: &Value) -> String {
    document.to_string()
}
