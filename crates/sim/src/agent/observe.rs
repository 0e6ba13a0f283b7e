//! Builds the view: what this member knows now, with the age of everything.

use std::collections::BTreeSet;

use bellwether_ha::{
    View,
    view::{
        Control, DataDirectory, FailsafeView, Fencing, Guardian, JobKind, LocalHistory, Me, PostgresView,
        Process, Server, Standby, StoreView, answers_count_for,
        health::{Health, Stopped},
    },
};
use bellwether_types::{PostgresState, Role, Timestamp};

use crate::{
    bug::Bug,
    event::HostId,
    pg::{Files, Run},
    schedule::Nanos,
    world::World,
};

const SERVER_VERSION: u32 = 150_018;

impl World {
    pub(crate) fn observe(&mut self, host: HostId) -> View {
        let now = self.hosts[host].clock(self.now);
        self.refresh_postgres(host, now);
        self.listen(host);
        let health = Health { stopped: self.stopped_view(host), ..self.health(host) };
        let h = &self.hosts[host];
        let mind = &h.agent.mind;
        View {
            now,
            wall: h.wall(self.now),
            me: Me {
                name: self.names.of(host).clone(),
                tags: h.tags.clone(),
                api_url: self.names.api_url(host),
                conn_url: self.names.conn_url(host),
                may_bootstrap: true,
                clones_without_leader: self.scenario.has_backup,
                has_pre_promote: self.scenario.pre_promote,
                failed_bootstraps: h.failed_bootstraps,
            },
            settings: mind.settings.clone(),
            store: StoreView {
                cluster: mind.cluster.clone(),
                confirmed_at: mind.confirmed_at,
                unavailable_since: mind.unavailable_since,
                multi_key_transactions: true,
                owns_claim: self.owns_claim(host),
            },
            lease: mind.lease_view.clone(),
            postgres: self.postgres_view(host),
            peers: mind.rounds.peers.clone(),
            failsafe: FailsafeView { accepted: h.acceptance.clone(), round: mind.rounds.failsafe.clone() },
            takeover: self.takeover_view(host),
            fencing: Fencing { guardian: self.guardian_view(host), watchdog: self.watchdog_view(host) },
            health,
            job: mind.job.as_ref().map(|job| job.shown.clone()),
            last_job: mind.last_job.clone(),
            requests: mind.requests.clone(),
            stopping: mind.stopping,
            memory: mind.memory.clone(),
        }
    }

    fn stopped_view(&self, host: HostId) -> Stopped {
        // Where a bug is looked for, nobody hands over: the bug shows in what comes of a leader that stays.
        let is_told = self.hosts[host].pg.frozen && self.bug == Bug::None;
        if is_told { Stopped::Everything } else { Stopped::Nothing }
    }

    fn owns_claim(&self, host: HostId) -> bool {
        let mind = &self.hosts[host].agent.mind;
        let claimed_with = mind.cluster.as_ref().and_then(|cluster| cluster.initialize_lease);
        claimed_with.is_some() && claimed_with == mind.lease
    }

    fn guardian_view(&self, host: HostId) -> Guardian {
        let guardian = &self.hosts[host].guardian;
        if !self.has_guardian(host) {
            return Guardian::Off;
        }
        if !guardian.alive {
            return Guardian::Dead;
        }
        let founds = self.hosts[host].agent.mind.memory.bootstrapping.is_some();
        if !self.bug.arms_guardian() || (founds && !self.bug.guards_founders()) {
            return Guardian::Armed { until: Timestamp::MAX };
        }
        match guardian.deadline {
            Some(until) => Guardian::Armed { until },
            None => Guardian::Ready,
        }
    }

    /// The monitoring query, and keeping state and role truthful.
    fn refresh_postgres(&mut self, host: HostId, now: Timestamp) {
        if self.is_answer_late(host) {
            return;
        }
        let h = &self.hosts[host];
        let Some(server) = h.pg.server() else {
            self.hosts[host].agent.mind.last_server = None;
            return;
        };
        if h.pg.frozen {
            return;
        }
        let in_recovery = server.in_recovery;
        let stopping = server.stop.is_some();
        self.consume(host);
        let answer = (!stopping).then(|| self.monitor(host, now));
        let mind = &mut self.hosts[host].agent.mind;
        if let Some(answer) = answer {
            mind.last_server = Some(answer);
            mind.state = PostgresState::Running;
            match (mind.role, in_recovery) {
                (Role::Promoted, false) => mind.role = Role::Primary,
                (Role::Replica | Role::Demoted | Role::Uninitialized, false) => mind.role = Role::Primary,
                _ => {}
            }
        }
    }

    /// PostgreSQL has not answered for so long that its last answer is not told to others.
    pub(crate) fn is_silent(&self, host: HostId) -> bool {
        let h = &self.hosts[host];
        h.pg.frozen && self.bug.doubts_old_answers() && self.silence(host) > self.answers_count_for()
    }

    /// How long PostgreSQL has not answered its agent.
    pub(crate) fn silence(&self, host: HostId) -> Nanos {
        let h = &self.hosts[host];
        let last = h.agent.mind.last_server.as_ref().map_or(0, |last| h.virtual_time(last.answered_at));
        self.now.saturating_sub(last)
    }

    pub(crate) fn answers_count_for(&self) -> Nanos {
        let limit = answers_count_for(&self.scenario.settings);
        u64::try_from(limit.as_nanos()).expect("seconds")
    }

