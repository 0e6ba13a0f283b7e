//! `GET /metrics`: Prometheus text.

use std::fmt::{Display, Write};

use bellwether_types::{Alarm, PostgresState, ReplicationState, Role, status::WalStatus};

use serde_json::Value;

use crate::{
    facts::{Facts, SyncStandby},
    node_document,
};

/// The metrics under their known names, then a few of our own.
pub(crate) fn render(facts: &Facts<'_>, entrypoints: &[Value]) -> String {
    let status = facts.status;
    let labels = [("scope", status.cluster.as_str()), ("name", status.me.as_str())];
    let mut page = Page { text: String::with_capacity(8192), labels: render_labels(&labels) };
    let server = facts.server;

    page.gauge(
        "patroni_version",
        "Version that this member is compatible with, without periods.",
        version(facts),
    );
    page.gauge("patroni_postgres_running", "1 if PostgreSQL runs.", u8::from(facts.is_running()));
    page.gauge(
        "patroni_postmaster_start_time",
        "Start of PostgreSQL in seconds since 1970.",
        server.map_or(0.0, |server| server.postmaster_start_unix),
    );
    page.gauge("patroni_primary", "1 if this member runs as primary.", u8::from(facts.role == Role::Primary));
    positions(&mut page, facts);
    if server.is_some() {
        let in_state = |state| u8::from(facts.replication_state() == Some(state));
        page.gauge(
            "patroni_postgres_streaming",
            "1 if PostgreSQL streams from another server.",
            in_state(ReplicationState::Streaming),
        );
        page.gauge(
            "patroni_postgres_in_archive_recovery",
            "1 if PostgreSQL replicates from the archive.",
            in_state(ReplicationState::InArchiveRecovery),
        );
    }
    let server_version = server.map_or(0, |server| server.server_version);
    page.gauge("patroni_postgres_server_version", "Version of PostgreSQL, 0 if not running.", server_version);
    cluster_state(&mut page, facts);
    page.gauge("patroni_failover_priority", "Effective failover priority.", status.tags.failover_priority());
    own(&mut page, facts);
    self::entrypoints(&mut page, facts, entrypoints);
    page.text
}

fn positions(page: &mut Page, facts: &Facts<'_>) {
    let (mut location, mut replayed_at, mut is_paused) = (0, 0.0, false);
    match facts.server.map(|server| &server.wal) {
        Some(WalStatus::Primary { location: lsn }) => location = lsn.0,
        Some(WalStatus::Standby { replayed_unix, paused, .. }) => {
            replayed_at = replayed_unix.unwrap_or(0.0);
            is_paused = *paused;
        }
        None => {}
    }
    let (received, replayed) = facts.standby_positions();
    let role = |role| u8::from(facts.role == role);
    let standby = |kind| u8::from(facts.standby == Some(kind));

    page.counter("patroni_xlog_location", "WAL position of a primary, else 0.", location);
    page.gauge(
        "patroni_standby_leader",
        "1 if this member leads a standby cluster.",
        role(Role::StandbyLeader),
    );
    page.gauge("patroni_replica", "1 if this member runs as replica.", role(Role::Replica));
    page.gauge("patroni_sync_standby", "1 if this is a synchronous standby.", standby(SyncStandby::Sync));
    page.gauge("patroni_quorum_standby", "1 if this is a quorum standby.", standby(SyncStandby::Quorum));
    page.counter("patroni_xlog_received_location", "WAL position received by a replica, else 0.", received.0);
    page.counter("patroni_xlog_replayed_location", "WAL position replayed by a replica, else 0.", replayed.0);
    page.gauge(
        "patroni_xlog_replayed_timestamp",
        "Time of the last replayed commit in seconds since 1970, else 0.",
        replayed_at,
    );
    page.gauge("patroni_xlog_paused", "1 if the replay of WAL is paused.", u8::from(is_paused));
}

