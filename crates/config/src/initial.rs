//! The first `/config` of a new cluster.

use serde_json::{Map, Value, json};

use crate::{
    config::{Config, DefaultsChoice},
    dynamic,
};

const TIMINGS: [(&str, u64); 3] = [("ttl", 5), ("loop_wait", 1), ("retry_timeout", 2)];

/// The document that the bootstrapping member writes to `/config`: `bootstrap.dcs`, and our defaults where they apply.
///
/// Ours apply with the embedded store, unless the process was started as `patroni`; `defaults` overrides both. The three
/// timings belong together: naming one in `bootstrap.dcs` keeps Patroni's for the others. In Patroni's manner, timings that
/// break its rule are stored as they are adjusted. `quorum_takeover` comes with our defaults where the mode is `quorum`. A part
/// of a Citus cluster is synchronous unless it says otherwise.
pub fn initial_document(config: &Config, started_as_patroni: bool, embedded_store: bool) -> Value {
    let written = &config.bootstrap.dcs;
    let ours = match config.defaults {
        DefaultsChoice::Auto => embedded_store && !started_as_patroni,
        DefaultsChoice::Patroni => false,
        DefaultsChoice::Bellwether => true,
    };
    if !ours {
        let mut document = written.clone();
        // A coordinator that promotes a standby without the last commits would hold metadata that the workers do not know.
        if config.citus.is_some() && !document.contains_key("synchronous_mode") {
            document.insert("synchronous_mode".to_owned(), json!("quorum"));
        }
        if started_as_patroni || config.defaults == DefaultsChoice::Patroni {
            dynamic::keep_the_timing_rule(&mut document);
        }
        return Value::Object(document);
    }
    let mut document = Map::new();
    if !TIMINGS.iter().any(|(key, _)| written.contains_key(*key)) {
        document.extend(TIMINGS.map(|(key, value)| (key.to_owned(), json!(value))));
    }
    for (key, value) in [("synchronous_mode", json!("quorum")), ("failsafe_mode", json!(true))] {
        if !written.contains_key(key) {
            document.insert(key.to_owned(), value);
        }
    }
    document.extend(written.clone());
    // A lost leader is replaced without waiting for its lease. In any other mode this does nothing, and would surprise whoever turns it on later.
    if document.get("synchronous_mode") == Some(&json!("quorum")) && !document.contains_key("quorum_takeover")
    {
        document.insert("quorum_takeover".to_owned(), json!(true));
    }
    Value::Object(document)
}
