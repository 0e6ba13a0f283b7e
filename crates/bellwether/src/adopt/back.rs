//! The way back: a cluster whose timings Patroni would raise for itself gets ones that both understand alike, before the first
//! Patroni joins.

use std::{sync::Arc, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_config::{Config, Floors, dynamic};
use bellwether_dcs::{CommitOutcome, Deadline, Store, codec, ops, ops::Seen};
use bellwether_types::cluster::{Cluster, ConfigDocument};
use serde_json::{Value, json};

use crate::{run, store};

const PATIENCE: Duration = Duration::from_secs(5);
/// For every member to have taken the new timings into use.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
const TIMINGS: [&str; 3] = ["ttl", "loop_wait", "retry_timeout"];

#[derive(Debug, thiserror::Error)]
pub(super) enum BackError {
    #[error(transparent)]
    Store(#[from] store::StartError),
    #[error("the store did not answer")]
    Silent(#[from] bellwether_dcs::StoreError),
    #[error("the client for the members' REST APIs cannot be made")]
    Client(#[from] bellwether_api_client::ConfigError),
    #[error("the embedded store cannot be shared with Patroni: move the cluster to etcd first")]
    Embedded,
    #[error("the store holds no dynamic configuration of this cluster")]
    NoConfiguration,
    #[error("the dynamic configuration was changed by somebody else meanwhile: try again")]
    Changed,
    #[error(
        "whether the new timings were written is not known: look with `bellwether show-config`, and try again"
    )]
    Unknown(#[source] bellwether_dcs::StoreError),
    #[error("not every member has taken the new timings into use: {}", .0.join(", "))]
    Unconfirmed(Vec<String>),
}

/// Writes timings that Patroni takes as they are, and waits for every member to use them.
#[expect(clippy::print_stdout, reason = "this is the command's data")]
pub(super) async fn prepare(config: &Config) -> Result<(), BackError> {
    if config.store.is_embedded() {
        return Err(BackError::Embedded);
    }
    let of = store::Of::member(config);
    let store = store::connect(&config.store, &of).await?;
    let wanted = write_timings(&store).await?;
    let Some(wanted) = wanted else {
        println!("the timings are ones that Patroni takes as they are: nothing to change");
        return Ok(());
    };
    println!("written: {}", timings(&wanted));
    let client = ApiClient::new(run::client_config(config))?;
    confirmed(&store, &client, &wanted).await?;
    println!(
        "every member uses them: stop Bellwether and start Patroni, one node after the other, the leader last"
    );
    Ok(())
}

/// The document that is in the store afterwards; `None` if it needed no change.
async fn write_timings(store: &Arc<dyn Store>) -> Result<Option<Value>, BackError> {
    let by = || Deadline::after(PATIENCE);
    let snapshot = store.snapshot(by()).await?;
    let cluster = codec::decode(&snapshot);
    let Some(ConfigDocument::Valid(document)) = cluster.config.as_ref().map(|keyed| &keyed.value) else {
        return Err(BackError::NoConfiguration);
    };
    let Some(raised) = raised(document) else { return Ok(None) };
    let seen = Seen::in_snapshot(&snapshot, codec::keys::CONFIG);
    match ops::write_config(&**store, &raised, seen, &[], by()).await {
        CommitOutcome::Applied(_) => Ok(Some(raised)),
        CommitOutcome::Refused { .. } => Err(BackError::Changed),
        CommitOutcome::Unknown(error) => Err(BackError::Unknown(error)),
    }
}

/// The document with timings that Patroni would not change; `None` if it has them.
fn raised(document: &Value) -> Option<Value> {
    let settings = dynamic::parse(document, Floors::patroni()).ok()?.settings;
    let legal = [settings.ttl, settings.loop_wait, settings.retry_timeout].map(|time| time.as_secs());
    let mut raised = document.clone();
    for (name, seconds) in TIMINGS.into_iter().zip(legal) {
        // What is not written has a default, which is legal.
        if document.get(name).is_some() {
            raised[name] = json!(seconds);
        }
    }
    (raised != *document).then_some(raised)
}

/// Every member's API serves the document that it has in force.
async fn confirmed(store: &Arc<dyn Store>, client: &ApiClient, wanted: &Value) -> Result<(), BackError> {
    let end = tokio::time::Instant::now() + CONFIRMED_WITHIN;
    loop {
        let cluster = codec::decode(&store.snapshot(Deadline::after(PATIENCE)).await?);
        let late = unconfirmed(&cluster, client, wanted).await;
        if late.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            return Err(BackError::Unconfirmed(late));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn unconfirmed(cluster: &Cluster, client: &ApiClient, wanted: &Value) -> Vec<String> {
    let mut late = Vec::new();
    for member in cluster.members.values() {
        let Some(api_url) = &member.api_url else { continue };
        let answer = client.call(Method::GET, api_url, "config", None, Duration::from_secs(2)).await;
        let document = answer.ok().and_then(|answer| answer.json()).unwrap_or_default();
        if timings(&document) != timings(wanted) {
            late.push(member.name.to_string());
        }
    }
    late
}

fn timings(document: &Value) -> String {
    TIMINGS.map(|name| format!("{name}: {}", document[name])).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_timings_change_and_only_if_patroni_would_change_them() {
        let short = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "slots": {"a": null}});
        let raised_short = json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 3, "slots": {"a": null}});
        for (case, document, expected) in [
            ("ours", short, Some(raised_short)),
            ("Patroni's", json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10}), None),
            ("not written", json!({"pause": true}), None),
            ("against the rule", json!({"ttl": 20, "loop_wait": 10, "retry_timeout": 8}), {
                Some(json!({"ttl": 20, "loop_wait": 4, "retry_timeout": 8}))
            }),
        ] {
            assert_eq!(raised(&document), expected, "{case}");
        }
    }
}
