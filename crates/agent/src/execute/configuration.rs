//! The files of PostgreSQL: what they are to say for what the server is now, and telling it that they changed.

use std::{collections::BTreeMap, time::Duration};

use bellwether_ha::view::Upstream;
use bellwether_postgres::config::ConfigPlan;
use bellwether_types::{Role, ServerRole, settings::SyncMode};
use tracing::{debug, info, warn};

use super::Effect;
use crate::{agent::Agent, event::Event, local::Given, work};

impl Agent {
    pub(super) fn primary_plan(&self) -> ConfigPlan {
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
        // Who promised to receive nothing has no upstream in any file, whoever asks for it.
        let upstream = upstream.filter(|_| !self.promise.is_bound());
        let mut plan = ConfigPlan::standby(upstream.and_then(work::pg_upstream));
        if self.local.role == Role::StandbyLeader {
            plan.role = ServerRole::StandbyLeader;
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

    pub(super) async fn follow(&mut self, upstream: Option<Upstream>) -> Effect {
        if upstream.is_some() && self.refuses("follow") {
            return Effect::Failed;
        }
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
            tokio::time::sleep(Duration::from_secs(1)).await;
            match server.pending_restart().await {
                Ok(pending) => drop(events.send(Event::PendingRestart(pending)).await),
                Err(error) => {
                    debug!(error = work::chain(&error), "cannot tell what waits for a restart");
                }
            }
        });
    }
}