fn cluster_state(page: &mut Page, facts: &Facts<'_>) {
    let status = facts.status;
    let in_map = status.failsafe.as_ref().is_some_and(|map| map.0.contains_key(&status.me));
    let timeline = facts.server.and_then(|server| server.timeline).map_or(0, |timeline| timeline.0);

    page.gauge("patroni_cluster_unlocked", "1 if no leader is known.", u8::from(facts.is_unlocked()));
    page.gauge(
        "patroni_failsafe_mode_is_active",
        "1 if the leader goes on without the store.",
        u8::from(facts.is_failsafe_active()),
    );
    page.gauge(
        "patroni_failsafe_mode_enabled",
        "1 if failsafe_mode is on.",
        u8::from(status.settings.failsafe_mode),
    );
    page.gauge("patroni_failsafe_member", "1 if this member is in the failsafe map.", u8::from(in_map));
    page.gauge("patroni_postgres_timeline", "Timeline, 0 if not running.", timeline);
    page.gauge(
        "patroni_dcs_last_seen",
        "Last successful read of the store in seconds since 1970.",
        node_document::dcs_last_seen(facts),
    );
    page.gauge(
        "patroni_pending_restart",
        "1 if PostgreSQL needs a restart.",
        u8::from(status.pending_restart),
    );
    page.gauge("patroni_is_paused", "1 if automatic failover is paused.", u8::from(facts.is_paused()));
    let names = PostgresState::ALL.iter().map(|state| format!("{}={}", state.index(), state.metric_name()));
    let values = format!("Values: {}", names.collect::<Vec<_>>().join(", "));
    let number = facts.state.map_or(-1, |state| i64::try_from(state.index()).expect("there are 15 states"));
    page.head(
        "patroni_postgres_state",
        "State of PostgreSQL as a number, -1 if unknown.",
        "gauge",
        Some(&values),
    );
    page.sample("patroni_postgres_state", number);
}

/// What only this implementation knows. Labels come from closed sets.
fn own(page: &mut Page, facts: &Facts<'_>) {
    let status = facts.status;
    let lease = status.lease_until.map_or(0.0, |until| facts.now.until(until).as_secs_f64());
    page.gauge(
        "bellwether_lease_seconds",
        "Time until the leader lease of this member ends, 0 without one.",
        lease,
    );
    page.gauge(
        "bellwether_status_age_seconds",
        "Time since the agent published its status.",
        facts.now.since(status.taken_at).as_secs_f64(),
    );
    let name = "bellwether_alarm";
    page.head(
        name,
        "1 while something is wrong here although PostgreSQL runs; what it is stands in the label.",
        "gauge",
        None,
    );
    for alarm in Alarm::ALL {
        let labels =
            [("scope", status.cluster.as_str()), ("name", status.me.as_str()), ("alarm", alarm.code())];
        page.line(name, &render_labels(&labels), u8::from(status.alarms.contains(alarm)));
    }
    let name = "bellwether_reason_info";
    page.head(name, "Why the last cycle did what it did; the reason is in the label.", "gauge", None);
    let labels = [
        ("scope", status.cluster.as_str()),
        ("name", status.me.as_str()),
        ("code", status.reason_code.as_str()),
    ];
    page.line(name, &render_labels(&labels), 1);
}

/// A sample of each entry point; nothing where there are none.
fn entrypoints(page: &mut Page, facts: &Facts<'_>, entries: &[Value]) {
    if entries.is_empty() {
        return;
    }
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| u64::from(value == &Value::Bool(true)));
    for (name, field, kind, help) in [
        (
            "bellwether_entrypoint_wanted",
            "wanted",
            "gauge",
            "1 if the entry point should be with this member.",
        ),
        ("bellwether_entrypoint_held", "held", "gauge", "1 if the entry point is with this member."),
        (
            "bellwether_entrypoint_errors_total",
            "errors",
            "counter",
            "Failures to move or keep the entry point.",
        ),
    ] {
        page.head(name, help, kind, None);
        for entry in entries {
            let labels = [
                ("scope", facts.status.cluster.as_str()),
                ("name", facts.status.me.as_str()),
                ("type", entry["type"].as_str().unwrap_or_default()),
                ("entry", entry["name"].as_str().unwrap_or_default()),
            ];
            page.line(name, &render_labels(&labels), number(&entry[field]));
        }
    }
}

/// `4.1.5` becomes `040105`.
fn version(facts: &Facts<'_>) -> String {
    facts.status.version.split('.').map(|part| format!("{part:0>2}")).collect()
}

struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge", None);
        self.sample(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter", None);
        self.sample(name, value);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str, comment: Option<&str>) {
        let _ = writeln!(self.text, "# HELP {name} {help}");
        if let Some(comment) = comment {
            let _ = writeln!(self.text, "# {comment}");
        }
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{} {value}", self.labels);
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(
            render_labels(&[("scope", "a\"b\\c\nd"), ("name", "x")]),
            r#"{scope="a\"b\\c\nd",name="x"}"#
        );
    }
}
