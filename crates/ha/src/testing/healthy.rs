//! What the healthy cluster consists of: its members, what the store holds, what the local PostgreSQL says.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    Lsn, PostgresState, Revision, Role, SystemId, Term, TimelineId, Timestamp,
    cluster::{Cluster, ConfigDocument, FailsafeMap, Initialize, Keyed, Leader, Member, Status},
    takeover::Word,
};
use serde_json::{Value, json};

use super::{NOW, POSITION, SYSTEM_ID, name};
use crate::{
    lease,
    view::{
        ArchiveRecovery, AsOf, Control, ControlState, DataDirectory, Guardian, LeaseView, PeerAnswer,
        PeerReport, PostgresView, Process, Server, Slot, Upstream,
    },
};

fn system_id() -> SystemId {
    SYSTEM_ID.parse().expect("a system identifier")
}

/// A healthy standby's answer, at the common position.
pub fn standby() -> PeerReport {
    PeerReport {
        role: Role::Replica,
        is_running_primary: false,
        position: Some(POSITION),
        as_of: AsOf::Asked,
        timeline: Some(TimelineId(1)),
        nofailover: false,
        failover_priority: 1,
        watchdog_failed: false,
        at_rest: false,
        holds_lock: false,
        system_id: Some(system_id()),
        takeover: Word::default(),
        unfit: false,
    }
}

/// The answer of a standby at another position.
pub fn standby_at(position: Lsn) -> PeerAnswer {
    PeerAnswer::Answered(PeerReport { position: Some(position), ..standby() })
}

pub fn silence() -> PeerAnswer {
    PeerAnswer::Unreachable { refused: false }
}

/// A lease of five seconds, renewed at `sent_at`.
pub fn held(sent_at: Timestamp) -> LeaseView {
    held_in_term(sent_at, Term(100))
}

pub(super) fn held_in_term(sent_at: Timestamp, term: Term) -> LeaseView {
    let limits = lease::limits(sent_at, Duration::from_secs(5));
    LeaseView::Held {
        until: limits.until,
        demote_at: limits.demote_at,
        term,
        revision: Revision(term.0),
        unavailable_since: None,
    }
}

pub(super) fn armed(sent_at: Timestamp) -> Guardian {
    Guardian::Armed { until: lease::limits(sent_at, Duration::from_secs(5)).until }
}

pub(super) fn control(state: ControlState) -> Control {
    Control {
        state,
        timeline: TimelineId(1),
        checkpoint: POSITION,
        minimum_recovery_end: None,
        minimum_recovery_timeline: None,
        rewindable: true,
        has_recovery_signal: matches!(
            state,
            ControlState::InArchiveRecovery | ControlState::ShutDownInRecovery
        ),
        has_backup_label: false,
    }
}

pub(super) fn postgres(me: &str, is_leader: bool) -> PostgresView {
    let slots = ["a", "b", "c"].into_iter().filter(|other| *other != me).map(|other| Slot {
        name: other.to_owned(),
        physical: true,
        temporary: false,
        active: is_leader,
        restart_lsn: Some(POSITION),
        ..Slot::default()
    });
    PostgresView {
        data: DataDirectory::Present,
        founding: None,
        refuses_login: None,
        process: Process::Running { since: Timestamp::from_millis(1000) },
        state: PostgresState::Running,
        role: if is_leader { Role::Primary } else { Role::Replica },
        system_id: Some(system_id()),
        server_version: 150_018,
        control: Some(control(if is_leader {
            ControlState::InProduction
        } else {
            ControlState::InArchiveRecovery
        })),
        server: Some(Server {
            answered_at: NOW,
            in_recovery: !is_leader,
            timeline: Some(TimelineId(1)),
            position: POSITION,
            has_read_own_wal: true,
            received: POSITION,
            replayed: POSITION,
            replay_paused: false,
            streaming: !is_leader,
            receiver_source: None,
            synchronous_standby_names: String::new(),
            synchronous_commit: "on".to_owned(),
            standbys: Vec::new(),
            slots: slots.collect(),
            hot_standby_feedback: true,
            wal_level: "logical".to_owned(),
            max_replication_slots: 10,
            kept_wal: 128 << 20,
        }),
        upstream: (!is_leader).then(|| upstream("a", me)),
        pending_restart: false,
        divergence: None,
        sync_names_in_files: None,
        local_history: None,
        checkpointer_read_at: Some(Timestamp::MAX),
        archives_wal: false,
        postmaster_started_at: Some("2026-11-22 01:00:00.000000+00:00".to_owned()),
        feedback_forced: false,
        leader_slots: None,
        unusable_slots: BTreeSet::new(),
    }
}

/// The upstream of `me` at `member`.
pub fn upstream(member: &str, me: &str) -> Upstream {
    Upstream {
        is_remote: false,
        archive: ArchiveRecovery::default(),
        member: name(member),
        conn_url: format!("postgres://{member}:5432/postgres"),
        slot: Some(me.to_owned()),
    }
}

/// A running member.
pub fn member(member: &str, role: Role) -> Member {
    Member {
        conn_url: Some(format!("postgres://{member}:5432/postgres")),
        api_url: Some(format!("http://{member}:8008/patroni")),
        state: Some(PostgresState::Running),
        role: Some(role),
        timeline: Some(TimelineId(1)),
        xlog_location: Some(POSITION),
        raw: Value::Null,
        ..Member::unknown(name(member))
    }
}

pub(super) fn cluster() -> Cluster {
    let members = [("a", Role::Primary), ("b", Role::Replica), ("c", Role::Replica)];
    let slots = ["a", "b", "c"].into_iter().map(|slot| (slot.to_owned(), POSITION)).collect();
    Cluster {
        revision: Revision(110),
        initialize: Some(Keyed { value: Initialize::Done(system_id()), revision: Revision(2) }),
        config: Some(Keyed { value: ConfigDocument::Valid(json!({"ttl": 5})), revision: Revision(3) }),
        leader: Some(Leader { name: name("a"), term: Term(100), revision: Revision(100), lease: None }),
        members: members.into_iter().map(|(text, role)| (name(text), self::member(text, role))).collect(),
        initialize_lease: None,
        founder: None,
        failover: None,
        sync: None,
        status: Some(Keyed {
            value: Status { optime: POSITION, slots: Some(slots), retain_slots: None },
            revision: Revision(105),
        }),
        history: None,
        failsafe: Some(Keyed {
            value: FailsafeMap(
                ["a", "b", "c"].map(|text| (name(text), format!("http://{text}:8008/patroni"))).into(),
            ),
            revision: Revision(4),
        }),
        takeover: None,
        timeline_claim: None,
    }
}
