//! Actions on the local server. Quick ones are done here; long ones become the job.

use std::{collections::BTreeMap, time::Duration};

use bellwether_ha::{
    action::{CopyBy, DemoteMode, Fence, StartRole, StopMode, TakenTimelines},
    view::{JobKind, JobOutcome, LeaseView, Upstream},
};
use bellwether_postgres::{
    config::ConfigPlan, datadir::Wiped, postmaster, settings::ConfigRole, stop::StopRequest,
};
use bellwether_types::{PostgresState, Role, settings::SyncMode};
use tracing::{debug, error, info, warn};

use super::Effect;
use crate::{agent::Agent, clock, event::Event, job::JobNews, local::Given, monitor::Errand, work};

impl Agent {
    /// Whether what an action was decided on still holds, at the last moment before its effect.
    fn fence_holds(&self, fence: Fence) -> bool {
        self.still_allowed(Some(fence))()
    }

    /// The same question for a job, which asks it when it has got so far. Without a fence nothing needs to hold.
    fn still_allowed(&self, fence: Option<Fence>) -> impl Fn() -> bool + Send + use<> {
        let lease = self.lease.clone();
        move || {
            let now = clock::now();
            fence.is_none_or(|fence| {
                matches!(lease.state().view, LeaseView::Held { until, term, .. } if term == fence.term && now < until)
            })
        }
    }

    fn primary_plan(&self) -> ConfigPlan {
        // With synchronous replication off, the names are the user's own once ours have been taken back.
        let are_the_users = self.effective.settings.sync_mode() == SyncMode::Off && self.memory.sync.released;
        let names = self.local.sync_names.clone().filter(|_| !are_the_users);
        ConfigPlan { synchronous_standby_names: names, overrides: self.overrides(), ..ConfigPlan::primary() }
    }

    /// Parameters that win over the user's.
    fn overrides(&self) -> BTreeMap<String, String> {
        let feedback = ("hot_standby_feedback".to_owned(), "on".to_owned());
        self.local.feedback_forced.then_some(feedback).into_iter().collect()
    }

    /// A standby's files. Its synchronous names stay empty unless a promotion prepares them.
    pub(super) fn standby_plan(&self, upstream: Option<&Upstream>) -> ConfigPlan {
        let mut plan = ConfigPlan::standby(upstream.and_then(work::pg_upstream));
        if self.local.role == Role::StandbyLeader {
            plan.role = ConfigRole::StandbyLeader;
        }
        plan.recovery_overrides = upstream.map(work::archive_settings).unwrap_or_default();
        plan.overrides = self.overrides();
        if self.local.sync_names.is_some() {
            plan.synchronous_standby_names.clone_from(&self.local.sync_names);
        }
        plan
    }

    /// The files as they are to be for what the server is now.
    pub(crate) fn present_plan(&self) -> ConfigPlan {
        match self.local.role {
            Role::Primary => self.primary_plan(),
            _ => self.standby_plan(self.local.upstream.as_ref()),
        }
    }

    /// What a job that begins now writes into the files.
    pub(super) fn give(&self, as_primary: bool) -> Given {
        Given {
            settings: self.settings.clone(),
            as_primary,
            upstream: self.local.upstream.clone(),
            sync_names: self.local.sync_names.clone(),
            feedback_forced: self.local.feedback_forced,
        }
    }

    /// A job writes what was in force when it began. What came while it ran it may have written over: written again now.
    pub(crate) async fn catch_up_with_configuration(&mut self) {
        if self.jobs.kind().is_some() {
            return;
        }
        let Some(given) = self.local.given.take() else { return };
        if self.local.postmaster.is_none() || given.is_still(&self.give(given.as_primary)) {
            return;
        }
        let plan = match given.as_primary {
            true => self.primary_plan(),
            false => self.standby_plan(self.local.upstream.as_ref()),
        };
        if self.apply(&plan).await == Some(true) {
            info!("the configuration changed while PostgreSQL was being started: written again");
        }
        self.find_pending_restart();
    }

