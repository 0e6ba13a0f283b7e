//! The dynamic configuration: the document in the store's `/config`, parsed and adjusted.

mod health;
mod reader;
mod routing;
mod slots;
mod standby;
mod timing;

use std::time::Duration;

use bellwether_types::settings::{Settings, SyncMode};
use serde_json::{Map, Value};

use crate::{
    effective,
    sections::postgresql::LOCAL_ONLY,
    value::{Unit, int_with_unit, lenient_bool, plain_int},
};

use self::reader::{LONGEST, Reader};
pub use self::timing::Timings;

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
    ///
    /// `loop_wait` and `retry_timeout` are at least a second, or a third of a ttl that is shorter than three.
    pub const fn bellwether(min_ttl: Duration) -> Self {
        Self {
            ttl: min_ttl,
            loop_wait: Duration::from_secs(1),
            retry_timeout: Duration::from_secs(1),
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
    /// The document as read, for comparison with the next one and for `patroni.dynamic.json`.
    pub document: Value,
    /// One sentence per adjusted value, to be logged when the document is taken into use.
    pub messages: Vec<String>,
}

/// Why a document cannot be applied; the previous one stays in force as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dynamic configuration cannot be applied: {}", .reasons.join("; "))]
pub struct DynamicError {
    /// One `key: what is wrong` each.
    pub reasons: Vec<String>,
}

/// Parses the document of `/config`. Absent keys have Patroni's defaults; timings are adjusted to the timing rule.
///
/// A document with a value that cannot be used is refused as a whole, and the error names every such value.
pub fn parse(document: &Value, floors: Floors) -> Result<Dynamic, DynamicError> {
    let Value::Object(map) = document else {
        return Err(DynamicError { reasons: vec!["it is not a JSON object".to_owned()] });
    };
    let mut reader = Reader { map, reasons: Vec::new(), messages: Vec::new() };
    let mut settings = read_settings(&mut reader);
    let written = Timings {
        ttl: reader.timing("ttl", settings.ttl),
        loop_wait: reader.timing("loop_wait", settings.loop_wait),
        retry_timeout: reader.timing("retry_timeout", settings.retry_timeout),
    };
    let adjusted = timing::adjust(written, floors, &mut reader.messages);
    settings.ttl = adjusted.ttl;
    settings.loop_wait = adjusted.loop_wait;
    settings.retry_timeout = adjusted.retry_timeout;
    settings.standby_cluster = standby::read(&mut reader);
    let postgresql = read_postgresql(&mut reader);
    read_postgresql_switches(&postgresql, &mut settings);
    slots::read(&mut reader, &mut settings);
    health::read(&mut reader, &mut settings);
    settings.routing = routing::read(&mut reader);
    if !reader.reasons.is_empty() {
        return Err(DynamicError { reasons: reader.reasons });
    }
    Ok(Dynamic { settings, postgresql, document: document.clone(), messages: reader.messages })
}

/// Writes Patroni's adjustments of the three timings into a document. One with timings that are no numbers stays as it is.
pub(crate) fn keep_the_timing_rule(document: &mut Map<String, Value>) {
    let read = |key: &str, default: i64| match document.get(key) {
        None => Some(default),
        Some(value) => plain_int(value),
    };
    let numbers = (read("ttl", 30), read("loop_wait", 10), read("retry_timeout", 10));
    let (Some(ttl), Some(loop_wait), Some(retry_timeout)) = numbers else { return };
    let span = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LONGEST));
    let written = Timings { ttl: span(ttl), loop_wait: span(loop_wait), retry_timeout: span(retry_timeout) };
    let adjusted = timing::adjust(written, Floors::patroni(), &mut Vec::new());
    for (key, before, after) in [
        ("ttl", written.ttl, adjusted.ttl),
        ("loop_wait", written.loop_wait, adjusted.loop_wait),
        ("retry_timeout", written.retry_timeout, adjusted.retry_timeout),
    ] {
        if before != after {
            document.insert(key.to_owned(), after.as_secs().into());
        }
    }
}

