//! `bellwether witness`: a vote in the embedded store, without PostgreSQL.

use std::{path::PathBuf, process::ExitCode};

use bellwether_config::load_witness;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{exit::Status, logging, run, store};

/// Runs until SIGTERM or SIGINT, or until the node stops by itself.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn run(file: Option<PathBuf>) -> ExitCode {
    let loaded = match load_witness(file.as_deref(), &run::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
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
    runtime.block_on(vote(loaded.config)).code(false)
}

async fn vote(config: bellwether_config::WitnessConfig) -> Status {
    let Some(node) = store::node_config(&config.raft, &config.scope, true) else {
        error!("a witness needs `raft.self_addr` and `raft.data_dir`");
        return Status::Config;
    };
    let node = match bellwether_dcs_raft::RaftStore::start(node).await {
        Ok(node) => node,
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "the embedded store did not start");
            return run::store_status(&error);
        }
    };
    info!(cluster = %config.scope, "witness votes in the store");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be watched");
    let status = tokio::select! {
        _ = terminate.recv() => Status::Ok,
        _ = interrupt.recv() => Status::Ok,
        why = node.stopped() => {
            error!(why, "the node of the store has stopped");
            Status::StoreUnusable
        }
    };
    node.shutdown().await;
    status
}
