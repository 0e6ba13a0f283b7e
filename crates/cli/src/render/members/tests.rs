//! The specification's examples, byte for byte.

use bellwether_dcs::{Entry, Key, Snapshot, codec};
use bellwether_types::Revision;

use super::*;

fn cluster(entries: &[(&str, Value)]) -> Cluster {
    let entry = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Entry { value: text.into_bytes(), created: Revision(1), modified: Revision(1), lease: None }
    };
    let entries = entries.iter().map(|(key, value)| (Key::from(*key), entry(value))).collect();
    codec::decode(&Snapshot { revision: Revision(1), entries })
}

fn member(number: u8, fields: Value) -> Value {
    let mut value = json!({
        "conn_url": format!("postgres://10.0.0.{number}:5432/postgres"),
        "api_url": format!("http://10.0.0.{number}:8008/patroni"),
        "role": "replica",
    });
    let object = value.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    value
}

fn example() -> Vec<(&'static str, Value)> {
    vec![
        ("initialize", json!("7277694203142172922")),
        ("leader", json!("pg1")),
        ("status", json!({"optime": 0x3FE_56C0})),
        ("config", json!({"pause": true})),
        ("failover", json!({"leader": "pg1", "member": "pg2", "scheduled_at": "2030-01-01T00:00:00+00:00"})),
        (
            "members/pg1",
            member(
                1,
                json!({"state": "running", "role": "primary", "timeline": 5, "xlog_location": 66999999}),
            ),
        ),
        (
            "members/pg2",
            member(
                2,
                json!({"state": "running", "replication_state": "streaming", "timeline": 5,
                             "receive_lsn": 0x3FE_56C0, "replay_lsn": 0x3FE_56C0, "xlog_location": 0x3FE_56C0}),
            ),
        ),
        ("members/pg4", member(4, json!({"state": "stopped"}))),
    ]
}

fn list(entries: &[(&str, Value)], format: Format) -> String {
    render(
        Named { name: "batman", groups: &Groups::of(Part::Plain, cluster(entries)) },
        View::List { format, extended: false },
    )
}

#[test]
fn the_list_is_drawn_as_patronictl_draws_it() {
    let expected = "\
+ Cluster: batman (7277694203142172922) --+----+-------------+-----+------------+-----+
| Member | Host     | Role    | State     | TL | Receive LSN | Lag | Replay LSN | Lag |
+--------+----------+---------+-----------+----+-------------+-----+------------+-----+
| pg1    | 10.0.0.1 | Leader  | running   |  5 |             |     |            |     |
| pg2    | 10.0.0.2 | Replica | streaming |  5 |   0/3FE56C0 |   0 |  0/3FE56C0 |   0 |
| pg4    | 10.0.0.4 | Replica | stopped   |    |     unknown |     |    unknown |     |
+--------+----------+---------+-----------+----+-------------+-----+------------+-----+
 Maintenance mode: on
 Switchover scheduled at: 2030-01-01T00:00:00+00:00
                    from: pg1
                      to: pg2
";
    assert_eq!(list(&example(), Format::Pretty), expected);
}

#[test]
fn a_take_over_that_is_wanted_and_does_not_apply_is_told_with_its_reason() {
    let with = |config: Value| {
        let mut entries = example();
        entries[3] = ("config", config);
        list(&entries, Format::Pretty)
    };
    let foreign = with(json!({"synchronous_mode": "quorum", "quorum_takeover": true}));
    assert!(foreign.contains("\n Quorum take-over: off, because member pg1 is no Bellwether\n"), "{foreign}");
    let paused = with(json!({"synchronous_mode": "quorum", "quorum_takeover": true, "pause": true}));
    assert!(paused.contains(" Quorum take-over: off, because the cluster is paused\n"), "{paused}");
    let mode = with(json!({"quorum_takeover": true}));
    assert!(mode.contains(" Quorum take-over: off, because `synchronous_mode` is not `quorum`\n"), "{mode}");
    assert!(!with(json!({"synchronous_mode": "quorum"})).contains("take-over"), "nobody asked for it");
}