    /// Writes the files and reloads if they changed. False: not written.
    pub(super) async fn apply(&mut self, plan: &ConfigPlan) -> Option<bool> {
        // Its files say how it recovers. The end of the bootstrap writes those of a primary.
        if self.local.custom_bootstrap {
            return Some(false);
        }
        match self.server.apply_config(plan).await {
            Ok(applied) => {
                let changed = applied.changed();
                if changed
                    && let Some(postmaster) = &self.local.postmaster
                    && let Err(error) = self.server.reload(postmaster)
                {
                    warn!(error = work::chain(&error), "PostgreSQL was not told to reload");
                }
                Some(changed)
            }
            Err(error) => {
                warn!(error = work::chain(&error), "the configuration of PostgreSQL could not be written");
                None
            }
        }
    }

    /// The first look at this server as a primary: its files lose what belonged to the standby.
    pub(crate) async fn settle_as_primary(&mut self) {
        self.local.upstream = None;
        self.local.divergence = None;
        let plan = self.primary_plan();
        self.apply(&plan).await;
    }

    pub(super) fn bootstrap(&mut self) -> Effect {
        if !self.mark_founding() {
            return Effect::Failed;
        }
        let is_custom = self.settings.bootstrap.custom.is_some();
        debug!(is_custom, "founding the cluster");
        self.local.custom_bootstrap = is_custom;
        self.local.state = if is_custom { PostgresState::CustomBootstrap } else { PostgresState::Initdb };
        let (server, limit) = (self.server.clone(), self.settings.pg_ctl_timeout);
        let plan = self.primary_plan();
        self.local.given = Some(self.give(true));
        self.jobs.start(JobKind::Bootstrap, move |job| work::bootstrap(job, server, plan, limit));
        Effect::Nothing
    }

    pub(super) fn bootstrap_standby(&mut self, from: Upstream) -> Effect {
        if !self.mark_founding() {
            return Effect::Failed;
        }
        info!(source = from.conn_url, "trying to bootstrap a new standby leader");
        self.local.state = PostgresState::CreatingReplica;
        self.local.role = Role::StandbyLeader;
        self.local.upstream = Some(from.clone());
        let (server, limit) = (self.server.clone(), self.settings.pg_ctl_timeout);
        let plan = self.standby_plan(Some(&from));
        self.local.given = Some(self.give(false));
        self.jobs
            .start(JobKind::Bootstrap, move |job| work::bootstrap_standby(job, server, from, plan, limit));
        Effect::Nothing
    }

    pub(super) fn post_bootstrap(&mut self) -> Effect {
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        let (plan, limit) = (self.primary_plan(), self.settings.pg_ctl_timeout);
        self.local.given = Some(self.give(true));
        // As it was begun: the settings may have been read anew since.
        let made_by_command = self.local.custom_bootstrap;
        self.jobs.start(JobKind::PostBootstrap, move |job| {
            work::post_bootstrap(job, server, running, made_by_command, plan, limit)
        });
        Effect::Nothing
    }

    /// False to the executor if the mark stays: then it is tried again.
    pub(super) fn finish_bootstrap(&mut self) -> Effect {
        self.mark_end();
        Effect::of(self.mark.job().is_none())
    }

    pub(super) fn clone_from(&mut self, from: Option<Upstream>) -> Effect {
        if !self.mark_begin(JobKind::Clone) {
            return Effect::Failed;
        }
        self.local.custom_bootstrap = false;
        let source = self.name_source(from.as_ref());
        self.local.state = PostgresState::CreatingReplica;
        self.local.sync_names = None;
        let settings = self.settings.clone();
        self.jobs.start(JobKind::Clone, move |job| async move {
            let outcome = work::clone(job, settings, from).await;
            match outcome {
                JobOutcome::Succeeded => info!("bootstrapped {source}"),
                JobOutcome::Failed { .. } => error!("failed to bootstrap {source}"),
                JobOutcome::Cancelled => {}
            }
            outcome
        });
        Effect::Nothing
    }

    /// Where a copy comes from, in the words that people look for in the log.
    fn name_source(&self, from: Option<&Upstream>) -> String {
        let Some(from) = from else { return "(without leader)".to_owned() };
        let mirrored = self.mirror.state();
        let leader = mirrored.cluster.as_ref().and_then(|cluster| cluster.leader_name());
        let what = if leader == Some(&from.member) { "leader" } else { "replica" };
        format!("from {what} '{}'", from.member)
    }

