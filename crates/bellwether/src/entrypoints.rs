//! Virtual addresses and DNS records of this member: tasks beside the agent's loop, fed by what it publishes.

use std::{sync::Arc, time::Duration};

use bellwether_agent::{AgentHandle, clock, runtime_dir};
use bellwether_api_client::ApiClient;
use bellwether_config::{Config, sections::vip::Vip};
use bellwether_entrypoint::{
    Agent, Tell,
    board::Board,
    dns::{self, manager::Settings},
    provider,
    vip::{manager, privilege},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::reload::Latest;

/// For addresses to be given back; the kernel answers within milliseconds.
const FAREWELL: Duration = Duration::from_secs(3);

/// The running tasks.
#[derive(Debug)]
pub(crate) struct Entrypoints {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// To be called before there are threads that could start programs: PostgreSQL has no use for what the addresses need.
pub(crate) fn keep_privileges(config: &Config) {
    if !config.vip.entries.is_empty() {
        privilege::keep_to_ourselves();
    }
}

/// Takes back what an agent before this one has left, before anything else is done.
pub(crate) async fn clean_up(config: &Config) {
    if let Err(error) = manager::clean_up(&runtime_dir(config), &config.vip).await {
        error!(%error, "virtual addresses that an agent before this one has left could not be removed");
    }
}

/// Starts them.
pub(crate) fn start(
    config: &Config,
    latest: Latest,
    agent: &AgentHandle,
    client: ApiClient,
    board: &Board,
) -> Entrypoints {
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let journal = agent.journal().clone();
    let published = Agent {
        status: agent.watch_status(),
        topology: agent.topology(),
        now: clock::now,
        client,
        tell: Tell(Arc::new(move |kind, record| journal.record(kind, record))),
    };
    let (vip, vips) = watch::channel(Arc::new(config.vip.clone()));
    let (names, named) = watch::channel(Arc::new(names_of(config)));
    tasks.spawn(follow(latest, vip, names));
    let dns = dns::manager::Manager::new(published.clone(), named, board.clone(), runtime_dir(config));
    tasks.spawn(dns.run(stop.clone()));
    let provider = provider::Manager::new(published.clone(), vips.clone(), board.clone());
    tasks.spawn(provider.run(stop.clone()));
    match manager::Manager::new(published, vips, board.clone(), &runtime_dir(config)) {
        Ok(manager) => drop(tasks.spawn(manager.run(stop.clone()))),
        Err(error) => error!(%error, "virtual addresses are not kept: the kernel cannot be talked to"),
    }
    Entrypoints { stop, tasks }
}

impl Entrypoints {
    /// Gives addresses back and ends.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            warn!("virtual addresses may still be here: the kernel drops them with the lease");
        }
    }
}

/// What names rest on.
fn names_of(config: &Config) -> Settings {
    let own_host = config.postgresql.connect_address.host.clone();
    Settings { dns: config.dns.clone(), vip: config.vip.clone(), own_host }
}

/// Passes on what a reload brings.
async fn follow(mut latest: Latest, vip: watch::Sender<Arc<Vip>>, names: watch::Sender<Arc<Settings>>) {
    loop {
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            () = vip.closed() => return,
        }
        if let Some(config) = latest.borrow_and_update().clone() {
            vip.send_replace(Arc::new(config.vip.clone()));
            let new = names_of(&config);
            names.send_if_modified(|present| {
                let changed = **present != new;
                if changed {
                    *present = Arc::new(new);
                }
                changed
            });
        }
    }
}
