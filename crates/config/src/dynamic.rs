//! The dynamic configuration: the document in the store's `/config`, parsed and adjusted.

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

pub use timing::Timings;

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
        ttl: reader.seconds("ttl", settings.ttl),
        loop_wait: reader.seconds("loop_wait", settings.loop_wait),
        retry_timeout: reader.seconds("retry_timeout", settings.retry_timeout),
    };
    let adjusted = timing::adjust(written, floors, &mut reader.messages);
    settings.ttl = adjusted.ttl;
    settings.loop_wait = adjusted.loop_wait;
    settings.retry_timeout = adjusted.retry_timeout;
    settings.standby_cluster = standby::read(&mut reader);
    let postgresql = read_postgresql(&mut reader);
    read_postgresql_switches(&postgresql, &mut settings);
    slots::read(&mut reader, &mut settings);
    if !reader.reasons.is_empty() {
        return Err(DynamicError { reasons: reader.reasons });
    }
    Ok(Dynamic { settings, postgresql, document: document.clone(), messages: reader.messages })
}

/// Reads keys of the document and remembers what is wrong with them.
struct Reader<'a> {
    map: &'a Map<String, Value>,
    reasons: Vec<String>,
    messages: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A null is as good as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, key: &str, reason: &str, value: &Value) {
        self.reasons.push(format!("{key}: {reason} (found `{value}`)"));
    }

    fn int(&mut self, key: &str, default: i64) -> i64 {
        let Some(value) = self.get(key) else { return default };
        plain_int(value).unwrap_or_else(|| {
            self.refuse(key, "expects a whole number without unit", value);
            default
        })
    }

    /// Not negative.
    fn count(&mut self, key: &str, default: u64) -> u64 {
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        u64::try_from(self.int(key, default)).unwrap_or(0)
    }

    /// Cut at thirty years, so that sums of durations cannot overflow.
    fn seconds(&mut self, key: &str, default: Duration) -> Duration {
        const LONGEST: u64 = 1_000_000_000;
        Duration::from_secs(self.count(key, default.as_secs()).min(LONGEST))
    }

    /// Whether a key is set to a true value; what is neither true nor false counts as not set.
    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(lenient_bool).unwrap_or(false)
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
            reader.refuse("member_slots_ttl", "expects a time, for example `30min`", value);
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