    /// One answer to the monitoring query.
    fn monitor(&self, host: HostId, now: Timestamp) -> Server {
        let h = &self.hosts[host];
        let pg = &h.pg;
        let server = pg.server().expect("the caller looked");
        let own = self.is_reading_own_wal(host);
        let flushed = self.wal.lsn(pg.data.flushed);
        let senders = self.senders_of(host);
        let standby = |(i, id): (usize, &u32)| {
            let connection = &self.connections[*id as usize];
            let acked = connection.acked.map(|at| self.wal.lsn(at));
            Standby {
                application_name: self.names.of(connection.down).as_str().to_owned(),
                connection: id.to_string(),
                state: if connection.streaming { "streaming" } else { "catchup" }.to_owned(),
                sync_state: server.rule.state(i, &senders).to_owned(),
                write: acked,
                flush: acked,
                replay: acked,
            }
        };
        Server {
            answered_at: now,
            in_recovery: server.in_recovery,
            timeline: (h.troubles.no_connections == 0).then(|| self.wal.timeline(pg.data.flushed)),
            // `pg_last_wal_receive_lsn()` tells what was flushed, not what has arrived.
            position: own.unwrap_or(flushed),
            received: own.unwrap_or(flushed),
            replayed: self.replayed(host),
            has_read_own_wal: own.is_none(),
            replay_paused: server.replay_paused,
            streaming: server.receiver.is_some() || self.streams_from_remote(host),
            receiver_source: None,
            synchronous_standby_names: server.rule.text.clone(),
            synchronous_commit: "on".to_owned(),
            standbys: server.senders.iter().enumerate().map(standby).collect(),
            slots: self.slots_shown(host),
            hot_standby_feedback: pg.data.feedback,
            wal_level: "logical".to_owned(),
            max_replication_slots: if h.troubles.no_room_for_slots > 0 { 1 } else { 10 },
            kept_wal: 0,
        }
    }

    fn postgres_view(&self, host: HostId) -> PostgresView {
        let h = &self.hosts[host];
        let (pg, mind) = (&h.pg, &h.agent.mind);
        let present = pg.data.files == Files::Present;
        PostgresView {
            data: match pg.data.files {
                Files::Present if self.damaged_view(host).is_some() => {
                    self.damaged_view(host).expect("just seen")
                }
                Files::Empty => DataDirectory::Empty,
                // The marks that the agent left beside the directory.
                Files::Partial => DataDirectory::Interrupted { by: JobKind::Clone },
                Files::Present if pg.data.in_the_making => {
                    DataDirectory::Interrupted { by: JobKind::Bootstrap }
                }
                Files::Present if pg.data.torn => DataDirectory::Interrupted { by: JobKind::Rewind },
                Files::Present => DataDirectory::Present,
            },
            founding: pg.data.founding.clone(),
            refuses_login: None,
            process: self.process_view(host),
            state: mind.state,
            role: mind.role,
            system_id: self.shown_system_id(host).filter(|_| present),
            server_version: SERVER_VERSION,
            control: (present && pg.server().is_none() && self.damaged_view(host).is_none())
                .then(|| self.control_view(host)),
            server: mind.last_server.clone(),
            upstream: pg.data.upstream.clone(),
            pending_restart: false,
            divergence: mind.divergence.clone(),
            sync_names_in_files: present.then(|| pg.data.sync_names.clone()),
            local_history: self.local_history(host),
            checkpointer_read_at: mind
                .checkpointer_read
                .filter(|(generation, _)| *generation == pg.generation)
                .map(|(_, at)| at),
            archives_wal: false,
            postmaster_started_at: pg.server().is_some().then(|| pg.generation.to_string()),
            feedback_forced: pg.data.feedback,
            leader_slots: mind.leader_slots.clone(),
            unusable_slots: BTreeSet::new(),
        }
    }

    fn process_view(&self, host: HostId) -> Process {
        let h = &self.hosts[host];
        match &h.pg.run {
            Run::Down if h.agent.mind.sweeping => Process::Stopping { since: h.clock(self.now) },
            Run::Down => Process::NotRunning,
            Run::Starting { since, .. } => Process::Starting { since: h.clock(*since) },
            Run::Up(server) => match server.stop {
                Some(stop) => Process::Stopping { since: h.clock(stop.since) },
                None => Process::Running { since: h.clock(server.since) },
            },
        }
    }

    pub(crate) fn control_view(&self, host: HostId) -> Control {
        let data = &self.hosts[host].pg.data;
        let control = &data.control;
        Control {
            state: control.state,
            timeline: control.timeline,
            checkpoint: control.checkpoint,
            minimum_recovery_end: control.minimum_recovery.map(|at| self.wal.lsn(at)),
            minimum_recovery_timeline: control.minimum_recovery.map(|at| self.wal.timeline(at)),
            rewindable: self.scenario.rewindable,
            has_recovery_signal: data.standby_signal,
            has_backup_label: data.backup_label,
        }
    }

    fn local_history(&self, host: HostId) -> Option<LocalHistory> {
        let pg = &self.hosts[host].pg;
        pg.server()?;
        let switches = self.wal.history(pg.data.flushed);
        (!switches.is_empty()).then(|| LocalHistory {
            timeline: self.wal.timeline(pg.data.flushed),
            switches: switches.to_vec(),
            written_at: "2026-01-01T00:00:00+00:00".to_owned(),
        })
    }
}
