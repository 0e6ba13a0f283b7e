//! Taking new configuration into use: the document in the store, and the local file on reload.

use std::sync::Arc;

use bellwether_config::{Dynamic, Effective, Floors, dynamic, effective};
use bellwether_types::{cluster::ConfigDocument, program::CallbackAction};
use serde_json::Value;
use tracing::{error, info, warn};

use crate::{
    agent::Agent,
    changes::differs,
    kept_configuration, level, pace,
    pg_settings::pg_settings,
    reloads::{ReloadError, Reloaded},
};

/// Whether PostgreSQL reads its files again although nothing has changed in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    Always,
    IfChanged,
}

impl Agent {
    /// Applies `/config` if it has changed. A document that cannot be applied leaves the one before in force.
    pub(crate) async fn take_dynamic_configuration(&mut self) {
        let mirrored = self.mirror.state();
        if let Some(cluster) = mirrored.cluster.as_ref() {
            self.take_floors(level::floors(cluster, &self.config.name, self.floors)).await;
        }
        let Some(config) = mirrored.cluster.as_ref().and_then(|cluster| cluster.config.as_ref()) else {
            return;
        };
        if self.applied_config == Some(config.revision) {
            return;
        }
        self.applied_config = Some(config.revision);
        let ConfigDocument::Valid(document) = &config.value else {
            warn!(
                "the dynamic configuration in the store is not a JSON object; the last valid one stays in force"
            );
            return;
        };
        if *document == self.dynamic.document {
            return;
        }
        match dynamic::parse(document, self.floors_in_force) {
            Ok(dynamic) => self.use_dynamic(dynamic).await,
            Err(error) => error!("Exception when setting dynamic_configuration: {error}; it stays as it was"),
        }
    }

    /// The first Patroni has joined, or the last one has left: the document in force is adjusted anew.
    async fn take_floors(&mut self, floors: Floors) {
        if floors == self.floors_in_force {
            return;
        }
        self.floors_in_force = floors;
        let Ok(dynamic) = dynamic::parse(&self.dynamic.document, floors) else { return };
        if dynamic.settings != self.dynamic.settings {
            let ttl_s = floors.ttl.as_secs_f32();
            info!(ttl_s, "other timings are allowed now: they depend on whether a member runs Patroni");
            self.use_dynamic(dynamic).await;
        }
    }

    async fn use_dynamic(&mut self, dynamic: Dynamic) {
        for message in &dynamic.messages {
            warn!("{message}");
        }
        self.dynamic = dynamic;
        if self.use_effective(effective(&self.config, &self.dynamic), Reload::IfChanged).await == Some(true) {
            self.tell_reload();
        }
        self.journal.record("configuration", serde_json::json!({"document": self.dynamic.document}));
    }

    /// Whether the files of the running server have changed; `None`: none runs, or they could not be written.
    async fn use_effective(&mut self, effective: Effective, reload: Reload) -> Option<bool> {
        for message in &effective.messages {
            warn!("{message}");
        }
        let before = std::mem::replace(&mut self.effective, effective);
        let settings = &self.effective.settings;
        self.ttl.send_if_modified(|ttl| std::mem::replace(ttl, settings.ttl) != settings.ttl);
        self.mirror.set_poll(pace::between_reads(settings));
        self.fencing.watchdog.configure(&self.config.watchdog, settings);
        let runtime_dir = crate::runtime_dir(&self.config);
        let (pg, warnings) = pg_settings(&self.config, &self.effective, &runtime_dir);
        for warning in warnings {
            warn!(warning, "parameters of PostgreSQL");
        }
        self.settings = Arc::new(pg);
        self.citus.set_settings(self.settings.clone());
        self.server.set_settings(self.settings.clone());
        self.monitor.set_settings(self.settings.clone()).await;
        self.callbacks.set_settings(self.settings.clone());
        if reload == Reload::Always || differs(&before, &self.effective) {
            self.tell_changes(&before).await;
            info!("Reloading PostgreSQL configuration.");
            self.local.postmaster.as_ref()?;
            return self.reload_server().await;
        }
        info!("No PostgreSQL configuration items changed, nothing to reload.");
        self.local.postmaster.as_ref()?;
        // What the daemon derives (from slots, for example) may still be different.
        self.write_configuration().await
    }

