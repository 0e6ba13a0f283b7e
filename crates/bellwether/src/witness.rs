//! `bellwether witness`: a vote in the embedded store, without PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use bellwether_config::load_witness;
use bellwether_dcs_raft::RaftStore;
use bellwether_types::Failure;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{
    exit::Status,
    failure, logging, reload, run,
    store::{self, Renewed},
};

/// Runs until SIGTERM or SIGINT, or until the node stops by itself.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn run(file: Option<PathBuf>) -> ExitCode {
    let loaded = match load_witness(file.as_deref(), &run::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{}", failure::text(&error, error.failure()));
            return Status::Config.code(false);
        }
    };
    logging::init(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads");
    let status = runtime.block_on(vote(loaded.config, file));
    logging::flush();
    status.code(false)
}

async fn vote(config: bellwether_config::WitnessConfig, file: Option<PathBuf>) -> Status {
    let Some(node) = store::node_config(&config.raft, &config.scope, true) else {
        let code = Failure::ConfigInvalid;
        error!(%code, "a witness needs `raft.self_addr` and `raft.data_dir`");
        return Status::from(code);
    };
    let node = match RaftStore::start(node).await {
        Ok(node) => node,
        Err(error) => {
            let code = error.failure();
            error!(%code, error = &error as &dyn std::error::Error, "the embedded store did not start");
            return Status::from(code);
        }
    };
    info!(cluster = %config.scope, "witness votes in the store");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be watched");
    let mut hangup = signal(SignalKind::hangup()).expect("signals can be watched");
    let status = loop {
        tokio::select! {
            _ = terminate.recv() => break Status::Ok,
            _ = interrupt.recv() => break Status::Ok,
            _ = hangup.recv() => reload_settings(&node, file.as_deref()).await,
            why = node.stopped() => {
                let code = Failure::StoreNodeStopped;
                error!(%code, why, "the node of the store has stopped by itself and must be started anew");
                break Status::from(code);
            }
        }
    };
    node.shutdown().await;
    status
}

/// What a witness can change while it runs: its log and its certificates.
async fn reload_settings(node: &RaftStore, file: Option<&Path>) {
    info!("received SIGHUP");
    match load_witness(file, &run::environment()) {
        Ok(loaded) => {
            logging::reload(&loaded.config.log);
            let Some(files) = store::tls(&loaded.config.raft) else { return };
            reload::tell(node.renew_certificates(files).await.map(|()| Renewed::Certificates));
        }
        Err(error) => error!("the configuration cannot be used and is as it was: {error}"),
    }
}
