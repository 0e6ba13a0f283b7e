//! All keys at one index.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bellwether_dcs::{Deadline, Entry, Key, Snapshot, StoreError};
use bellwether_types::{LeaseId, Revision};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::http::{Agent, Answer};

/// One key as Consul tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    value: Option<String>,
    session: Option<String>,
    create_index: u64,
    modify_index: u64,
}

/// A snapshot, and the sessions behind its leases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) snapshot: Snapshot,
    /// The session that a key is locked by.
    pub(crate) sessions: BTreeMap<Key, String>,
}

/// A session's number among leases: the first half of its random id.
pub(crate) fn lease_id(session: &str) -> LeaseId {
    let digits: String = session.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    LeaseId(u64::from_str_radix(&digits, 16).unwrap_or_default())
}

/// Reads everything from the leader, which makes sure first that it still is one.
pub(crate) async fn read(agent: &Agent, by: Deadline) -> Result<Content, StoreError> {
    let query = [("recurse", "true"), ("consistent", "true")];
    interpret(agent, &agent.get(&path(agent), &query, by.remaining()).await?)
}

/// Waits until the index is another than `index`, or until `wait` is over; tells the index then.
pub(crate) async fn wait(agent: &Agent, index: u64, wait: Duration) -> Result<u64, StoreError> {
    let (index, seconds) = (index.to_string(), format!("{}s", wait.as_secs()));
    let query = [("recurse", "true"), ("index", index.as_str()), ("wait", seconds.as_str())];
    // The agent adds up to a sixteenth, so that not all waits end at once.
    let answer = agent.get(&path(agent), &query, wait * 2).await?;
    answer.index.ok_or_else(|| StoreError::Protocol("a read without an index".to_owned()))
}

fn path(agent: &Agent) -> Vec<&str> {
    ["kv"].into_iter().chain(agent.config().base().split('/')).collect()
}

fn interpret(agent: &Agent, answer: &Answer) -> Result<Content, StoreError> {
    let index = answer.index.ok_or_else(|| StoreError::Protocol("a read without an index".to_owned()))?;
    let pairs: Vec<Pair> = match answer.status {
        StatusCode::NOT_FOUND => Vec::new(),
        StatusCode::OK => answer.json()?,
        status => return Err(StoreError::Protocol(format!("{status}: {}", answer.text()))),
    };
    let mut content = Content::default();
    for pair in pairs {
        // The prefix itself is no key of ours.
        let Some(key) = pair.key.strip_prefix(agent.config().base()).filter(|key| !key.is_empty()) else {
            continue;
        };
        let value = STANDARD.decode(pair.value.as_deref().unwrap_or_default());
        let value = value.map_err(|error| StoreError::Protocol(format!("{}: {error}", pair.key)))?;
        let entry = Entry {
            value,
            created: Revision(pair.create_index),
            modified: Revision(pair.modify_index),
            lease: pair.session.as_deref().map(lease_id),
        };
        if let Some(session) = pair.session {
            content.sessions.insert(Key::from(key), session);
        }
        content.snapshot.entries.insert(Key::from(key), entry);
    }
    content.snapshot.revision = Revision(index);
    Ok(content)
}