/// Everything at the top level except timings and sections.
fn read_settings(reader: &mut Reader<'_>) -> Settings {
    let default = Settings::default();
    let new_or_old = |reader: &Reader<'_>, new: &'static str, old: &'static str| {
        if reader.get(new).is_some() { new } else { old }
    };
    let start_key = new_or_old(reader, "primary_start_timeout", "master_start_timeout");
    let stop_key = new_or_old(reader, "primary_stop_timeout", "master_stop_timeout");
    let lag_on_syncnode = reader.int("maximum_lag_on_syncnode", -1);
    let synchronous_mode_strict = reader.flag("synchronous_mode_strict");
    let node_count = reader.count("synchronous_node_count", 1).max(u64::from(synchronous_mode_strict));
    Settings {
        maximum_lag_on_failover: reader.count("maximum_lag_on_failover", default.maximum_lag_on_failover),
        maximum_lag_on_syncnode: u64::try_from(lag_on_syncnode).ok().filter(|bytes| *bytes > 0),
        max_timelines_history: reader.count("max_timelines_history", 0) as usize,
        check_timeline: reader.flag("check_timeline"),
        primary_start_timeout: reader.seconds(start_key, default.primary_start_timeout),
        primary_stop_timeout: reader.seconds(stop_key, default.primary_stop_timeout),
        primary_race_backoff: reader.seconds("primary_race_backoff", default.primary_race_backoff),
        synchronous_mode: read_sync_mode(reader),
        synchronous_mode_strict,
        synchronous_node_count: u32::try_from(node_count).unwrap_or(u32::MAX),
        quorum_takeover: reader.flag("quorum_takeover"),
        detect_timeout: read_detect_timeout(reader, default.detect_timeout),
        failsafe_mode: reader.flag("failsafe_mode"),
        pause: reader.flag("pause"),
        member_slots_ttl: read_member_slots_ttl(reader, default.member_slots_ttl),
        ..default
    }
}

fn read_sync_mode(reader: &Reader<'_>) -> SyncMode {
    match reader.get("synchronous_mode") {
        Some(Value::String(word)) if word.trim().eq_ignore_ascii_case("quorum") => SyncMode::Quorum,
        Some(value) if lenient_bool(value) == Some(true) => SyncMode::On,
        _ => SyncMode::Off,
    }
}

fn read_member_slots_ttl(reader: &mut Reader<'_>, default: Duration) -> Duration {
    let Some(value) = reader.get("member_slots_ttl") else { return default };
    match int_with_unit(value, Some(Unit::Seconds)) {
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        None => {
            reader.messages.push(format!(
                "member_slots_ttl: expects a time, for example `30min`, and counts as not set (found `{value}`)"
            ));
            default
        }
    }
}

/// Shorter than a fifth of a second a healthy primary may be silent for; and nobody waits longer than a minute.
const DETECT_TIMEOUTS: std::ops::RangeInclusive<u64> = 200..=60_000;

/// A number without a unit counts seconds, like the other times of this document.
fn read_detect_timeout(reader: &mut Reader<'_>, default: Duration) -> Duration {
    let Some(value) = reader.get("detect_timeout") else { return default };
    let millis = match plain_int(value) {
        Some(seconds) => seconds.checked_mul(1_000),
        None => int_with_unit(value, Some(Unit::Milliseconds)),
    };
    match millis
        .and_then(|millis| u64::try_from(millis).ok())
        .filter(|millis| DETECT_TIMEOUTS.contains(millis))
    {
        Some(millis) => Duration::from_millis(millis),
        None => {
            reader.messages.push(format!(
                "detect_timeout: expects a time from 200ms to 60s, for example `1s`, and counts as not set (found `{value}`)"
            ));
            default
        }
    }
}