    pub(super) fn start_server(&mut self, role: StartRole) -> Effect {
        let (plan, fence) = match role {
            StartRole::Primary { fence } if !self.fence_holds(fence) => {
                warn!("the lease changed before the start: not starting as primary");
                return Effect::Failed;
            }
            StartRole::Primary { fence } => (self.primary_plan(), Some(fence)),
            StartRole::Standby { upstream } => (self.be_standby(Role::Replica, upstream), None),
            StartRole::StandbyLeader { upstream } => (self.be_standby(Role::StandbyLeader, upstream), None),
        };
        self.local.custom_bootstrap = false;
        self.local.given = Some(self.give(fence.is_some()));
        let still_allowed = self.still_allowed(fence);
        self.local.state = PostgresState::Starting;
        let (server, limit) = (self.server.clone(), self.settings.pg_ctl_timeout);
        self.jobs.start(JobKind::Start, move |job| work::start(job, server, plan, limit, still_allowed));
        Effect::Nothing
    }

    fn be_standby(&mut self, role: Role, upstream: Option<Upstream>) -> ConfigPlan {
        self.local.sync_names = None;
        self.local.role = role;
        self.local.upstream = upstream;
        self.standby_plan(self.local.upstream.as_ref())
    }

    pub(super) fn promote(&mut self, fence: Fence, taken: Option<TakenTimelines>) -> Effect {
        let Some(postmaster) = self.local.postmaster.clone() else { return Effect::Failed };
        if !self.fence_holds(fence) {
            warn!("the lease changed before the promotion: not promoting");
            return Effect::Failed;
        }
        info!(taken = taken.map(|taken| taken.through.0), "promoting");
        self.slots.leave_off();
        self.clock.promoting(clock::now());
        let server = self.server.clone();
        let still_allowed = self.still_allowed(Some(fence));
        self.jobs
            .start(JobKind::Promote, move |job| work::promote(job, server, postmaster, taken, still_allowed));
        Effect::Nothing
    }

    pub(super) fn demote(&mut self, mode: DemoteMode, stop_limit: Option<Duration>) -> Effect {
        info!("Demoting self ({})", mode.as_str());
        let request = work::demote_request(mode, stop_limit, clock::now());
        self.local.role = Role::Demoted;
        self.begin_stop(JobKind::Demote, request, mode == DemoteMode::DemoteCluster);
        if matches!(mode, DemoteMode::ImmediateNoLock | DemoteMode::Offline { .. }) {
            let lease = self.lease.clone();
            // The keeper may be waiting for the store; nobody waits for it.
            tokio::spawn(async move { lease.forget().await });
        }
        Effect::Nothing
    }

    pub(super) fn stop_server(&mut self, mode: StopMode) -> Effect {
        let request = StopRequest {
            mode: match mode {
                StopMode::Fast => postmaster::StopMode::Fast,
                StopMode::Immediate => postmaster::StopMode::Immediate,
            },
            checkpoint: false,
            hook: true,
            immediate_after: None,
            kill_after: (mode == StopMode::Immediate).then_some(Duration::from_secs(5)),
        };
        self.begin_stop(JobKind::Stop, request, false);
        Effect::Nothing
    }

    /// `of_cluster`: the whole cluster is demoted with this server.
    fn begin_stop(&mut self, kind: JobKind, request: StopRequest, of_cluster: bool) {
        let now = clock::now();
        if self.local.postmaster.is_some() {
            self.local.stopping_since = Some(now);
            self.local.state = PostgresState::Stopping;
        }
        if let Some(superseded) = self.jobs.kind().cloned() {
            tell_cancelled(&superseded);
            // Nobody hears of its end any more.
            self.requests.job_ended(&superseded, &JobOutcome::Cancelled);
        }
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        if of_cluster {
            self.jobs.take_over(kind, move |job, before| {
                work::demote_cluster(job, server, running, request, before)
            });
        } else {
            self.jobs.take_over(kind, move |job, before| work::stop(job, server, running, request, before));
        }
    }

    pub(super) async fn follow(&mut self, upstream: Option<Upstream>) -> Effect {
        info!(upstream = ?upstream.as_ref().map(|upstream| upstream.member.as_str()), "following");
        self.local.sync_names = None;
        if let Err(error) = self.server.forget_skipped().await {
            warn!(error = work::chain(&error), "the marks of skipped timelines could not be removed");
        }
        let plan = self.standby_plan(upstream.as_ref());
        let applied = self.apply(&plan).await;
        if applied.is_some() {
            self.local.upstream = upstream;
        }
        Effect::of(applied.is_some())
    }

