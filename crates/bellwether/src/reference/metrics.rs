//! Metrics, read off what a running primary answers.

use bellwether_api::reference::metrics_text;
use bellwether_types::{
    ClusterName, Lsn, MemberName, PostgresState, Role, Tags, Timestamp,
    settings::Settings,
    status::{NodeStatus, ServerStatus, WalStatus},
};
use serde_json::Value;

use super::{code, head, row};

const INTRO: &str = "\
# Metrics

`GET /metrics` answers Prometheus text, format 0.0.4. Names beginning with `patroni_` mean what they mean there, so that dashboards go on
working; the others are ours. All have the labels `scope` and `name`. Those of replication are absent while PostgreSQL does not run.

";

pub(super) fn page() -> String {
    let text = metrics_text(&primary(), Timestamp::ZERO);
    let mut page = format!("{INTRO}{}", head(&["metric", "kind", "meaning"]));
    let mut help = ("", "");
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ').unwrap();
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name, help.0, "HELP and TYPE belong together");
            page.push_str(&row(&[&code(name), kind, help.1]));
        }
    }
    page
}

/// Complete enough to have every metric.
fn primary() -> NodeStatus {
    let server = ServerStatus {
        asked_at: Timestamp::ZERO,
        server_version: 150_000,
        postmaster_start_time: String::new(),
        postmaster_start_unix: 0.0,
        in_recovery: false,
        timeline: None,
        wal: WalStatus::Primary { location: Lsn(0) },
        replication_state: None,
        replays_own_wal: false,
        latest_end_lsn: None,
        replication: Vec::new(),
    };
    NodeStatus {
        cluster: ClusterName::new("demo").unwrap(),
        me: MemberName::new("node1").unwrap(),
        version: bellwether_dcs::codec::COMPATIBLE_VERSION.to_owned(),
        taken_at: Timestamp::ZERO,
        state: PostgresState::Running,
        role: Role::Primary,
        server: Some(server),
        system_id: None,
        pending_restart: false,
        pending_restart_reason: Value::Null,
        tags: Tags::default(),
        scheduled_restart: None,
        watchdog_failed: false,
        at_rest: false,
        alarms: Default::default(),
        measured: Default::default(),
        lease_until: None,
        store: None,
        store_last_seen: None,
        settings: Settings::default(),
        config: Value::Null,
        failsafe_until: None,
        failsafe: None,
        takeover: Default::default(),
        next_tick_by: Timestamp::ZERO,
        reason: String::new(),
        reason_code: String::new(),
    }
}
