//! Addresses that a provider of servers leads to one of them: a task per entry that asks the provider while this member holds the entry.
//!
//! A call may take a minute, fail, or lie. It holds nobody up: it begins when PostgreSQL takes writes, beside everything else, is made
//! again until it works, and never by a member that has lost its lease. What was done is read back, and looked at again later: a slow
//! call of a former leader may arrive after ours.

mod calls;
mod programs;

use std::{sync::Arc, time::Duration};

use bellwether_config::sections::vip::{Provider, ProviderKind, Vip, VipEntry};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Agent,
    board::{Board, Entry, Part, wall},
    vip::plan::{Holding, Wanted, wanted},
};

const KIND: &str = "provider";
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// After a success it is looked at again so soon, then as configured.
const SECOND_LOOK: Duration = Duration::from_secs(30);

/// What a provider, a program or a webhook is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Order {
    /// `acquire`, `verify` or `release`.
    pub(crate) action: &'static str,
    pub(crate) entry: String,
    pub(crate) address: String,
    pub(crate) cluster: String,
    pub(crate) member: String,
    pub(crate) role: &'static str,
    /// The same for everything that belongs to one change of leader.
    pub(crate) transition_id: String,
    pub(crate) attempt: u32,
}

/// Why it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may work the next time.
    Again(String),
    /// It will not, until somebody changes something.
    Refused(String),
}

/// Keeps the entries that have a provider.
#[derive(Debug)]
pub struct Manager {
    agent: Agent,
    config: watch::Receiver<Arc<Vip>>,
    board: Board,
}

impl Manager {
    pub fn new(agent: Agent, config: watch::Receiver<Arc<Vip>>, board: Board) -> Self {
        Self { agent, config, board }
    }

    /// Runs until `stop`. The address stays where it is: the next leader calls for it.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let vip = self.config.borrow_and_update().clone();
            // Ended with this scope, when the configuration changes.
            let mut keepers = JoinSet::new();
            let mut names = Vec::new();
            for (name, entry) in &vip.entries {
                if let Some(provider) = &entry.provider {
                    names.push(name.as_str());
                    let keeper = Keeper {
                        agent: self.agent.clone(),
                        board: self.board.clone(),
                        name: name.clone(),
                        entry: entry.clone(),
                        provider: provider.clone(),
                    };
                    keepers.spawn(keeper.run());
                }
            }
            self.board.keep(KIND, &names);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.config.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// One entry.
struct Keeper {
    agent: Agent,
    board: Board,
    name: String,
    entry: VipEntry,
    provider: Provider,
}

impl Keeper {
    async fn run(mut self) {
        let mut failures = 0;
        let mut is_done = false;
        loop {
            let (holds, because) = self.holds();
            let wait = if !holds {
                (failures, is_done) = (0, false);
                None
            } else {
                let action = if is_done { "verify" } else { "acquire" };
                match self.make_it_so(action, failures + 1).await {
                    // The lease was lost meanwhile: the next look says so.
                    Ok(false) => Some(Duration::ZERO),
                    Ok(true) => {
                        if !is_done {
                            info!(entry = self.name, "the provider leads the addresses to this host");
                            self.agent.tell(KIND, json!({"action": "acquired", "entry": self.name}));
                        }
                        let first = !is_done;
                        (failures, is_done) = (0, true);
                        self.board.clear_error(KIND, &self.name);
                        Some(if first { SECOND_LOOK.min(self.provider.verify) } else { self.provider.verify })
                    }
                    Err(trouble) => {
                        failures += 1;
                        is_done = false;
                        Some(self.note(&trouble, failures))
                    }
                }
            };
            self.show(holds, is_done, because);
            // Until something is due, only a change of what is wanted matters.
            let due = wait.map(|wait| (self.agent.now)() + wait);
            loop {
                let left = due.map(|due| (self.agent.now)().until(due));
                tokio::select! {
                    changed = self.agent.topology.changed() => if changed.is_err() { return },
                    () = until_over(left) => break,
                }
                if self.holds().0 != holds {
                    break;
                }
            }
        }
    }

    /// Whether this member holds the entry now, and why.
    fn holds(&self) -> (bool, &'static str) {
        match wanted(&self.entry, &self.agent.situation(), Holding::No) {
            Wanted::Held { because, .. } => (true, because),
            Wanted::NotHere { because } => (false, because),
            Wanted::Coming | Wanted::AsItIs => (false, "not yet"),
        }
    }

    /// Every address of the entry leads here. False: this member does not hold it any more.
    async fn make_it_so(&self, action: &'static str, attempt: u32) -> Result<bool, Trouble> {
        for address in &self.entry.addresses {
            // A retry of a former leader must not steal it back.
            if !self.holds().0 {
                return Ok(false);
            }
            let status = self.agent.status.borrow().clone();
            let term = self.agent.situation().term.map_or(0, |term| term.0);
            let order = Order {
                action,
                entry: self.name.clone(),
                address: address.ip.to_string(),
                cluster: status.cluster.to_string(),
                member: status.me.to_string(),
                role: "primary",
                transition_id: format!("{}-{term}", status.cluster),
                attempt,
            };
            match self.provider.kind {
                ProviderKind::HetznerRobot => calls::hetzner_robot(&self.provider, &order).await,
                ProviderKind::HetznerCloud => calls::hetzner_cloud(&self.provider, &order).await,
                ProviderKind::Webhook => calls::webhook(&self.provider, &order).await,
                ProviderKind::AwsEip => programs::aws(&self.provider).await,
                ProviderKind::Exec => programs::exec(&self.provider, &order).await,
            }?;
        }
        Ok(true)
    }

    fn note(&self, trouble: &Trouble, failures: u32) -> Duration {
        let (why, wait) = match trouble {
            Trouble::Again(why) => {
                let doubled = FIRST_RETRY * 2_u32.saturating_pow((failures - 1).min(10));
                (why, doubled.min(LAST_RETRY).mul_f64(0.75 + rand::random::<f64>() / 2.0))
            }
            Trouble::Refused(why) => (why, self.provider.verify.min(Duration::from_secs(60))),
        };
        if self.board.fail(KIND, &self.name, why, wall()) {
            match trouble {
                Trouble::Again(_) => {
                    warn!(entry = self.name, "the provider does not lead the address here yet: {why}")
                }
                Trouble::Refused(_) => error!(entry = self.name, "the provider refuses: {why}"),
            }
            self.agent.tell(KIND, json!({"action": "failed", "entry": self.name, "because": why}));
        }
        wait
    }

    fn show(&self, wanted: bool, held: bool, because: &str) {
        let parts = self.entry.addresses.iter().map(|address| Part {
            what: address.ip.to_string(),
            state: if held { "here" } else { "not here" }.into(),
            ..Part::default()
        });
        let entry = Entry {
            kind: KIND.into(),
            name: self.name.clone(),
            parts: parts.collect(),
            wanted,
            held,
            because: because.into(),
            ..Entry::default()
        };
        self.board.put(entry, wall());
    }
}

async fn until_over(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