#[test]
fn json_leaves_out_what_is_empty() {
    let text = list(&example(), Format::Json);
    let expected = concat!(
        r#"[{"Cluster": "batman", "Member": "pg1", "Host": "10.0.0.1", "Role": "Leader", "State": "running", "TL": 5}, "#,
        r#"{"Cluster": "batman", "Member": "pg2", "Host": "10.0.0.2", "Role": "Replica", "State": "streaming", "TL": 5, "#,
        r#""Receive LSN": "0/3FE56C0", "Receive Lag": 0, "Replay LSN": "0/3FE56C0", "Replay Lag": 0}, "#,
        r#"{"Cluster": "batman", "Member": "pg4", "Host": "10.0.0.4", "Role": "Replica", "State": "stopped", "#,
        r#""Receive LSN": "unknown", "Replay LSN": "unknown"}]"#,
        "\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn yaml_sorts_its_keys_and_tsv_names_its_columns() {
    let entries = &example()[..6];
    let yaml =
        "- Cluster: batman\n  Host: 10.0.0.1\n  Member: pg1\n  Role: Leader\n  State: running\n  TL: 5\n\n";
    assert_eq!(list(entries, Format::Yaml), yaml);
    let tsv = "Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\n\
               batman\tpg1\t10.0.0.1\tLeader\trunning\t5\t\t\t\t\n";
    assert_eq!(list(entries, Format::Tsv), tsv);
}

#[test]
fn the_topology_shows_who_streams_from_whom() {
    let mut entries = example();
    entries.truncate(3);
    entries.extend([
        ("members/pg1", member(1, json!({"state": "running", "timeline": 5}))),
        (
            "members/pg2",
            member(2, json!({"state": "running", "replication_state": "streaming", "timeline": 5,
                             "receive_lsn": 0x3FE_56C0, "replay_lsn": 0x3FE_56C0, "tags": {"nosync": true}})),
        ),
        (
            "members/pg3",
            member(3, json!({"state": "running", "replication_state": "streaming", "timeline": 5,
                             "receive_lsn": 0x3DF_D240, "replay_lsn": 0x262_5A00, "tags": {"replicatefrom": "pg2"}})),
        ),
    ]);
    let text =
        render(Named { name: "batman", groups: &Groups::of(Part::Plain, cluster(&entries)) }, View::Topology);
    let expected = "\
+ Cluster: batman (7277694203142172922) ---+----+-------------+-----+------------+-----+----------------------+
| Member  | Host     | Role    | State     | TL | Receive LSN | Lag | Replay LSN | Lag | Tags                 |
+---------+----------+---------+-----------+----+-------------+-----+------------+-----+----------------------+
| pg1     | 10.0.0.1 | Leader  | running   |  5 |             |     |            |     |                      |
| + pg2   | 10.0.0.2 | Replica | streaming |  5 |   0/3FE56C0 |   0 |  0/3FE56C0 |   0 | {nosync: true}       |
|   + pg3 | 10.0.0.3 | Replica | streaming |  5 |   0/3DFD240 |   2 |  0/2625A00 |  26 | {replicatefrom: pg2} |
+---------+----------+---------+-----------+----+-------------+-----+------------+-----+----------------------+
";
    assert_eq!(text, expected);
}

#[test]
fn members_that_name_each_other_as_upstream_are_shown_once() {
    let tagged = |number, upstream: &str| member(number, json!({"tags": {"replicatefrom": upstream}}));
    let cluster = cluster(&[("members/a", tagged(1, "b")), ("members/b", tagged(2, "a"))]);
    let names: Vec<String> = topology_order(&cluster).into_iter().map(|(_, shown)| shown).collect();
    assert_eq!(names, ["+ a", "+ b"]);
}

#[test]
fn a_cluster_that_is_not_there_is_an_empty_table() {
    let text = list(&[], Format::Pretty);
    assert!(text.starts_with("+ Cluster: batman (uninitialized) "), "{text}");
    assert_eq!(text.lines().count(), 4);
    assert!(list(&[("initialize", json!(""))], Format::Pretty).contains("(initializing)"));
    assert_eq!(list(&[], Format::Json), "[]\n");
}

#[test]
fn roles_follow_the_mode_and_the_list_of_voters() {
    for (case, config, expected) in [
        ("sync mode on", json!({"synchronous_mode": true}), "Sync Standby"),
        ("quorum mode", json!({"synchronous_mode": "quorum"}), "Quorum Standby"),
        ("mode off", json!({}), "Replica"),
    ] {
        let mut entries = example();
        entries.retain(|(key, _)| *key != "config");
        entries.push(("config", config));
        entries.push(("sync", json!({"leader": "pg1", "quorum": 1, "sync_standby": "PG2"})));
        let row =
            list(&entries, Format::Pretty).lines().find(|line| line.contains("pg2")).unwrap().to_owned();
        assert!(row.contains(&format!("| {expected} ")), "{case}: {row}");
    }
    let mut entries = example();
    entries.retain(|(key, _)| *key != "config");
    entries.push(("config", json!({"standby_cluster": {"host": "elsewhere"}})));
    assert!(list(&entries, Format::Pretty).contains("| Standby Leader |"));
}

#[test]
fn ports_show_once_one_is_unusual_or_a_host_is_shared() {
    for (case, other, shown) in [
        ("different hosts", "postgres://10.0.0.2:5432/postgres", "| 10.0.0.1 |"),
        ("an unusual port", "postgres://10.0.0.2:5433/postgres", "| 10.0.0.1:5432 |"),
        ("a shared host", "postgres://10.0.0.1:5432/postgres", "| 10.0.0.1:5432 |"),
    ] {
        let entries =
            [("members/a", member(1, json!({}))), ("members/b", member(2, json!({"conn_url": other})))];
        let text = list(&entries, Format::Pretty);
        assert!(text.contains(shown), "{case}:\n{text}");
    }
}

#[test]
fn optional_columns_appear_when_somebody_needs_them() {
    let reason = json!({
        "max_connections": {"old_value": "100", "new_value": "200"},
        "shared_preload_libraries": {"old_value": "a".repeat(30), "new_value": "b".repeat(30)},
    });
    let entries = [
        (
            "members/a",
            member(
                1,
                json!({"pending_restart": true, "pending_restart_reason": reason,
                                       "tags": {"nosync": true, "clonefrom": true}}),
            ),
        ),
        (
            "members/b",
            member(
                2,
                json!({"scheduled_restart": {"schedule": "2030-01-01T00:00:00+00:00", "postgres_version": "15.9"}}),
            ),
        ),
    ];
    let text = list(&entries, Format::Pretty);
    for part in [
        "| Pending restart | Pending restart reason ",
        "max_connections: 100->200",
        "shared_preload_libraries: [hidden - too long]",
        "| 2030-01-01T00:00:00+00:00 if version < 15.9 |",
        "| clonefrom: true |",
        "| nosync: true    |",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = list(&entries, Format::Json);
    assert!(json.contains(r#""Tags": {"clonefrom": true, "nosync": true}"#), "{json}");
    assert!(json.contains(&format!("shared_preload_libraries: {}->", "a".repeat(30))), "{json}");
    let bare = [("members/a", member(1, json!({})))];
    assert!(!list(&bare, Format::Pretty).contains("Tags"));
    let named = Groups::of(Part::Plain, cluster(&bare));
    let extended = View::List { format: Format::Pretty, extended: true };
    assert!(render(Named { name: "c", groups: &named }, extended).contains("| Scheduled restart | Tags |"));
}

#[test]
fn lag_is_rounded_half_to_even() {
    for (bytes, expected) in
        [(0, 0), (524_287, 0), (524_288, 0), (524_289, 1), (1_572_864, 2), (2_621_440, 2)]
    {
        assert_eq!(mebibytes(bytes), expected, "{bytes}");
    }
}

#[test]
fn an_old_member_shows_its_only_position_where_it_belongs() {
    for (state, receive, replay) in
        [("streaming", "0/3FE56C0", "unknown"), ("in archive recovery", "unknown", "0/3FE56C0")]
    {
        let old =
            member(2, json!({"state": "running", "xlog_location": 0x3FE_56C0, "replication_state": state}));
        let cluster = cluster(&[("members/b", old)]);
        let facts = Facts { cluster: &cluster, settings: settings(&cluster), shows_ports: false };
        let row = facts.row(cluster.members.values().next().unwrap(), "b");
        assert_eq!((&row[5], &row[7]), (&json!(receive), &json!(replay)), "{state}");
    }
}