    pub(super) fn restart_server(
        &mut self,
        timeout: Option<Duration>,
        stop_limit: Duration,
        fence: Option<Fence>,
    ) -> Effect {
        if fence.is_some_and(|fence| !self.fence_holds(fence)) {
            warn!("the lease changed before the restart: not restarting");
            return Effect::Failed;
        }
        info!("restart initiated");
        self.local.state = PostgresState::Restarting;
        self.local.stopping_since = Some(clock::now());
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        let (plan, limit) = (self.present_plan(), timeout.unwrap_or(self.settings.pg_ctl_timeout));
        self.local.given = Some(self.give(self.local.role == Role::Primary));
        let still_allowed = self.still_allowed(fence);
        self.jobs.start(JobKind::Restart, move |job| {
            work::restart(job, server, running, plan, (stop_limit, limit), still_allowed)
        });
        Effect::Nothing
    }

    /// Writes the files; PostgreSQL reads them again only if they have changed. Whether they did; `None`: they could not be written.
    pub(crate) async fn write_configuration(&mut self) -> Option<bool> {
        let plan = self.present_plan();
        self.apply(&plan).await
    }

    pub(super) async fn reload_for_decision(&mut self) -> Effect {
        match self.reload_server().await {
            Some(_) => Effect::Nothing,
            None => Effect::Failed,
        }
    }

    /// Writes the files and makes the server read them. Whether they changed; `None`: they could not be written.
    pub(crate) async fn reload_server(&mut self) -> Option<bool> {
        if self.local.custom_bootstrap {
            return Some(false);
        }
        let plan = self.present_plan();
        let changed = self.apply(&plan).await?;
        if let Some(postmaster) = &self.local.postmaster
            && let Err(error) = self.server.reload(postmaster)
        {
            warn!(error = work::chain(&error), "PostgreSQL was not told to reload");
        }
        self.find_pending_restart();
        Some(changed)
    }