    /// The script for a reload, unless this server has not been told of at all yet.
    fn tell_reload(&mut self) {
        if self.memory.callback_fired {
            self.callbacks.run(CallbackAction::OnReload, self.local.role);
        }
    }

    /// Takes the local file into use that was read again. Errors leave everything as it was.
    ///
    /// PostgreSQL's files are written and it is told to reload even if nothing has changed: that is what people who ask for
    /// a reload expect, for example after an edit of a file that is included.
    pub(crate) async fn take_local_configuration(&mut self, read: Result<Reloaded, ReloadError>) {
        let Reloaded { mut config, warnings, changed } = match read {
            Ok(reloaded) => reloaded,
            Err(ReloadError { from, why }) => {
                error!("Exception when reloading local configuration from {from}: {why}");
                let unchanged = effective(&self.config, &self.dynamic);
                self.use_effective(unchanged, Reload::Always).await;
                return;
            }
        };
        if !changed {
            info!("No local configuration items changed.");
        }
        // They have been told before.
        for warning in warnings.into_iter().filter(|_| changed) {
            warn!("{warning}");
        }
        for key in config.keep_what_needs_a_restart(&self.config) {
            warn!(key, "the new value is used when the agent is started again");
        }
        self.config = Arc::new(config);
        // Told of even if nothing has changed: whoever asks for a reload wants one.
        if self.use_effective(effective(&self.config, &self.dynamic), Reload::Always).await.is_some() {
            self.tell_reload();
        }
    }

    /// Keeps a copy beside the data, for the next start; never in a data directory that is not known to be this cluster's.
    pub(crate) fn keep_dynamic_configuration(&mut self) {
        let mirrored = self.mirror.state();
        let cluster_id = mirrored.cluster.as_ref().and_then(|cluster| cluster.system_id());
        if cluster_id.is_some() && cluster_id == self.local.system_id {
            let dir = &self.config.postgresql.data_dir;
            self.kept_config.keep(self.applied_config, dir, &self.dynamic.document);
        }
    }
}

/// The dynamic configuration to begin with: the store's, else the copy beside the data, else that of a new cluster.
pub(crate) fn first_dynamic(
    config: &bellwether_config::Config,
    stored: Option<&ConfigDocument>,
    new_cluster: &Value,
    floors: Floors,
) -> Dynamic {
    let candidates = [
        stored.and_then(|document| match document {
            ConfigDocument::Valid(document) => Some(document.clone()),
            ConfigDocument::Invalid => None,
        }),
        kept_configuration::read(&config.postgresql.data_dir),
        Some(new_cluster.clone()),
    ];
    for document in candidates.into_iter().flatten() {
        match dynamic::parse(&document, floors) {
            Ok(dynamic) => return dynamic,
            Err(error) => warn!(%error, "a dynamic configuration is not used"),
        }
    }
    Dynamic::default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::handle::tests::config;

    #[test]
    fn a_new_cluster_is_timed_by_what_it_begins_with() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let ttl = |stored: Option<&ConfigDocument>| {
            first_dynamic(&config, stored, &json!({"ttl": 47}), Floors::patroni()).settings.ttl
        };
        assert_eq!(ttl(None), Duration::from_secs(47), "not the default");
        // What was in force when the store was last heard of counts more, and what the store says most.
        std::fs::create_dir(&config.postgresql.data_dir).unwrap();
        std::fs::write(config.postgresql.data_dir.join("patroni.dynamic.json"), r#"{"ttl": 35}"#).unwrap();
        assert_eq!(ttl(None), Duration::from_secs(35));
        assert_eq!(ttl(Some(&ConfigDocument::Valid(json!({"ttl": 60})))), Duration::from_secs(60));
        assert_eq!(ttl(Some(&ConfigDocument::Invalid)), Duration::from_secs(35));
    }
}
