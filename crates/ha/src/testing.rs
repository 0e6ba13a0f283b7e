//! Builders of views: start from a healthy cluster and state only what differs.
//!
//! The cluster has the members `a` (leader), `b` and `c`, all running, at the same position on timeline 1. The clock stands at
//! 100,000 s, the lease was renewed a moment ago, the guardian is armed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bellwether_types::{
    Lsn, MemberName, PostgresState, Revision, Role, SystemId, Tags, Term, TimelineId, Timestamp, WallTime,
    cluster::{
        Cluster, ConfigDocument, FailoverRequest, FailsafeMap, History, HistoryEntry, Initialize, Keyed,
        Leader, Member, Status, SyncState, TimelineClaim,
    },
    settings::{Settings, SyncMode},
    takeover::Word,
};
use serde_json::{Value, json};

use crate::{
    Action, Decision, View, decide, lease,
    memory::{Claimed, Memory},
    view::{
        ArchiveRecovery, AsOf, Control, ControlState, DataDirectory, Divergence, FailsafeView, Fencing,
        FinishedJob, Guardian, Job, JobKind, JobOutcome, JobPhase, LeaseView, Me, PeerAnswer, PeerReport,
        Peers, PostgresView, Process, Request, RequestKind, Server, Slot, StoreView, TakeoverView, Upstream,
        Watchdog,
    },
};

/// When the story begins.
pub const NOW: Timestamp = Timestamp::from_millis(100_000_000);
/// Where everybody is.
pub const POSITION: Lsn = Lsn(0x500_0000);
/// The cluster's identity.
pub const SYSTEM_ID: &str = "7421833905512378144";

/// A member's name.
///
/// # Panics
/// If the text is no name.
pub fn name(text: &str) -> MemberName {
    MemberName::new(text).expect("a name")
}

fn system_id() -> SystemId {
    SYSTEM_ID.parse().expect("a system identifier")
}

/// A view in the making.
#[derive(Clone, Debug)]
pub struct Scene {
    pub view: View,
    pub cluster: Cluster,
}

/// `a`, the healthy leader.
pub fn leader() -> Scene {
    Scene::of("a")
}

/// `b`, a healthy replica of `a`.
pub fn replica() -> Scene {
    Scene::of("b")
}

/// `b`, in a cluster whose leader `a` has vanished together with its member key.
pub fn orphan() -> Scene {
    replica().without_leader()
}

/// `a` with an empty data directory, in a store without any key.
pub fn newcomer() -> Scene {
    let mut scene = Scene::of("a").empty();
    scene.cluster = Cluster { revision: Revision(1), ..Cluster::default() };
    scene.view.lease = LeaseView::NotHeld;
    scene.view.fencing.guardian = Guardian::Ready;
    scene.view.memory = Memory::default();
    scene
}

