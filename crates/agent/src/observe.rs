//! What the agent knows, as a [`View`] for the decision core.

use std::time::Duration;

use bellwether_ha::{
    View,
    view::{ArchiveRecovery, FailsafeView, Fencing, Me, Peers, PostgresView, StoreView},
};
use bellwether_postgres::{datadir::DataDirState, postmaster::Postmaster};
use bellwether_types::{Role, Timestamp, program::ReplicaMethod};
use tracing::{debug, error, info, warn};

use crate::{agent::Agent, clock, event::Event, health, local::ControlFacts, monitor::NoAnswer, work};

/// How long a tick waits for the monitoring query before it goes on with the last answer.
const QUERY_PATIENCE: Duration = Duration::from_millis(300);

/// How long a server that was found running may take to say what it is before its files are believed.
const SILENCE: Duration = Duration::from_secs(3);

/// How long the data directory of a server that answers is taken to be as it was seen last.
const LIVED_IN_FOR: Duration = Duration::from_secs(30);

/// How long a killed process of PostgreSQL is waited for. One in uninterruptible sleep may take longer, but runs no code of its own.
const ORPHANS_GONE_WITHIN: Duration = Duration::from_secs(2);

impl Agent {
    /// Looks at the local server and its files.
    pub(crate) async fn observe(&mut self) {
        self.look_at_process().await;
        self.look_at_data_directory().await;
        match self.local.postmaster.clone() {
            Some(postmaster) => {
                self.look_at_signal_files().await;
                if self.may_answer(&postmaster).await {
                    self.ask_server(&postmaster).await;
                }
                self.look_at_health(&postmaster).await;
                self.guess_role_of_silent_server();
            }
            None => {
                self.health.lost_postmaster();
                self.look_at_control_file().await;
            }
        }
        self.derive_upstream();
        self.listen();
    }

    /// Seldom while a server answers that lives in it, and whenever else that could have changed it.
    async fn look_at_data_directory(&mut self) {
        let now = clock::now();
        let is_lived_in = self.local.answered
            && self.jobs.kind().is_none()
            && matches!(self.local.data, DataDirState::Present { .. });
        if !is_lived_in || now.since(self.local.data_seen_at) >= LIVED_IN_FOR {
            self.local.data = self.server.data_dir_state().await;
            self.local.data_seen_at = now;
        }
    }

    async fn look_at_process(&mut self) {
        if let Some(postmaster) = self.local.postmaster.clone() {
            if !postmaster.is_alive() {
                self.lose(&postmaster).await;
            }
            return;
        }
        // A job that starts or stops the server tells by itself.
        if self.jobs.kind().is_some() {
            return;
        }
        match self.server.attach().await {
            Ok(Some(postmaster)) => self.adopt(postmaster),
            Ok(None) => {}
            Err(error) => debug!(error = work::chain(&error), "could not look for a postmaster"),
        }
    }

    /// The postmaster is dead: ends what has outlived it, before anybody decides on its end.
    ///
    /// A busy backend goes on after its postmaster's death. It could still acknowledge a commit after we have given the lease
    /// away, and it holds the shared memory that the next start needs.
    pub(crate) async fn lose(&mut self, postmaster: &Postmaster) {
        // A server in the making by a user's command is started anew at the end.
        let expected = self.local.stopping_since.is_some() || self.local.custom_bootstrap;
        if !expected {
            warn!(pid = postmaster.id().pid, "PostgreSQL has ended without being told to");
            self.clock.server_lost(clock::now());
        }
        if let Err(error) = postmaster.kill_orphans(ORPHANS_GONE_WITHIN).await {
            error!(%error, pid = postmaster.id().pid, "a process of PostgreSQL has outlived its postmaster");
        }
        self.local.lost_postmaster(expected);
        self.monitor.disconnect();
        if !self.stopping {
            // One that another program started may have told the service manager that it stops.
            self.service_manager.ready();
        }
    }

