//! Actions that make, change or remove the data directory, and the mark that says so for as long as they are under way.

use bellwether_ha::{
    action::{CopyBy, Earlier},
    view::{JobKind, JobOutcome, Upstream},
};
use bellwether_types::{PostgresState, Role};
use tracing::{debug, error, info, warn};

use super::Effect;
use crate::{agent::Agent, clock, work};

impl Agent {
    pub(super) async fn bootstrap(&mut self) -> Effect {
        if !self.mark_founding().await {
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

    pub(super) async fn bootstrap_standby(&mut self, from: Upstream) -> Effect {
        if self.refuses("bootstrap of a standby cluster") || !self.mark_founding().await {
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
    pub(super) async fn finish_bootstrap(&mut self) -> Effect {
        let is_gone = self.mark_end().await;
        self.failed_bootstraps.forget();
        Effect::of(is_gone)
    }

    pub(super) async fn clone_from(&mut self, from: Option<Upstream>) -> Effect {
        if self.refuses("copy") || !self.mark_begin(JobKind::Clone).await {
            return Effect::Failed;
        }
        self.local.custom_bootstrap = false;
        let source = self.name_source(from.as_ref());
        self.local.state = PostgresState::CreatingReplica;
        self.local.sync_names = None;
        let settings = self.settings.clone();
        self.jobs.start(JobKind::Clone, move |job| async move {
            let outcome = work::clone(job, settings, from).await;
            tell_of_copy(&source, &outcome);
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

    pub(super) async fn reinitialize(&mut self, from: Upstream, by: CopyBy) -> Effect {
        if self.refuses("reinitialize") || !self.mark_begin(JobKind::Reinitialize).await {
            return Effect::Failed;
        }
        info!(source = %from.member, "reinitializing");
        self.local.state = PostgresState::CreatingReplica;
        self.local.stopping_since = Some(clock::now());
        self.local.sync_names = None;
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        let source = self.name_source(Some(&from));
        self.jobs.start(JobKind::Reinitialize, move |job| async move {
            let outcome = work::reinitialize(job, server, running, from, by).await;
            tell_of_copy(&source, &outcome);
            outcome
        });
        Effect::Nothing
    }

    pub(super) async fn rewind(&mut self, source: Upstream) -> Effect {
        // An earlier one may have been interrupted in the middle.
        self.local.files_changing = self.mark.job().is_some();
        let earlier = work::EarlierRewind {
            is_interrupted: self.mark.job() == Some(&JobKind::Rewind),
            source_file: self.mark.rewind_source_file(),
        };
        if self.refuses("rewind") || !self.mark_begin(JobKind::Rewind).await {
            return Effect::Failed;
        }
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        if running.is_some() {
            self.local.stopping_since = Some(clock::now());
            self.local.state = PostgresState::Stopping;
        }
        self.jobs.start(JobKind::Rewind, move |job| work::rewind(job, server, running, source, earlier));
        Effect::Nothing
    }

    pub(super) fn crash_recovery(&mut self) -> Effect {
        info!("doing crash recovery in a single user mode");
        let settings = self.settings.clone();
        self.jobs.start(JobKind::CrashRecovery, move |job| work::crash_recovery(job, settings));
        Effect::Nothing
    }

    pub(super) async fn wipe_data_directory(&mut self, why: &str) -> Effect {
        if !self.mark_begin(JobKind::Wipe).await {
            return Effect::Failed;
        }
        info!(why, "Removing data directory: {}", self.settings.data_dir.display());
        let server = self.server.clone();
        self.jobs.start(JobKind::Wipe, move |_| work::wipe(server));
        Effect::Nothing
    }

    /// It was removed, or renamed.
    pub(super) async fn data_directory_is_gone(&mut self) {
        self.local.control = None;
        self.local.system_id = None;
        self.local.role = Role::Uninitialized;
        self.mark_end().await;
    }

    pub(super) async fn set_data_directory_aside(&mut self, earlier: Earlier) -> Effect {
        if self.is_copy_being_written() {
            return Effect::Failed;
        }
        let server = self.server.clone();
        let renamed = async {
            match earlier {
                Earlier::Remove => server.set_aside().await,
                Earlier::Keep => server.keep_aside().await,
            }
        };
        match self.service_manager.alive_during(renamed).await {
            Ok(path) => {
                self.local.custom_bootstrap = false;
                info!("renaming data directory to {}", path.display());
                self.local.control = None;
                self.local.system_id = None;
                self.mark_end().await;
                Effect::Changed
            }
            Err(error) => {
                warn!(error = work::chain(&error), "the data directory could not be renamed");
                Effect::Failed
            }
        }
    }

    /// What takes the directory away, or makes another one, waits for the thread that keeps the configuration in it.
    fn is_copy_being_written(&self) -> bool {
        let is_busy = self.kept_config.is_being_written();
        if is_busy {
            debug!("the configuration is still being written into the data directory: not changing it yet");
        }
        is_busy
    }

    /// A job is about to change the data files: whoever finds them after a loss of power must know. False: do not begin.
    async fn mark_begin(&mut self, kind: JobKind) -> bool {
        if self.is_copy_being_written() {
            return false;
        }
        let marked = self.mark.set(kind).await;
        Self::is_marked(marked)
    }

    /// As [`Agent::mark_begin`], for a bootstrap: it is given a name under which the store will know the founder. Durable before anything
    /// else happens, so that no crash leaves the founder in doubt whether it was the one.
    async fn mark_founding(&mut self) -> bool {
        let name = format!("{}-{:032x}", self.config.name, rand::random::<u128>());
        let marked = self.mark.set_founding(name).await;
        Self::is_marked(marked)
    }

    fn is_marked(marked: std::io::Result<bool>) -> bool {
        match marked {
            Ok(is_on_disk) => is_on_disk,
            Err(error) => {
                warn!(%error, "the data directory could not be marked as being changed: not changing it");
                false
            }
        }
    }

    /// The data files are whole again, or gone.
    /// Whether that is on disk: a crash before would have the job done again.
    pub(super) async fn mark_end(&mut self) -> bool {
        match self.mark.clear().await {
            Ok(is_on_disk) => is_on_disk,
            Err(error) => {
                warn!(%error, "the mark of the job that changed the data directory could not be removed");
                false
            }
        }
    }
}

/// In the words that people look for in the log.
fn tell_of_copy(source: &str, outcome: &JobOutcome) {
    match outcome {
        JobOutcome::Succeeded => info!("bootstrapped {source}"),
        JobOutcome::Failed { .. } => error!("failed to bootstrap {source}"),
        JobOutcome::Cancelled => {}
    }
}