/// The dynamic `postgresql` section without what only a local file may say. Its parts must have the right shape, because a
/// document that PostgreSQL cannot be configured from must not come into force.
fn read_postgresql(reader: &mut Reader<'_>) -> Map<String, Value> {
    let section = match reader.get("postgresql") {
        None => return Map::new(),
        Some(Value::Object(section)) => section,
        Some(other) => {
            reader.refuse("postgresql", "expects a map", other);
            return Map::new();
        }
    };
    let mut kept = Map::new();
    for (key, value) in section {
        if LOCAL_ONLY.contains(&key.as_str()) || value.is_null() {
            continue;
        }
        if let Err(reason) = effective::check_shape(key, value) {
            reader.refuse(&format!("postgresql.{key}"), reason, value);
        }
        kept.insert(key.clone(), value.clone());
    }
    kept
}

/// The switches of the `postgresql` section that the decision core reads.
pub(crate) fn read_postgresql_switches(section: &Map<String, Value>, settings: &mut Settings) {
    let flag = |key: &str, default: bool| section.get(key).and_then(lenient_bool).unwrap_or(default);
    settings.use_slots = flag("use_slots", settings.use_slots);
    settings.use_pg_rewind = flag("use_pg_rewind", settings.use_pg_rewind);
    settings.remove_data_directory_on_rewind_failure =
        flag("remove_data_directory_on_rewind_failure", settings.remove_data_directory_on_rewind_failure);
    settings.remove_data_directory_on_diverged_timelines = flag(
        "remove_data_directory_on_diverged_timelines",
        settings.remove_data_directory_on_diverged_timelines,
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(document: Value) -> Settings {
        parse(&document, Floors::patroni()).unwrap().settings
    }

    #[test]
    fn an_empty_document_means_patronis_defaults() {
        assert_eq!(settings(json!({})), Settings::default());
        assert_eq!(settings(json!({"ttl": null, "pause": null})), Settings::default());
    }

    #[test]
    fn old_names_count_only_without_the_new_ones() {
        for (document, seconds) in [
            (json!({"master_start_timeout": 7}), 7),
            (json!({"master_start_timeout": 7, "primary_start_timeout": 9}), 9),
            (json!({"primary_start_timeout": "11"}), 11),
            (json!({}), 300),
        ] {
            assert_eq!(settings(document.clone()).primary_start_timeout.as_secs(), seconds, "{document}");
        }
        assert_eq!(settings(json!({"master_stop_timeout": 3})).primary_stop_timeout.as_secs(), 3);
    }

    #[test]
    fn switches_are_lenient() {
        for (value, mode) in [
            (json!(true), SyncMode::On),
            (json!("on"), SyncMode::On),
            (json!("Quorum"), SyncMode::Quorum),
            (json!("off"), SyncMode::Off),
            (json!("nonsense"), SyncMode::Off),
            (json!(null), SyncMode::Off),
        ] {
            assert_eq!(
                settings(json!({"synchronous_mode": value.clone()})).synchronous_mode,
                mode,
                "{value}"
            );
        }
        assert!(settings(json!({"pause": "yes"})).pause);
        assert!(!settings(json!({"failsafe_mode": "perhaps"})).failsafe_mode);
    }

    #[test]
    fn a_detect_timeout_carries_its_unit() {
        for (value, millis) in [
            (json!("1s"), 1_000),
            (json!("250ms"), 250),
            (json!(2), 2_000),
            (json!("3"), 3_000),
            (json!("50ms"), 1_000),
            (json!("2min"), 1_000),
            (json!("soon"), 1_000),
            (json!(-1), 1_000),
            (json!(null), 1_000),
        ] {
            let read = settings(json!({"detect_timeout": value.clone()})).detect_timeout;
            assert_eq!(read.as_millis(), millis, "{value}");
        }
        let told = parse(&json!({"detect_timeout": "50ms"}), Floors::patroni()).unwrap().messages;
        assert!(told[0].starts_with("detect_timeout: "), "{told:?}");
        assert!(settings(json!({"quorum_takeover": "on"})).quorum_takeover);
        assert!(!settings(json!({})).quorum_takeover, "absent is off");
    }

    #[test]
    fn numbers_have_their_own_meaning_at_the_edge() {
        let with = settings(json!({
            "maximum_lag_on_syncnode": -1, "member_slots_ttl": "1h", "synchronous_node_count": 0,
            "synchronous_mode_strict": true, "maximum_lag_on_failover": 0
        }));
        assert_eq!(with.maximum_lag_on_syncnode, None);
        assert_eq!(with.member_slots_ttl.as_secs(), 3600);
        assert_eq!(with.synchronous_node_count, 1);
        assert_eq!(with.maximum_lag_on_failover, 0);
        assert_eq!(settings(json!({"synchronous_node_count": 0})).synchronous_node_count, 0);
        assert_eq!(settings(json!({"member_slots_ttl": 0})).member_slots_ttl, Duration::ZERO);
        assert_eq!(settings(json!({"maximum_lag_on_syncnode": 5})).maximum_lag_on_syncnode, Some(5));
    }

    #[test]
    fn a_document_that_cannot_be_applied_is_refused_as_a_whole() {
        let document =
            json!({"ttl": "40s", "loop_wait": [], "postgresql": {"parameters": []}, "standby_cluster": 1});
        let error = parse(&document, Floors::patroni()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the dynamic configuration cannot be applied: ttl: expects a whole number without unit (found `\"40s\"`); \
             loop_wait: expects a whole number without unit (found `[]`); standby_cluster: expects a map (found `1`); \
             postgresql.parameters: expects a map (found `[]`)"
        );
        assert!(parse(&json!([]), Floors::patroni()).is_err());
    }

    #[test]
    fn other_numbers_that_are_none_count_as_not_set() {
        let document = json!({"maximum_lag_on_failover": "much", "primary_start_timeout": [], "synchronous_node_count": "a",
            "maximum_lag_on_syncnode": "1MB", "member_slots_ttl": "soon", "max_timelines_history": "0x10"});
        let dynamic = parse(&document, Floors::patroni()).unwrap();
        assert_eq!(dynamic.settings, Settings { max_timelines_history: 16, ..Settings::default() });
        assert_eq!(dynamic.messages.len(), 5, "{:?}", dynamic.messages);
    }

    /// The answers of Patroni 4.1.
    #[test]
    fn a_first_document_is_stored_with_its_timings_adjusted() {
        for (written, stored) in [
            (json!({}), json!({})),
            (json!({"ttl": 20}), json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 9})),
            (json!({"ttl": "20"}), json!({"ttl": "20", "loop_wait": 1, "retry_timeout": 9})),
            (json!({"ttl": 30, "loop_wait": 0}), json!({"ttl": 30, "loop_wait": 1})),
            (
                json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2}),
                json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 3}),
            ),
            (json!({"loop_wait": 20}), json!({"loop_wait": 10})),
            (json!({"retry_timeout": 20}), json!({"retry_timeout": 14, "loop_wait": 1})),
            (json!({"loop_wait": 15.7}), json!({"loop_wait": 10})),
            (
                json!({"ttl": 25, "loop_wait": "10", "retry_timeout": "10"}),
                json!({"ttl": 25, "loop_wait": 5, "retry_timeout": "10"}),
            ),
            (json!({"ttl": "40s", "loop_wait": 99}), json!({"ttl": "40s", "loop_wait": 99})),
        ] {
            let Value::Object(mut document) = written.clone() else { unreachable!() };
            keep_the_timing_rule(&mut document);
            assert_eq!(Value::Object(document), stored, "{written}");
        }
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let most = i64::MAX;
        let settings = settings(json!({"ttl": most, "loop_wait": most, "retry_timeout": most}));
        assert!(settings.loop_wait + 2 * settings.retry_timeout <= settings.ttl);
    }

    #[test]
    fn local_keys_are_never_taken_from_the_store() {
        let document = json!({"postgresql": {
            "data_dir": "/evil", "authentication": {}, "use_pg_rewind": true, "use_slots": false, "parameters": {"a": 1}
        }});
        let dynamic = parse(&document, Floors::patroni()).unwrap();
        let keys: Vec<&str> = dynamic.postgresql.keys().map(String::as_str).collect();
        assert_eq!(keys, ["use_pg_rewind", "use_slots", "parameters"]);
        assert!(dynamic.settings.use_pg_rewind && !dynamic.settings.use_slots);
    }
}