impl Scene {
    /// The healthy cluster as `me` sees it.
    pub fn of(me: &str) -> Self {
        let settings = Settings {
            ttl: Duration::from_secs(5),
            loop_wait: Duration::from_secs(1),
            retry_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        let is_leader = me == "a";
        let view = View {
            now: NOW,
            wall: WallTime::from_unix_millis(1_800_000_000_000),
            me: Me {
                name: name(me),
                tags: Tags::default(),
                api_url: format!("http://{me}:8008/patroni"),
                conn_url: format!("postgres://{me}:5432/postgres"),
                may_bootstrap: true,
                clones_without_leader: false,
                has_pre_promote: false,
            },
            settings,
            store: StoreView {
                cluster: None,
                confirmed_at: NOW,
                unavailable_since: None,
                multi_key_transactions: true,
                owns_claim: false,
            },
            lease: if is_leader { held(NOW) } else { LeaseView::NotHeld },
            postgres: postgres(me, is_leader),
            peers: Peers::default(),
            failsafe: FailsafeView::default(),
            takeover: TakeoverView::default(),
            fencing: Fencing {
                guardian: if is_leader { armed(NOW) } else { Guardian::Ready },
                watchdog: Watchdog::Off,
            },
            job: None,
            last_job: None,
            requests: Vec::new(),
            stopping: false,
            memory: Memory::default(),
        };
        let mut scene = Self { view, cluster: cluster() };
        scene.view.memory.callback_fired = true;
        let role = if is_leader { Role::Primary } else { Role::Replica };
        scene.view.memory.announced_role = Some(role);
        scene.view.memory.followed = (!is_leader).then(|| (name("a"), Some(TimelineId(1))));
        scene.view.memory.last_healthy = Some(Arc::new(scene.cluster.clone()));
        scene
    }

    /// The finished view.
    pub fn build(self) -> View {
        let Self { mut view, cluster } = self;
        if view.store.cluster.is_none() {
            view.store.cluster = Some(Arc::new(cluster));
        }
        view
    }

    /// What is decided in it.
    pub fn decide(&self) -> Decision {
        decide(&self.clone().build())
    }

    // --- anything ---

    pub fn view(mut self, change: impl FnOnce(&mut View)) -> Self {
        change(&mut self.view);
        self
    }

    pub fn cluster(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        change(&mut self.cluster);
        self
    }

    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.view.settings);
        self
    }

    pub fn memory(mut self, change: impl FnOnce(&mut Memory)) -> Self {
        change(&mut self.view.memory);
        self
    }

    /// The server's last answer.
    ///
    /// # Panics
    /// If the scene has no running server.
    pub fn server(mut self, change: impl FnOnce(&mut Server)) -> Self {
        change(self.view.postgres.server.as_mut().expect("a running server"));
        self
    }

    /// What a member publishes.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member(mut self, member: &str, change: impl FnOnce(&mut Member)) -> Self {
        change(self.cluster.members.get_mut(&name(member)).expect("a member"));
        self
    }

    /// Time passes, and store and server keep answering.
    pub fn later(mut self, by: Duration) -> Self {
        self.view.now = self.view.now + by;
        self.view.wall.unix_millis += i64::try_from(by.as_millis()).expect("a short time");
        self.view.store.confirmed_at = self.view.now;
        if let Some(server) = &mut self.view.postgres.server {
            server.answered_at = self.view.now;
        }
        self
    }

    /// The server has not answered for so long.
    pub fn hanging_for(self, silence: Duration) -> Self {
        let answered_at = self.view.now.saturating_sub(silence);
        self.server(|server| server.answered_at = answered_at)
    }

    /// The next tick of the same member: with what it remembers.
    pub fn after(self, decision: &Decision) -> Self {
        self.memory(|memory| *memory = decision.memory.clone())
    }

    // --- the store ---

    /// Nobody holds the lock; the key of the old leader is gone too.
    pub fn without_leader(mut self) -> Self {
        if let Some(leader) = self.cluster.leader.take() {
            if leader.name != self.view.me.name {
                self.cluster.members.remove(&leader.name);
            }
            self.cluster.revision = Revision(200);
        }
        self.view.memory.unlocked_since = Some(self.view.now);
        self
    }

    /// The lock is free, and all members are there.
    pub fn unlocked(mut self) -> Self {
        self.cluster.leader = None;
        self.cluster.revision = Revision(200);
        self
    }

    pub fn leader_is(mut self, leader: &str) -> Self {
        self.cluster.leader =
            Some(Leader { name: name(leader), term: Term(150), revision: Revision(150), lease: None });
        self.cluster.revision = Revision(200);
        self
    }

    /// The store has not answered for so long.
    pub fn silent_for(mut self, silence: Duration) -> Self {
        self.view.store.unavailable_since = Some(self.view.now.saturating_sub(silence));
        self.view.store.confirmed_at = self.view.now.saturating_sub(silence);
        if let LeaseView::Held { unavailable_since, .. } = &mut self.view.lease {
            *unavailable_since = Some(self.view.now.saturating_sub(silence));
        }
        self
    }

    pub fn request(mut self, leader: Option<&str>, candidate: Option<&str>) -> Self {
        let request =
            FailoverRequest { leader: leader.map(name), candidate: candidate.map(name), scheduled_at: None };
        self.cluster.failover = Some(Keyed { value: Some(request), revision: Revision(130) });
        self
    }

    pub fn sync(mut self, mode: SyncMode, leader: &str, voters: &[&str], quorum: u32) -> Self {
        self.view.settings.synchronous_mode = mode;
        let voters = voters.iter().map(|voter| name(voter)).collect();
        let value = SyncState { leader: Some(name(leader)), quorum, voters };
        self.cluster.sync = Some(Keyed { value, revision: Revision(120) });
        self
    }

    pub fn history(mut self, timelines: u32) -> Self {
        let entries = (1..timelines)
            .map(|timeline| HistoryEntry {
                timeline: TimelineId(timeline),
                end: Lsn(0x300_0000 + u64::from(timeline)),
                reason: "no recovery target specified".to_owned(),
                promoted_at: Some("2026-01-05T10:00:00+00:00".to_owned()),
                new_leader: Some(name("a")),
            })
            .collect();
        self.cluster.history = Some(Keyed { value: History(entries), revision: Revision(90) });
        self
    }

    /// The number that the last winner of the lock took for its timeline.
    pub fn claimed(mut self, timeline: u32, by: &str) -> Self {
        let claim = TimelineClaim { timeline: TimelineId(timeline), leader: name(by) };
        self.cluster.timeline_claim = Some(Keyed { value: Some(claim), revision: Revision(140) });
        self
    }

    // --- the lease ---

    pub fn lease(mut self, lease: LeaseView) -> Self {
        self.view.lease = lease;
        self
    }

    pub fn rejected(self) -> Self {
        let at = self.view.now;
        self.lease(LeaseView::Rejected { at })
    }

    /// This member holds the lock, whatever it is doing.
    pub fn holding(mut self) -> Self {
        let me = self.view.me.name.clone();
        self = self.leader_is(me.as_str());
        self.view.lease = held_in_term(self.view.now, Term(150));
        self.view.fencing.guardian = armed(self.view.now);
        self.view.memory.claimed = Some(Claimed { timeline: TimelineId(2), used: false });
        self
    }

    // --- PostgreSQL ---

    pub fn empty(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.data = DataDirectory::Empty;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Stopped;
        postgres.role = Role::Uninitialized;
        postgres.system_id = None;
        postgres.control = None;
        postgres.server = None;
        postgres.upstream = None;
        self
    }

    /// The postmaster has ended without being told to.
    pub fn crashed(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Crashed;
        postgres.server = None;
        let was_primary = postgres.role == Role::Primary;
        postgres.control = Some(control(if was_primary {
            ControlState::InProduction
        } else {
            ControlState::InArchiveRecovery
        }));
        self
    }

    /// PostgreSQL was stopped in an orderly way.
    pub fn stopped(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Stopped;
        postgres.server = None;
        let was_standby = postgres.role == Role::Replica;
        let state = if was_standby { ControlState::ShutDownInRecovery } else { ControlState::ShutDown };
        postgres.control = Some(control(state));
        self
    }

    /// The local server runs as a primary.
    pub fn as_primary(self) -> Self {
        self.view(|view| {
            view.postgres.role = Role::Primary;
            view.postgres.upstream = None;
        })
        .server(|server| {
            server.in_recovery = false;
            server.streaming = false;
        })
    }

    pub fn job(mut self, kind: JobKind) -> Self {
        self.view.job = Some(Job { kind, since: self.view.now, phase: JobPhase::Working });
        self
    }

    pub fn job_in(mut self, kind: JobKind, phase: JobPhase) -> Self {
        self.view.job = Some(Job { kind, since: self.view.now, phase });
        self
    }

    /// A job of this kind was decided on and has ended so now.
    pub fn ended(mut self, kind: JobKind, outcome: JobOutcome) -> Self {
        self.view.job = None;
        self.view.memory.jobs.insert(kind.clone(), self.view.now);
        self.view.last_job = Some(FinishedJob { kind, ended_at: self.view.now, outcome });
        self
    }

    pub fn asked(mut self, kind: RequestKind) -> Self {
        self.view.requests.push(Request { id: 7, kind });
        self
    }

    pub fn slot(self, slot: &str, change: impl FnOnce(&mut Slot)) -> Self {
        let mut slot = Slot {
            name: slot.to_owned(),
            physical: true,
            temporary: false,
            active: true,
            restart_lsn: Some(POSITION),
            ..Slot::default()
        };
        change(&mut slot);
        self.server(|server| server.slots.push(slot))
    }

    pub fn divergence(mut self, change: impl FnOnce(&mut Divergence)) -> Self {
        let mut found = Divergence {
            checked_at: self.view.now,
            leader: name("a"),
            leader_is_primary: true,
            leader_timeline: TimelineId(1),
            leader_history: Vec::new(),
            local_timeline: TimelineId(1),
            local_history: Vec::new(),
            local_lsn: POSITION,
            local_was_primary: false,
            shutdown_checkpoint_end: None,
        };
        change(&mut found);
        self.view.postgres.divergence = Some(found);
        self
    }

    // --- peers ---

    /// The members were asked for the decision at hand and have answered so.
    pub fn answers(mut self, answers: &[(&str, PeerAnswer)]) -> Self {
        self.view.memory.need_peers_since = Some(self.view.now);
        self.view.peers.polled_at = Some(self.view.now);
        self.view.peers.answers = answers.iter().map(|(peer, answer)| (name(peer), answer.clone())).collect();
        self
    }
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
        takeover: Word::default(),
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

fn held_in_term(sent_at: Timestamp, term: Term) -> LeaseView {
    let limits = lease::limits(sent_at, Duration::from_secs(5));
    LeaseView::Held {
        until: limits.until,
        demote_at: limits.demote_at,
        term,
        revision: Revision(term.0),
        unavailable_since: None,
    }
}

fn armed(sent_at: Timestamp) -> Guardian {
    Guardian::Armed { until: lease::limits(sent_at, Duration::from_secs(5)).until }
}

fn control(state: ControlState) -> Control {
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

fn postgres(me: &str, is_leader: bool) -> PostgresView {
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

fn cluster() -> Cluster {
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

impl Decision {
    /// The actions that do something to the world, without what every tick publishes and without callbacks.
    pub fn deeds(&self) -> Vec<&Action> {
        let is_deed = |action: &&Action| {
            !matches!(
                action,
                Action::PublishMember { .. } | Action::WriteStatus { .. } | Action::RunCallback { .. }
            )
        };
        self.actions.iter().filter(is_deed).collect()
    }

    /// The code of the deciding reason.
    pub fn code(&self) -> &'static str {
        self.reasons[0].code()
    }

    /// Whether this rule was among those that fired.
    pub fn says(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code() == code)
    }
}
