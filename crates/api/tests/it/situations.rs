//! Hand-made statuses of a three-member cluster, `a` (leader), `b` and `c`, at [`NOW`]. Shared with the unit tests.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    ClusterName, Lsn, MemberName, PostgresState, ReplicationState, Revision, Role, Tags, Term, TimelineId,
    Timestamp, WallTime,
    cluster::{
        Cluster, ConfigDocument, FailsafeMap, History, HistoryEntry, Keyed, Leader, Member, Status, SyncState,
    },
    settings::{Settings, StandbyCluster, SyncMode},
    status::{NodeStatus, ServerStatus, WalSender, WalStatus},
};
use serde_json::json;

/// "Now" on the clock of the statuses.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// Where the leader's WAL ends.
pub(crate) const TIP: u64 = 0x0500_0100;

pub(crate) fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn keyed<T>(value: T) -> Keyed<T> {
    Keyed { value, revision: Revision(7) }
}

fn member(text: &str, port: u16) -> Member {
    let leads = text == "a";
    let mut member = Member::unknown(name(text));
    member.api_url = Some(format!("http://127.0.0.1:{port}/patroni"));
    member.conn_url = Some(format!("postgres://127.0.0.1:{}/postgres", port - 2576));
    member.state = Some(PostgresState::Running);
    member.role = Some(if leads { Role::Primary } else { Role::Replica });
    member.timeline = Some(TimelineId(3));
    member.xlog_location = Some(Lsn(TIP));
    let mut raw =
        json!({"state": "running", "role": if leads { "primary" } else { "replica" }, "timeline": 3});
    if !leads {
        member.receive_lsn = Some(Lsn(TIP));
        member.replay_lsn = Some(Lsn(TIP - 0x100));
        raw["replication_state"] = json!("streaming");
    }
    member.raw = raw;
    member
}

/// The store's content.
pub(crate) fn view() -> Cluster {
    let mut view = Cluster {
        leader: Some(Leader { name: name("a"), term: Term(5), revision: Revision(9), lease: None }),
        status: Some(keyed(Status { optime: Lsn(TIP), slots: None, retain_slots: None })),
        config: Some(keyed(ConfigDocument::Valid(json!({"ttl": 30, "loop_wait": 10, "note": "é"})))),
        history: Some(keyed(History(vec![
            HistoryEntry {
                timeline: TimelineId(1),
                end: Lsn(100),
                reason: "no recovery target specified".to_owned(),
                promoted_at: None,
                new_leader: None,
            },
            HistoryEntry {
                timeline: TimelineId(2),
                end: Lsn(200),
                reason: "no recovery target specified".to_owned(),
                promoted_at: Some("2026-11-20T10:00:00.123456+00:00".to_owned()),
                new_leader: Some(name("a")),
            },
        ]))),
        ..Cluster::default()
    };
    for (text, port) in [("a", 8008), ("b", 8009), ("c", 8010)] {
        view.members.insert(name(text), member(text, port));
    }
    view
}

fn server(in_recovery: bool) -> ServerStatus {
    let standby = WalStatus::Standby {
        received: Lsn(TIP),
        replayed: Lsn(TIP - 0x100),
        replayed_timestamp: Some("2026-11-22 01:00:00.000001+00:00".to_owned()),
        replayed_unix: Some(1_795_309_200.5),
        paused: false,
    };
    ServerStatus {
        asked_at: NOW.saturating_sub(Duration::from_secs(1)),
        server_version: 150_018,
        postmaster_start_time: "2026-11-21 09:30:00.250000+00:00".to_owned(),
        postmaster_start_unix: 1_795_253_400.25,
        in_recovery,
        timeline: Some(TimelineId(3)),
        wal: if in_recovery { standby } else { WalStatus::Primary { location: Lsn(TIP) } },
        replication_state: in_recovery.then_some(ReplicationState::Streaming),
        replays_own_wal: false,
        latest_end_lsn: in_recovery.then_some(Lsn(TIP)),
        replication: Vec::new(),
    }
}

/// `b`: a healthy streaming replica.
pub(crate) fn replica() -> NodeStatus {
    NodeStatus {
        cluster: ClusterName::new("demo").unwrap(),
        me: name("b"),
        version: "4.1.5".to_owned(),
        taken_at: NOW.saturating_sub(Duration::from_secs(1)),
        state: PostgresState::Running,
        role: Role::Replica,
        server: Some(server(true)),
        system_id: Some("7421833905512378144".parse().unwrap()),
        pending_restart: false,
        pending_restart_reason: json!(null),
        tags: Tags::default(),
        scheduled_restart: None,
        watchdog_failed: false,
        at_rest: false,
        alarms: Default::default(),
        measured: Default::default(),
        lease_until: None,
        store: Some(view()),
        store_last_seen: Some(WallTime::from_unix_millis(1_795_309_200_900)),
        settings: Settings::default(),
        config: json!({"ttl": 30}),
        failsafe_until: None,
        failsafe: Some(FailsafeMap([(name("a"), "http://127.0.0.1:8008/patroni".to_owned())].into())),
        takeover: Default::default(),
        next_tick_by: NOW + Duration::from_secs(60),
        reason: "no action. I am (b), a secondary, and following a leader (a)".to_owned(),
        reason_code: "following".to_owned(),
    }
}

/// `a`: the healthy leader.
pub(crate) fn leader() -> NodeStatus {
    let mut server = server(false);
    server.replication.push(WalSender {
        usename: "replicator".to_owned(),
        application_name: "b".to_owned(),
        client_addr: Some("127.0.0.1".to_owned()),
        state: "streaming".to_owned(),
        sync_state: "async".to_owned(),
        sync_priority: 0,
    });
    NodeStatus {
        me: name("a"),
        role: Role::Primary,
        server: Some(server),
        lease_until: Some(NOW + Duration::from_secs(20)),
        ..replica()
    }
}

/// The same, with PostgreSQL not running.
pub(crate) fn down(mut status: NodeStatus, state: PostgresState) -> NodeStatus {
    status.state = state;
    status.server = None;
    status
}

/// The same, without a view of the store.
pub(crate) fn without_store(mut status: NodeStatus) -> NodeStatus {
    status.store = None;
    status
}

pub(crate) fn paused(mut status: NodeStatus) -> NodeStatus {
    status.settings.pause = true;
    status
}

/// The same, with `b` in `/sync`.
pub(crate) fn sync_voter(mut status: NodeStatus, mode: SyncMode) -> NodeStatus {
    status.settings.synchronous_mode = mode;
    let voters = BTreeSet::from([name("b")]);
    let view = status.store.as_mut().unwrap();
    view.sync = Some(keyed(SyncState { leader: Some(name("a")), quorum: 0, voters }));
    status
}

pub(crate) fn in_standby_cluster(mut status: NodeStatus) -> NodeStatus {
    let source = StandbyCluster { host: Some("10.9.9.9".to_owned()), ..StandbyCluster::default() };
    status.settings.standby_cluster = Some(source);
    status
}

/// `a` as the leader of a standby cluster.
pub(crate) fn standby_leader() -> NodeStatus {
    NodeStatus { role: Role::StandbyLeader, server: Some(server(true)), ..in_standby_cluster(leader()) }
}

pub(crate) fn tagged(mut status: NodeStatus, tags: serde_json::Value) -> NodeStatus {
    status.tags = serde_json::from_value(tags).unwrap();
    status
}
