//! The status document: the body of `GET /patroni` and of every health check. Peers in a leader race read it, too.

use bellwether_types::{
    TimelineId, Timestamp,
    measured::{Measured, Span},
    status::{ServerStatus, WalStatus},
};
use serde_json::{Map, Value, json};

use crate::facts::Facts;

/// Fields in the order that clients know.
pub(crate) fn document(facts: &Facts<'_>) -> Value {
    let status = facts.status;
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.to_owned(), value);
    };
    put("state", json!(facts.state.map_or("unknown", |state| state.as_str())));
    match facts.server {
        None => put("role", json!(facts.role)),
        Some(server) => {
            put("postmaster_start_time", json!(server.postmaster_start_time));
            put("role", json!(facts.role));
            put("server_version", json!(server.server_version));
            put("xlog", positions(server));
            if let Some(standby) = facts.standby {
                put(standby.word(), json!(true));
            }
            put("timeline", json!(server.timeline.map(|TimelineId(number)| number)));
            if let Some(state) = server.replication_state {
                put("replication_state", json!(state));
            }
            if !server.replication.is_empty() {
                put("replication", json!(server.replication));
            }
        }
    }
    for (key, set) in [
        ("pause", facts.is_paused()),
        ("cluster_unlocked", facts.is_unlocked()),
        ("failsafe_mode_is_active", facts.is_failsafe_active()),
    ] {
        if set {
            put(key, json!(true));
        }
    }
    put("dcs_last_seen", json!(dcs_last_seen(facts)));
    let tags = status.tags.published();
    if !tags.0.is_empty() {
        put("tags", json!(tags));
    }
    if let Some(id) = status.system_id {
        put("database_system_identifier", json!(id));
    }
    if status.pending_restart {
        put("pending_restart", json!(true));
        if !status.pending_restart_reason.is_null() {
            put("pending_restart_reason", status.pending_restart_reason.clone());
        }
    }
    put("patroni", json!({"version": status.version, "scope": status.cluster, "name": status.me}));
    if let Some(mut restart) = status.scheduled_restart.clone() {
        if let Some(restart) = restart.as_object_mut() {
            restart.shift_remove("postmaster_start_time");
        }
        put("scheduled_restart", restart);
    }
    if status.watchdog_failed {
        put("watchdog_failed", json!(true));
    }
    // What was so a while ago says nothing: a lock that was taken since may have run out again.
    let is_recent = facts.now.since(status.taken_at) < status.settings.ttl / 2;
    if status.at_rest && is_recent {
        put("at_rest", json!(true));
    }
    // Ours, as the one before. Of a primary its positions tell enough.
    let is_primary = facts.server.is_some_and(|server| matches!(server.wal, WalStatus::Primary { .. }));
    if status.lease_until.is_some() && !is_primary {
        put("holds_lock", json!(true));
    }
    if let Some(word) = status.takeover.word(facts.now) {
        put("takeover", json!(word));
    }
    if !status.alarms.is_empty() {
        // Ours; Patroni reads over it.
        put("alarms", json!(status.alarms));
    }
    if status.measured.store.count > 0 {
        put("measured", measured(&status.measured));
    }
    if let (waiting @ 3.., lost) = facts.log_backlog {
        put("logger_queue_size", json!(waiting));
        if lost > 0 {
            put("logger_records_lost", json!(lost));
        }
    }
    Value::Object(fields)
}

/// Ours: how fast things are here, in milliseconds.
fn measured(measured: &Measured) -> Value {
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let span = |span: &Span| json!({"count": span.count, "typical_ms": ms(span.typical), "worst_ms": ms(span.worst)});
    json!({"store": span(&measured.store), "commit": span(&measured.commit), "late": span(&measured.late)})
}

/// The same, and how old its position is, for a caller whose request came at `asked_at`. Fields of ours: Patroni reads over them.
pub(crate) fn with_age(facts: &Facts<'_>, asked_at: Timestamp) -> Value {
    let mut document = document(facts);
    if let (Some(fields), Some(server)) = (document.as_object_mut(), facts.server) {
        let age = facts.now.since(server.asked_at);
        fields
            .insert("observed_ms_ago".to_owned(), json!(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        // Ages cannot be compared with the caller's clock; before and after can.
        fields.insert("observed_since_asked".to_owned(), json!(server.asked_at >= asked_at));
        if server.replays_own_wal {
            fields.insert("replays_own_wal".to_owned(), json!(true));
        }
    }
    document
}

/// Seconds since 1970 of the last successful read of the store, 0 if there was none.
pub(crate) fn dcs_last_seen(facts: &Facts<'_>) -> i64 {
    facts.status.store_last_seen.map_or(0, |time| time.unix_millis.div_euclid(1000))
}

fn positions(server: &ServerStatus) -> Value {
    match &server.wal {
        WalStatus::Primary { location } => json!({"location": location}),
        WalStatus::Standby { received, replayed, replayed_timestamp, paused, .. } => json!({
            "received_location": received,
            "replayed_location": replayed,
            "replayed_timestamp": replayed_timestamp,
            "paused": paused,
        }),
    }
}
