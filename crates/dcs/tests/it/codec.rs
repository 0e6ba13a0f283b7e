use std::collections::{BTreeMap, BTreeSet};

use bellwether_dcs::{
    Entry, Key, Snapshot,
    codec::{self, MemberDocument, keys},
};
use bellwether_types::{
    LeaseId, Lsn, MemberName, PostgresState, ReplicationState, Revision, Role, Tags, Term, TimelineId,
    cluster::{
        Cluster, ConfigDocument, FailoverRequest, FailsafeMap, History, HistoryEntry, Initialize,
        PeerProtocol, Status, SyncState, TimelineClaim,
    },
};
use proptest::{collection, option, prelude::*, sample};
use serde_json::{Map, Value, json};

fn snapshot<'a>(values: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Snapshot {
    let entry = |value| Entry { value, created: Revision(3), modified: Revision(5), lease: Some(LeaseId(9)) };
    let entries = values.into_iter().map(|(key, value)| (Key::from(key), entry(value))).collect();
    Snapshot { revision: Revision(7), entries }
}

fn decode(key: &str, value: impl Into<Vec<u8>>) -> Cluster {
    codec::decode(&snapshot([(key, value.into())]))
}

#[test]
fn a_cluster_as_patroni_writes_it_is_read_whole() {
    let member = r#"{"conn_url":"postgres://10.0.0.2:5432/postgres","api_url":"http://10.0.0.2:8008/patroni","state":"running","role":"replica","version":"4.1.5","tags":{"clonefrom":true},"xlog_location":83886496,"replay_lsn":83886496,"receive_lsn":83886496,"replication_state":"streaming","timeline":3}"#;
    let cluster = codec::decode(&snapshot([
        ("initialize", "7421833905512378144".into()),
        ("leader", "pg-a".into()),
        ("members/pg-b", member.into()),
        ("members/pg-c", "not json".into()),
        ("members/", "{}".into()),
        ("config", r#"{"ttl":30,"loop_wait":10}"#.into()),
        ("failover", "{}".into()),
        ("sync", r#"{"leader":"pg-a","quorum":1,"sync_standby":"pg-b,pg-c"}"#.into()),
        ("status", r#"{"optime":67109024,"slots":{"pg_a":67109024}}"#.into()),
        (
            "history",
            r#"[[1,67109024,"no recovery target specified","2026-01-05T10:00:00+00:00","pg-b"]]"#.into(),
        ),
        ("failsafe", r#"{"pg-a":"http://10.0.0.1:8008/patroni"}"#.into()),
        ("somebody/elses", vec![0xff]),
    ]));
    let leader = cluster.leader.as_ref().unwrap();
    assert_eq!((leader.term, leader.revision, leader.lease), (Term(3), Revision(5), Some(LeaseId(9))));
    assert!(cluster.leader_member().is_none(), "a leader without a member key is a leader all the same");
    let names: Vec<&str> = cluster.members.keys().map(MemberName::as_str).collect();
    assert_eq!(names, ["pg-b", "pg-c"]);
    let member = &cluster.members[&MemberName::new("pg-b").unwrap()];
    assert!(member.is_running() && member.tags.clonefrom() && member.timeline == Some(TimelineId(3)));
    assert_eq!(cluster.timeline(), Some(TimelineId(2)));
    assert_eq!(cluster.active_sync().unwrap().quorum, 1);
    assert_eq!(cluster.failover_request(), None);
    assert_eq!(cluster.config.unwrap().value, ConfigDocument::Valid(json!({"ttl": 30, "loop_wait": 10})));
    assert_eq!((cluster.revision, cluster.status.unwrap().value.optime), (Revision(7), Lsn(67_109_024)));
    assert_eq!(cluster.failsafe.unwrap().value.0.len(), 1);
}

#[test]
fn a_bad_value_is_empty_for_its_key_alone() {
    for bad in ["", "nonsense", "[", "7", "null", "\"x\"", "[[]]", "\u{0}"] {
        let keys = [
            "config",
            "sync",
            "status",
            "history",
            "failsafe",
            "failover",
            "members/a",
            "leader",
            "initialize",
        ];
        let mut values: BTreeMap<&str, Vec<u8>> = keys.map(|key| (key, bad.into())).into();
        values.insert("members/b", br#"{"state":"running"}"#.to_vec());
        let cluster = codec::decode(&snapshot(values));
        assert!(cluster.members[&MemberName::new("b").unwrap()].is_running(), "{bad:?}");
        assert_eq!(cluster.config.unwrap().value, ConfigDocument::Invalid, "{bad:?}");
        assert_eq!(cluster.sync.unwrap().value, SyncState::default(), "{bad:?}");
        assert_eq!((cluster.history, cluster.failsafe), (None, None), "{bad:?}");
    }
    assert_eq!(decode("initialize", "").initialize.unwrap().value, Initialize::InProgress);
    assert_eq!(decode("initialize", "12").initialize.unwrap().value, Initialize::Invalid("12".into()));
    assert!(decode("leader", "").is_unlocked());
}

#[test]
fn the_old_position_is_read_only_without_a_status() {
    assert_eq!(decode("optime/leader", "4096").optime(), Lsn(4096));
    let both = snapshot([("optime/leader", "4096".into()), ("status", r#"{"optime":8192}"#.into())]);
    assert_eq!(codec::decode(&both).optime(), Lsn(8192));
}

fn name() -> impl Strategy<Value = MemberName> {
    "[a-zA-Z0-9_.-]{1,12}".prop_map(|text| MemberName::new(text).unwrap())
}

fn names() -> impl Strategy<Value = BTreeSet<MemberName>> {
    collection::btree_set(name(), 0..5)
}

fn lsn() -> impl Strategy<Value = Lsn> {
    (1..=u64::MAX).prop_map(Lsn)
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from)
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that nobody of us knows.
fn foreign() -> impl Strategy<Value = Map<String, Value>> {
    collection::btree_map("x_[a-z]{1,4}", json_value(), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn document() -> impl Strategy<Value = MemberDocument> {
    let words = (sample::select(PostgresState::ALL), sample::select(Role::ALL), any::<u32>());
    let flags = any::<(bool, bool, bool)>();
    let positions = (option::of(lsn()), option::of(lsn()), option::of(lsn()), option::of(1..u32::MAX));
    let rest = (option::of(sample::select(ReplicationState::ALL)), option::of("[a-z]{1,9}"), foreign());
    (words, flags, positions, rest).prop_map(
        |((state, role, level), (checkpoint_pending, pending_restart, pause), positions, rest)| {
            let bellwether = PeerProtocol { version: "0.1.0".into(), level };
            MemberDocument {
                checkpoint_pending,
                pending_restart,
                pending_restart_reason: pending_restart.then(|| json!({"port": {"old_value": "1"}})),
                pause,
                xlog_location: positions.0,
                receive_lsn: positions.1,
                replay_lsn: positions.2,
                timeline: positions.3.map(TimelineId),
                replication_state: rest.0,
                proxy_url: rest.1.clone(),
                scheduled_restart: rest.1.map(|text| json!({ "schedule": text })),
                tags: Tags(rest.2.into_iter().collect()),
                ..MemberDocument::new("postgres://h:1/d", "http://h:2/patroni", state, role, bellwether)
            }
        },
    )
}

fn history() -> impl Strategy<Value = History> {
    let times = option::of("[0-9]{4}-01-01T00:00:00\\+00:00");
    let entry = (1..u32::MAX, lsn(), ".{0,8}", times, option::of(name())).prop_map(
        |(timeline, end, reason, promoted_at, new_leader)| HistoryEntry {
            timeline: TimelineId(timeline),
            end,
            reason,
            promoted_at,
            new_leader,
        },
    );
    collection::vec(entry, 0..4).prop_map(History)
}

proptest! {
    #[test]
    fn a_member_document_is_read_as_it_was_meant(document in document()) {
        let text = document.encode(None);
        let cluster = decode("members/a", text.as_str());
        let member = &cluster.members[&MemberName::new("a").unwrap()];
        prop_assert_eq!(member.conn_url.as_deref(), Some(document.conn_url.as_str()));
        prop_assert_eq!(member.api_url.as_deref(), Some(document.api_url.as_str()));
        prop_assert_eq!(&member.proxy_url, &document.proxy_url);
        prop_assert_eq!((member.state, member.role), (Some(document.state), Some(document.role)));
        prop_assert_eq!(member.version.as_deref(), Some(codec::COMPATIBLE_VERSION));
        prop_assert_eq!(member.bellwether.as_ref(), Some(&document.bellwether));
        prop_assert_eq!(&member.tags, &document.tags.published());
        prop_assert_eq!(member.timeline, document.timeline);
        prop_assert_eq!(member.xlog_location, document.xlog_location);
        prop_assert_eq!((member.receive_lsn, member.replay_lsn), (document.receive_lsn, document.replay_lsn));
        prop_assert_eq!(member.replication_state, document.replication_state);
        prop_assert_eq!(member.pending_restart, document.pending_restart);
        prop_assert_eq!(&member.pending_restart_reason, &document.pending_restart_reason);
        prop_assert_eq!(&member.scheduled_restart, &document.scheduled_restart);
        prop_assert_eq!(member.checkpoint_after_promote, document.checkpoint_pending.then_some(false));
        prop_assert_eq!(member.pause, document.pause);
        prop_assert!(!codec::differs(Some(text.as_bytes()), &document.encode(Some(text.as_bytes()))));
    }

    #[test]
    fn fields_that_we_do_not_know_survive_every_rewrite(
        document in document(), voters in names(), optime in lsn(), foreign in foreign()
    ) {
        let previous = Value::Object(foreign.clone()).to_string();
        let previous = Some(previous.as_bytes());
        let sync = SyncState { leader: voters.first().cloned(), quorum: 1, voters };
        let status = Status { optime, slots: None, retain_slots: None };
        for text in [
            document.encode(previous),
            codec::encode_sync(&sync, previous),
            codec::encode_status(&status, previous),
            codec::encode_optime(optime, previous),
        ] {
            let written: Value = serde_json::from_str(&text).unwrap();
            for (key, value) in &foreign {
                prop_assert_eq!(&written[key], value);
            }
            prop_assert!(!text.contains("\": "), "not compact: {}", text);
        }
    }

    #[test]
    fn every_other_value_is_read_as_it_was_written(
        leader in name(), voters in names(), quorum: u32, optime in lsn(), history in history(),
        slots in option::of(collection::btree_map("[a-z_]{1,6}", lsn(), 0..3)),
        retained in option::of(collection::btree_set("[a-z_]{1,6}", 0..3)),
        candidate in option::of(name()), settings in foreign(),
    ) {
        let sync = SyncState { leader: Some(leader.clone()), quorum, voters: voters.clone() };
        prop_assert_eq!(decode(keys::SYNC, codec::encode_sync(&sync, None)).sync.unwrap().value, sync);
        let status = Status { optime, slots, retain_slots: retained };
        prop_assert_eq!(decode(keys::STATUS, codec::encode_status(&status, None)).status.unwrap().value, status);
        prop_assert_eq!(decode(keys::HISTORY, codec::encode_history(&history)).history.unwrap().value, history);
        let claimant = leader.clone();
        let request = FailoverRequest {
            leader: Some(leader),
            candidate,
            scheduled_at: Some(codec::parse_schedule("2026-03-01T02:00:00+01:00")),
        };
        let read = decode(keys::FAILOVER, codec::encode_failover(&request)).failover.unwrap().value;
        prop_assert_eq!(read, Some(request));
        let failsafe = FailsafeMap(voters.into_iter().map(|name| (name, "http://x".to_owned())).collect());
        let read = decode(keys::FAILSAFE, codec::encode_failsafe(&failsafe)).failsafe.unwrap().value;
        prop_assert_eq!(read, failsafe);
        let claim = TimelineClaim { timeline: TimelineId(quorum.max(1)), leader: claimant };
        let read = decode(keys::TIMELINE, codec::encode_timeline_claim(&claim)).timeline_claim.unwrap().value;
        prop_assert_eq!(read, Some(claim));
        let settings = Value::Object(settings);
        let read = decode(keys::CONFIG, codec::encode_config(&settings)).config.unwrap().value;
        prop_assert_eq!(read, ConfigDocument::Valid(settings));
    }

    #[test]
    fn reading_never_fails(bytes: Vec<u8>, value in json_value()) {
        let all = [
            "initialize", "leader", "members/a", "config", "failover", "sync", "status", "optime/leader",
            "history", "failsafe", "timeline", "other",
        ];
        for content in [bytes, value.to_string().into_bytes()] {
            let cluster = codec::decode(&snapshot(all.map(|key| (key, content.clone()))));
            // Whatever was read can be asked anything.
            let _ = (cluster.timeline(), cluster.optime(), cluster.active_sync(), cluster.leader_member());
        }
    }
}