    /// A guardian of an agent before us would end a standby at the deadline of the primary that it was.
    fn leave_earlier_guardians(&mut self) {
        let is_standby = self.local.observation.as_ref().is_some_and(|(_, seen)| seen.in_recovery);
        if is_standby && !self.earlier_guardians_gone {
            self.earlier_guardians_gone = true;
            let fencing = self.fencing.clone();
            tokio::task::spawn_blocking(move || fencing.dismiss_earlier());
        }
    }

    /// An agent before us may have died between marking timelines and the promotion. A server that receives WAL is not being promoted.
    async fn forget_skipped_timelines(&mut self) {
        let follows = self.local.server_view().is_some_and(|server| server.in_recovery && server.streaming);
        if self.local.forgot_skipped || !follows || self.jobs.kind().is_some() {
            return;
        }
        self.local.forgot_skipped = true;
        if let Err(error) = self.server.forget_skipped().await {
            warn!(error = work::chain(&error), "the marks of skipped timelines could not be removed");
        }
    }

    /// Takes a postmaster under our eyes, and hears of its end within milliseconds.
    pub(crate) fn adopt(&mut self, postmaster: Postmaster) {
        info!(pid = postmaster.id().pid, "postmaster found");
        let watched = postmaster.clone();
        let events = self.events_in.clone();
        let stop = self.children.child_token();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = watched.exited() => if ended.is_ok() {
                    let _ = events.send(Event::PostmasterExited(watched.id().clone())).await;
                },
                never = health::watch_for_stop(&watched, &events) => match never {},
            }
        });
        self.local.adopt(postmaster, clock::now());
    }

    async fn ask_server(&mut self, postmaster: &Postmaster) {
        match self.monitor.observe(postmaster.id(), QUERY_PATIENCE).await {
            Ok((asked_at, observation)) => {
                let is_news = !self.local.answered || self.local.role != Role::Primary;
                let became_primary = !observation.in_recovery && is_news;
                let came_back = !observation.in_recovery && self.clock.waits_for_server();
                if self.local.sync_names.is_none() && !observation.in_recovery {
                    self.local.sync_names = Some(observation.synchronous_standby_names.clone());
                }
                let is_first = !self.local.answered;
                self.local.observed(observation, asked_at);
                self.local.refuses_login = None;
                if is_first {
                    // A standby may have been started with more than is configured, or by an agent before us.
                    self.find_pending_restart();
                }
                if self.local.system_id.is_none() {
                    self.look_at_control_file().await;
                }
                self.read_local_history();
                self.leave_earlier_guardians();
                self.forget_skipped_timelines().await;
                if (became_primary || came_back) && self.local.role == Role::Primary {
                    self.clock.writable(clock::now());
                }
                if became_primary && self.local.role == Role::Primary {
                    self.settle_as_primary().await;
                }
            }
            // The last answer stays: "cannot tell" must not mean "not a primary".
            Err(NoAnswer::Pending) => {}
            Err(NoAnswer::Failed(error)) => {
                debug!(error = work::chain(&error), "the monitoring query failed");
                if let Some(refusal) = error.refusal() {
                    self.tell_refused_login(refusal).await;
                }
            }
        }
    }

    /// Once for each reason: nobody but an operator can mend it.
    async fn tell_refused_login(&mut self, why: String) {
        if self.local.refuses_login.as_ref() != Some(&why) {
            let (settings, user) = (&self.settings, &self.settings.superuser.username);
            let (address, line) = settings.local_login().await;
            warn!(
                why,
                user,
                %address,
                "PostgreSQL runs, but refuses the agent's own login, without which this member cannot be run: let `postgresql.pg_hba` have a \
                 line like `{line}`, see that `postgresql.authentication.superuser` is right, and reload the agent (SIGHUP)"
            );
            self.local.refuses_login = Some(why);
        }
    }

    /// The file that the promotion to the present timeline wrote, once per timeline.
    fn read_local_history(&mut self) {
        if let Some(timeline) = self.local.observation.as_ref().and_then(|(_, seen)| seen.timeline) {
            self.local.history.look(&self.settings.data_dir, timeline, &self.events_in);
        }
    }

    /// A server that has not answered yet comes up as what these files say, which may have changed since it was down.
    async fn look_at_signal_files(&mut self) {
        if self.local.observation.is_some() {
            return;
        }
        let exists = |name: &str| self.settings.data_dir.join(name).exists();
        let has_recovery_signal = exists("standby.signal") || exists("recovery.signal");
        match &mut self.local.control {
            Some(facts) => facts.has_recovery_signal = has_recovery_signal,
            None => self.look_at_control_file().await,
        }
    }

    pub(crate) async fn look_at_control_file(&mut self) {
        match self.server.control_data().await {
            Ok(data) => {
                let dir = &self.settings.data_dir;
                let exists = |name: &str| dir.join(name).exists();
                self.local.system_id = Some(data.system_id);
                self.local.control = Some(ControlFacts {
                    has_recovery_signal: exists("standby.signal") || exists("recovery.signal"),
                    has_backup_label: exists("backup_label"),
                    data,
                });
                self.guess_role_of_stopped_server();
            }
            Err(error) => {
                debug!(error = work::chain(&error), "the control file could not be read");
                if self.local.postmaster.is_none() {
                    self.local.control = None;
                    self.local.system_id = None;
                }
            }
        }
    }

    /// Nothing runs and nothing was known yet: the files tell what this server was.
    fn guess_role_of_stopped_server(&mut self) {
        if self.local.postmaster.is_some() || self.local.role != Role::Uninitialized {
            return;
        }
        let standby = self.local.control.as_ref().is_some_and(|facts| facts.has_recovery_signal);
        self.local.role = if standby { Role::Replica } else { Role::Demoted };
    }

    /// It was found running and does not answer, perhaps never will: "cannot tell" must not mean "not a primary".
    fn guess_role_of_silent_server(&mut self) {
        let is_silent = !self.local.answered && clock::now().since(self.local.postmaster_since) >= SILENCE;
        if is_silent && self.local.role == Role::Uninitialized && self.jobs.kind().is_none() {
            let exists = |name: &str| self.settings.data_dir.join(name).exists();
            let standby = exists("standby.signal") || exists("recovery.signal");
            self.local.role = if standby { Role::Replica } else { Role::Primary };
        }
    }

    /// The upstream of a standby that an earlier agent configured: its conninfo names the address of a member.
    fn derive_upstream(&mut self) {
        if self.local.upstream.is_some() {
            return;
        }
        let Some((_, observation)) = self.local.observation.as_ref().filter(|(_, seen)| seen.in_recovery)
        else {
            return;
        };
        let state = self.mirror.state();
        let Some(cluster) = state.cluster.as_ref() else { return };
        let setting = |key: &str| {
            let (_, rest) = observation.primary_conninfo.split_once(&format!("{key}="))?;
            Some(rest.split_whitespace().next()?.trim_matches('\'').to_owned())
        };
        let (Some(host), Some(port)) = (setting("host"), setting("port")) else { return };
        let found = cluster.members.values().find_map(|member| {
            let conn_url = member.conn_url.as_ref()?;
            let address = work::address_of(conn_url)?;
            (address.host == host && address.port.to_string() == port)
                .then(|| (member.name.clone(), conn_url.clone()))
        });
        self.local.upstream = found.map(|(member, conn_url)| bellwether_ha::view::Upstream {
            member,
            conn_url,
            slot: Some(observation.primary_slot_name.clone()).filter(|slot| !slot.is_empty()),
            is_remote: false,
            archive: ArchiveRecovery::default(),
        });
    }

    /// The whole picture at this instant.
    pub(crate) fn view(&self) -> View {
        let mirrored = self.mirror.state();
        let now = clock::now();
        let lease = self.lease.state();
        let claimed_with = mirrored.cluster.as_ref().and_then(|cluster| cluster.initialize_lease);
        View {
            now,
            wall: clock::wall(),
            me: self.me(),
            settings: self.effective.settings.clone(),
            store: StoreView {
                cluster: mirrored.cluster.clone(),
                confirmed_at: mirrored.confirmed_at,
                unavailable_since: self.store_silent_since,
                multi_key_transactions: self.store.capabilities().multi_key_transactions,
                owns_claim: claimed_with.is_some() && claimed_with == lease.lease,
            },
            lease: lease.view,
            postgres: self.postgres_view(),
            peers: Peers { polled_at: self.peers.polled_at, answers: self.peers.answers.clone() },
            failsafe: FailsafeView { accepted: self.failsafe.present(), round: self.failsafe_round.clone() },
            takeover: self.takeover_view(),
            fencing: Fencing { guardian: self.fencing.view(), watchdog: self.fencing.watchdog.view() },
            health: self.health_view(),
            job: self.jobs.view(),
            last_job: self.jobs.last(),
            requests: self.next_requests(),
            stopping: self.stopping,
            memory: self.memory.clone(),
        }
    }

    fn me(&self) -> Me {
        let config = &self.config;
        Me {
            name: config.name.clone(),
            tags: config.tags.clone(),
            api_url: config.restapi.api_url(),
            conn_url: self.conn_url(),
            may_bootstrap: config.bootstrap.is_given,
            clones_without_leader: self.settings.replica_methods.iter().any(ReplicaMethod::needs_no_source),
            has_pre_promote: self.settings.pre_promote.is_some(),
            failed_bootstraps: self.failed_bootstraps.view(),
        }
    }

    pub(crate) fn conn_url(&self) -> String {
        format!("postgres://{}/{}", self.settings.connect_address, self.settings.database)
    }

    fn postgres_view(&self) -> PostgresView {
        PostgresView {
            data: self.local.data_view(self.mark.job()),
            founding: self.mark.founding().map(str::to_owned),
            refuses_login: self.local.refuses_login.clone(),
            process: self.local.process(),
            state: self.local.state,
            role: self.local.role,
            system_id: self.local.system_id,
            server_version: self.local.server_version(),
            control: self.local.control_view(),
            server: self.local.server_view(),
            upstream: self.local.upstream.clone(),
            local_history: self.local_history().cloned(),
            archives_wal: self.archives_wal(),
            postmaster_started_at: self
                .local
                .observation
                .as_ref()
                .map(|(_, seen)| seen.postmaster_start_time.clone()),
            pending_restart: !self.local.pending_restart.is_empty(),
            divergence: self.local.divergence.clone(),
            sync_names_in_files: self.local.sync_names.clone(),
            checkpointer_read_at: self.local.checkpointer_read_at,
            feedback_forced: self.local.feedback_forced,
            leader_slots: self.local.slots.of_leader.clone(),
            unusable_slots: self.local.slots.unusable.clone(),
        }
    }

    /// As configured: a primary of a cluster that becomes a standby cluster must not be replaced before its last WAL is archived.
    fn archives_wal(&self) -> bool {
        let value = |name| self.settings.parameters.get(name).map_or("", String::as_str);
        ["on", "always"].contains(&value("archive_mode")) && !value("archive_command").is_empty()
    }

    /// Of the timeline that is written now, not of one before it.
    fn local_history(&self) -> Option<&bellwether_ha::view::LocalHistory> {
        let (_, observation) = self.local.observation.as_ref()?;
        self.local.history.of(observation.timeline?)
    }

    /// Until when this member may be believed to lead.
    pub(crate) fn lease_until(&self) -> Option<Timestamp> {
        match self.lease.state().view {
            bellwether_ha::view::LeaseView::Held { until, .. } => Some(until),
            _ => None,
        }
    }
}
