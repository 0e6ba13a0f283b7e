//! Sends transactions: read, plan, `/v1/txn`; from the start if somebody else wrote in between.

use std::{collections::BTreeMap, time::Duration};

use bellwether_dcs::{Check, CommitOutcome, Deadline, StoreError, Write, store::now};
use bellwether_types::{LeaseId, Revision};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::{
    http::Agent,
    plan::{self, Context, Plan},
    read,
};

/// A lock whose session has just ended cannot be taken for a millisecond.
const LOCK_DELAY: Duration = Duration::from_millis(5);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ended {
    results: Option<Vec<Written>>,
    errors: Option<Vec<Failed>>,
}

#[derive(Debug, Deserialize)]
struct Written {
    #[serde(rename = "KV")]
    kv: Option<Indexed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Indexed {
    modify_index: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    what: String,
}

/// One transaction; `sessions` are the leases that were granted here. An error is an unknown end.
pub(crate) async fn commit(
    agent: &Agent,
    sessions: &BTreeMap<LeaseId, String>,
    checks: &[Check],
    writes: &[Write],
    by: Deadline,
) -> Result<CommitOutcome, StoreError> {
    let unknown_lease = writes
        .iter()
        .any(|write| matches!(write, Write::Put { lease: Some(lease), .. } if !sessions.contains_key(lease)));
    loop {
        let content = read::read(agent, by).await?;
        let context = Context { prefix: agent.config().base(), sessions, nonce: now().as_nanos() };
        let operations = match plan::plan(&content, checks, writes, context) {
            Plan::Refused { found } => return Ok(CommitOutcome::Refused { found }),
            Plan::TooLong => {
                let text = "not written: too many operations for one transaction of Consul";
                return Err(StoreError::Protocol(text.to_owned()));
            }
            Plan::Transaction(_) if unknown_lease => return Ok(CommitOutcome::Refused { found: None }),
            Plan::Transaction(operations) => operations,
        };
        let answer = agent.put(&["txn"], &[], Some(&operations), by).await?;
        match answer.status {
            StatusCode::OK => return applied(answer.json()?),
            StatusCode::CONFLICT => {
                let failed: Ended = answer.json()?;
                if let Some(end) = refused(&failed)? {
                    return Ok(end);
                }
                tokio::time::sleep(LOCK_DELAY).await;
            }
            status => return Err(StoreError::Protocol(format!("{status}: {}", answer.text()))),
        }
    }
}

fn applied(ended: Ended) -> Result<CommitOutcome, StoreError> {
    let indexes = ended.results.into_iter().flatten().filter_map(|written| Some(written.kv?.modify_index));
    match indexes.max() {
        Some(index) => Ok(CommitOutcome::Applied(Revision(index))),
        None => Err(StoreError::Protocol("a transaction that was applied tells no index".to_owned())),
    }
}

/// Nothing was written. `None`: because something is not as it was read, so it is to be looked at again.
fn refused(ended: &Ended) -> Result<Option<CommitOutcome>, StoreError> {
    for Failed { what } in ended.errors.iter().flatten() {
        if what.contains("invalid session") {
            return Ok(Some(CommitOutcome::Refused { found: None }));
        }
        if what.contains("ermission denied") {
            return Err(StoreError::Unauthorized(what.clone()));
        }
    }
    Ok(None)
}