    /// Looks for parameters that wait for a restart, a moment from now: the server reads its files in its own time.
    pub(crate) fn find_pending_restart(&self) {
        let (server, events) = (self.server.clone(), self.events_in.clone());
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            match server.pending_restart().await {
                Ok(pending) => drop(events.send(Event::PendingRestart(pending)).await),
                Err(error) => {
                    tracing::debug!(error = work::chain(&error), "cannot tell what waits for a restart");
                }
            }
        });
    }

    pub(super) fn check_divergence(&mut self, leader: Upstream) -> Effect {
        let replayed = self
            .local
            .server_view()
            .filter(|server| server.in_recovery && self.local.postmaster.is_some())
            .map(|server| server.replayed);
        let settings = self.settings.clone();
        let url =
            self.mirror.state().cluster.and_then(|cluster| cluster.member(&leader.member)?.api_url.clone());
        let asked = url.map(|url| (self.client.clone(), url));
        self.jobs.start(JobKind::CheckDivergence, move |job| {
            work::check_divergence(job, settings, replayed, leader, asked)
        });
        Effect::Nothing
    }

    pub(super) fn rewind(&mut self, source: Upstream) -> Effect {
        // An earlier one may have been interrupted in the middle.
        self.local.files_changing = self.mark.job().is_some();
        if !self.mark_begin(JobKind::Rewind) {
            return Effect::Failed;
        }
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        if running.is_some() {
            self.local.stopping_since = Some(clock::now());
            self.local.state = PostgresState::Stopping;
        }
        self.jobs.start(JobKind::Rewind, move |job| work::rewind(job, server, running, source));
        Effect::Nothing
    }

    pub(super) fn crash_recovery(&mut self) -> Effect {
        info!("doing crash recovery in a single user mode");
        let settings = self.settings.clone();
        self.jobs.start(JobKind::CrashRecovery, move |job| work::crash_recovery(job, settings));
        Effect::Nothing
    }

    pub(super) fn reinitialize(&mut self, from: Upstream, by: CopyBy) -> Effect {
        if !self.mark_begin(JobKind::Reinitialize) {
            return Effect::Failed;
        }
        info!(source = %from.member, "reinitializing");
        self.local.state = PostgresState::CreatingReplica;
        self.local.stopping_since = Some(clock::now());
        self.local.sync_names = None;
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        self.jobs.start(JobKind::Reinitialize, move |job| work::reinitialize(job, server, running, from, by));
        Effect::Nothing
    }

    /// A job is about to change the data files: whoever finds them after a loss of power must know. False: do not begin.
    fn mark_begin(&mut self, kind: JobKind) -> bool {
        let marked = self.mark.set(kind);
        Self::is_marked(marked)
    }

    /// As [`Agent::mark_begin`], for a bootstrap: it is given a name under which the store will know the founder. Durable before anything
    /// else happens, so that no crash leaves the founder in doubt whether it was the one.
    fn mark_founding(&mut self) -> bool {
        let name = format!("{}-{:032x}", self.config.name, rand::random::<u128>());
        let marked = self.mark.set_founding(name);
        Self::is_marked(marked)
    }

    fn is_marked(marked: std::io::Result<()>) -> bool {
        match marked {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "the data directory could not be marked as being changed: not changing it");
                false
            }
        }
    }

    /// The data files are whole again, or gone.
    fn mark_end(&mut self) {
        if let Err(error) = self.mark.clear() {
            warn!(%error, "the mark of the job that changed the data directory could not be removed");
        }
    }

    pub(super) async fn wipe_data_directory(&mut self, why: &str) -> Effect {
        info!(why, "Removing data directory: {}", self.settings.data_dir.display());
        let server = self.server.clone();
        match self.service_manager.alive_during(server.wipe()).await {
            Ok(wiped) => {
                if let Wiped::SetAside(path) = wiped {
                    warn!(path = %path.display(), "the data directory could not be removed and was renamed");
                }
                self.local.control = None;
                self.local.system_id = None;
                self.local.role = Role::Uninitialized;
                self.mark_end();
                Effect::Changed
            }
            Err(error) => {
                warn!(error = work::chain(&error), "the data directory could not be removed");
                Effect::Failed
            }
        }
    }

    pub(super) async fn set_data_directory_aside(&mut self) -> Effect {
        let server = self.server.clone();
        match self.service_manager.alive_during(server.set_aside()).await {
            Ok(path) => {
                self.local.custom_bootstrap = false;
                info!("renaming data directory to {}", path.display());
                self.local.control = None;
                self.local.system_id = None;
                self.mark_end();
                Effect::Changed
            }
            Err(error) => {
                warn!(error = work::chain(&error), "the data directory could not be renamed");
                Effect::Failed
            }
        }
    }

    pub(super) async fn set_sync_names(&mut self, names: String) -> Effect {
        debug!(names, "writing synchronous_standby_names");
        let is_given_back = names.is_empty() && self.effective.settings.sync_mode() == SyncMode::Off;
        let before = std::mem::replace(&mut self.local.sync_names, (!is_given_back).then_some(names));
        let plan = self.present_plan();
        match self.apply(&plan).await {
            Some(_) => Effect::Changed,
            None => {
                self.local.sync_names = before;
                Effect::Failed
            }
        }
    }

    /// `Nothing`: there was nothing to do.
    pub(super) async fn errand(&mut self, errand: Errand) -> Effect {
        let Some(postmaster) = &self.local.postmaster else { return Effect::Failed };
        let what = format!("{errand:?}");
        let Some(patience) = self.errands.patience(clock::now(), self.effective.settings.ttl) else {
            debug!(what, "no time is left for this errand");
            return Effect::Failed;
        };
        match self.monitor.run(postmaster.id(), errand, patience).await {
            Ok(true) => Effect::Changed,
            Ok(false) => Effect::Nothing,
            Err(error) => {
                warn!(what, error = work::chain(&error), "an errand on the local server failed");
                Effect::Failed
            }
        }
    }

    pub(super) async fn generate_wal(&mut self) -> Effect {
        self.errand(Errand::GenerateWal).await
    }

    pub(super) async fn prove_names_in_force(&mut self) -> Effect {
        let Some(postmaster) = &self.local.postmaster else { return Effect::Failed };
        let since = clock::now();
        let Some(patience) = self.errands.patience(since, self.effective.settings.ttl) else {
            return Effect::Nothing;
        };
        match self.monitor.read_configuration(postmaster.id(), patience).await {
            Ok(true) => {
                self.local.checkpointer_read_at = Some(since);
                Effect::Changed
            }
            Ok(false) => Effect::Nothing,
            Err(error) => {
                warn!(
                    error = work::chain(&error),
                    "cannot tell whether the checkpointer has read its configuration"
                );
                Effect::Nothing
            }
        }
    }

    pub(super) fn checkpoint(&mut self) -> Effect {
        let settings = self.settings.clone();
        self.jobs.start(JobKind::Checkpoint, move |job| work::checkpoint(job, settings));
        Effect::Nothing
    }

    pub(super) async fn resume_replay(&mut self) -> Effect {
        self.errand(Errand::ResumeReplay).await
    }

    pub(super) fn cancel_job(&mut self, kind: &JobKind) -> Effect {
        let cancelled = self.jobs.cancel(kind);
        if cancelled {
            tell_cancelled(kind);
        }
        Effect::of(cancelled)
    }

    /// News of the job that runs.
    pub(crate) fn hear_job(&mut self, id: u64, news: JobNews) {
        let Some(kind) = self.jobs.hear(id, &news) else { return };
        match news {
            JobNews::Phase(_) => {}
            JobNews::Changing => self.local.files_changing = true,
            JobNews::Created if self.local.custom_bootstrap => {
                self.local.state = PostgresState::BootstrapStarting;
            }
            JobNews::Created => self.local.state = PostgresState::Starting,
            JobNews::Started(postmaster) => self.adopt(postmaster),
            JobNews::Compared(divergence) => {
                self.local.not_compared = None;
                self.local.divergence = Some(divergence);
            }
            JobNews::Ended(outcome) => self.job_ended(&kind, &outcome),
        }
    }

    fn job_ended(&mut self, kind: &JobKind, outcome: &JobOutcome) {
        match outcome {
            // Nothing was changed, and it is asked again: a server that comes up cannot tell its position at once.
            JobOutcome::Failed { why, .. } if *kind == JobKind::CheckDivergence => {
                self.tell_not_compared(why)
            }
            JobOutcome::Failed { why, .. } => warn!(job = ?kind, why, "job failed"),
            _ => {}
        }
        self.journal.record("job", serde_json::json!({"job": kind, "outcome": outcome}));
        self.requests.job_ended(kind, outcome);
        let succeeded = *outcome == JobOutcome::Succeeded;
        match kind {
            JobKind::Promote if succeeded => self.local.role = Role::Promoted,
            JobKind::Start if succeeded && self.local.role == Role::Replica => {
                info!("started as a secondary")
            }
            JobKind::Demote | JobKind::Stop if succeeded => self.server_is_down(PostgresState::Stopped),
            JobKind::Demote | JobKind::Stop => self.local.state = PostgresState::StopFailed,
            JobKind::Start if !succeeded => self.server_is_down(PostgresState::StartFailed),
            JobKind::Restart | JobKind::CopySlots if !succeeded => {
                self.server_is_down(PostgresState::RestartFailed)
            }
            JobKind::Bootstrap if !succeeded => {
                let is_custom = std::mem::take(&mut self.local.custom_bootstrap);
                self.server_is_down(if is_custom {
                    PostgresState::CustomBootstrapFailed
                } else {
                    PostgresState::InitdbFailed
                });
            }
            // The files are those of a primary now, or nobody's.
            JobKind::PostBootstrap => self.local.custom_bootstrap = false,
            JobKind::Clone | JobKind::Reinitialize | JobKind::Rewind | JobKind::CrashRecovery => {
                if succeeded && *kind != JobKind::CrashRecovery {
                    self.mark_end();
                    self.local.role = Role::Replica;
                }
                if *kind == JobKind::Rewind && !succeeded && !self.local.files_changing {
                    self.mark_end();
                }
                self.local.control = None;
                self.local.divergence = None;
                self.server_is_down(PostgresState::Stopped);
            }
            _ => {}
        }
    }

    /// Once for each reason: a cluster elsewhere may be away for hours.
    fn tell_not_compared(&mut self, why: &str) {
        if self.local.not_compared.as_deref() != Some(why) {
            info!(why, "histories could not be compared yet");
            self.local.not_compared = Some(why.to_owned());
        }
    }

    /// A job stopped the server, or failed to start it. A process that still lives is found by the next look.
    fn server_is_down(&mut self, state: PostgresState) {
        if self.local.postmaster.as_ref().is_none_or(|postmaster| !postmaster.is_alive()) {
            self.local.lost_postmaster(true);
            self.monitor.disconnect();
        }
        self.local.state = state;
    }
}

/// The comparison of histories gives way to anything, and nothing is lost by that.
fn tell_cancelled(kind: &JobKind) {
    if *kind == JobKind::CheckDivergence {
        debug!("Cancelling long running task {}", kind.as_str());
    } else {
        warn!("Cancelling long running task {}", kind.as_str());
    }
}
