//! What a reload changes outside of the agent's loop: the REST listener, the client for other members, the store's certificates.
//!
//! The loop reads the configuration (SIGHUP and `POST /reload` both end there); what it read arrives here. Each part is put in
//! force by itself, and a part that cannot be used leaves its old settings in force: a typing error in one file must not cut
//! the node off from its clients, its peers or its store. Connections that stand go on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bellwether_agent::{ReloadError, ReloadSource, Reloaded};
use bellwether_api::ApiHandle;
use bellwether_api_client::ApiClient;
use bellwether_config::{Config, load, render, same};
use bellwether_types::Failure;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{error, info};

use crate::{
    logging,
    run::{self, api_config, client_config},
    store::{self, Renewed},
};

/// The configuration that was read last, if one has been since the start.
pub(crate) type Latest = watch::Receiver<Option<Arc<Config>>>;

/// Where the agent's loop reads the configuration from, and where what it read can be had. `running` is the local document
/// that the process started with.
///
/// The environment is the one of the start. Without a file there is nothing that could have changed.
///
/// What needs a restart stays as `started` has it, here as in the agent.
pub(crate) fn source(file: Option<PathBuf>, running: Value, started: Config) -> (ReloadSource, Latest) {
    let environment = run::environment();
    let (tell, latest) = watch::channel(None);
    let last = Mutex::new(running);
    let source = ReloadSource(Arc::new(move || {
        let loaded = load(file.as_deref(), &environment).map_err(|error| ReloadError {
            from: file
                .as_ref()
                .map_or_else(|| "the environment".to_owned(), |file| file.display().to_string()),
            why: error.to_string(),
        })?;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = !same(&last, &loaded.document);
        *last = loaded.document;
        let mut in_force = loaded.config.clone();
        // The agent names them.
        let _ = in_force.keep_what_needs_a_restart(&started);
        tell.send_replace(Some(Arc::new(in_force)));
        let warnings = loaded.warnings.iter().map(|warning| render(std::slice::from_ref(warning)));
        Ok(Reloaded { warnings: warnings.collect(), config: loaded.config, changed })
    }));
    (source, latest)
}

/// Puts each configuration in force that is read from now on. Ends when nothing can be read any more; may be dropped.
///
/// Certificates, keys and the log are files, whose file system may hang: they are read by a thread that nobody waits for but us.
pub(crate) async fn follow(mut latest: Latest, api: ApiHandle, client: ApiClient, opened: store::Opened) {
    while latest.changed().await.is_ok() {
        let Some(config) = latest.borrow_and_update().clone() else { continue };
        let (api, client, opened) = (api.clone(), client.clone(), opened.clone());
        let done = aside(async move { put_in_force(&config, &api, &client, &opened).await }).await;
        if let Err(error) = done {
            error!(%error, "a part of the new configuration may not be in force");
        }
    }
}

/// Does on a thread of its own what blocks here and waits there.
async fn aside(work: impl Future<Output = ()> + Send + 'static) -> Result<(), tokio::task::JoinError> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work)).await
}

async fn put_in_force(config: &Config, api: &ApiHandle, client: &ApiClient, opened: &store::Opened) {
    logging::reload(&config.log);
    match api.reload(api_config(config)).await {
        Ok(()) => info!("the settings and certificates of the REST API have been read anew"),
        Err(error) => error!(
            code = %error.failure(),
            error = &error as &dyn std::error::Error,
            "the REST API keeps its old settings and certificates"
        ),
    }
    if let Err(error) = client.reload(client_config(config)) {
        error!(
            code = %Failure::ClientCertificates,
            error = &error as &dyn std::error::Error,
            "calls to other members keep their old settings and certificates"
        );
    }
    tell(opened.renew_credentials(&config.store).await);
}

/// Says how a renewal of the store's certificates ended.
pub(crate) fn tell(renewal: Result<Renewed, bellwether_dcs_raft::CredentialsError>) {
    match renewal {
        Ok(Renewed::Certificates) => info!("the certificates of the store have been read anew"),
        Ok(Renewed::Login) => info!("the store is talked to under the new login"),
        Ok(Renewed::None) => {}
        Ok(Renewed::OnlyAtStart) => info!(
            "certificates for the store are read when the agent starts: if they are new, restart the agent in a maintenance pause or after a switchover"
        ),
        Err(error) => {
            let code = Failure::StoreCredentials;
            error!(%code, error = &error as &dyn std::error::Error, "the store keeps its old certificates");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// On a runtime with one thread: what blocked it would keep us from ever answering.
    #[tokio::test]
    async fn files_that_hang_hold_nobody_up() {
        let (answer, hung) = mpsc::channel();
        let reading = tokio::spawn(aside(async move {
            let answered = hung.recv_timeout(Duration::from_secs(60));
            assert!(answered.is_ok(), "the runtime goes on meanwhile");
        }));
        tokio::task::yield_now().await;
        answer.send(()).unwrap();
        reading.await.unwrap().unwrap();
    }
}
