//! Doing what is typed on the console, in all workers.

pub(super) mod snapshot;

use std::{sync::Arc, time::Duration};

use bellwether_pgwire::message::{self, Report};
use bellwether_types::{Duty, MemberName, topology::Topology};
use tokio::sync::watch;

use super::{
    ProxyHandle,
    confirm::Peers,
    reload::{Unread, Wishes},
};
use crate::{
    admin::{Command as Typed, Show, table},
    report::WorkerReport,
    routes::Routes,
    settings::Settings,
    worker::{Command, Mailbox},
};

/// How often it is looked whether servers are free.
const LOOK: Duration = Duration::from_millis(20);

/// What a worker does to its pools for the console; without a database, to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolCommand {
    /// Nobody is given a server.
    Pause(Option<String>),
    Resume(Option<String>),
    /// Servers are opened anew.
    Reconnect(Option<String>),
    /// Clients are sent away, and nobody is given a server.
    Kill(Option<String>),
    /// Nobody may log in.
    Disable(String),
    Enable(String),
    KillClient(u64),
}

/// The console of all workers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(super) handle: ProxyHandle,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) routes: watch::Receiver<Arc<Routes>>,
    pub(super) topology: watch::Receiver<Arc<Topology>>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) averages: Arc<snapshot::Averages>,
    pub(super) reloads: Wishes,
}

impl Console {
    pub(crate) fn workers(&self) -> &[Mailbox] {
        &self.handle.workers
    }

    /// The answer to one query, ReadyForQuery included.
    pub(crate) async fn obey(&self, text: &str, may_change: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match Typed::parse(text) {
            Ok(None) => message::put(&mut out, b'I', |_| {}),
            Ok(Some(Typed::Show(show))) => self.show(show, &mut out).await,
            Ok(Some(_)) if !may_change => {
                refuse(&mut out, "42501", "admin access needed", "Log in as one of pooler.admin_users.");
            }
            Ok(Some(typed)) => self.change(typed, &mut out).await,
            Err(error) => refuse(&mut out, "42601", &error.to_string(), "SHOW HELP lists what can be shown."),
        }
        message::ready(&mut out, b'I');
        out
    }

    async fn show(&self, show: Show, out: &mut Vec<u8>) {
        let snapshot = self.snapshot().await;
        let table = table(show, &snapshot);
        message::row_description(out, table.columns);
        for row in &table.rows {
            message::data_row(out, row);
        }
        message::complete(out, "SHOW");
    }

    async fn change(&self, typed: Typed, out: &mut Vec<u8>) {
        let (command, tag) = match typed {
            Typed::Pause(database) => (PoolCommand::Pause(database), "PAUSE"),
            Typed::Resume(database) => (PoolCommand::Resume(database), "RESUME"),
            Typed::Reconnect(database) => (PoolCommand::Reconnect(database), "RECONNECT"),
            Typed::Kill(database) => (PoolCommand::Kill(database), "KILL"),
            Typed::Disable(database) => (PoolCommand::Disable(database), "DISABLE"),
            Typed::Enable(database) => (PoolCommand::Enable(database), "ENABLE"),
            Typed::KillClient(id) => (PoolCommand::KillClient(id), "KILL_CLIENT"),
            Typed::Duty(duty, member) => return self.set_duty(duty, &member, out).await,
            Typed::WaitClose(database) => {
                self.until_free(database.as_deref()).await;
                return message::complete(out, "WAIT_CLOSE");
            }
            Typed::Reload => return self.reload(out).await,
            Typed::Set { .. } => {
                return refuse(
                    out,
                    "0A000",
                    "settings are those of the node's file",
                    "Change the file, then RELOAD.",
                );
            }
            Typed::Suspend | Typed::Shutdown(_) => {
                return refuse(
                    out,
                    "0A000",
                    "the proxy lives and ends with its agent",
                    "Stop the agent, or PAUSE the pools.",
                );
            }
            Typed::Show(_) => return,
        };
        for worker in self.workers() {
            worker.send(Command::Pools(command.clone()));
        }
        if let PoolCommand::Pause(database) | PoolCommand::Kill(database) = &command {
            // As PgBouncer: the answer comes when nothing is in flight any more.
            self.until_free(database.as_deref()).await;
        }
        message::complete(out, tag);
    }

    /// Written where the proxies of all nodes read it, by this node's agent, or the leader's where there is none.
    async fn set_duty(&self, duty: Duty, member: &str, out: &mut Vec<u8>) {
        let topology = self.topology.borrow().clone();
        let Some(named) = topology.members.iter().find(|known| known.name.as_str() == member) else {
            let what = format!("there is no member \"{member}\"");
            return refuse(out, "42704", &what, "`bellwether list` shows them.");
        };
        if duty != Duty::Ready && topology.leader.as_ref() == Some(&named.name) {
            let what = format!("\"{member}\" is the leader, and a leader keeps its clients");
            return refuse(out, "55000", &what, "Hand over first (`bellwether switchover`).");
        }
        let Some(url) = agent_of(&topology) else {
            let what = "no agent of the cluster is known";
            return refuse(out, "57P03", what, "Try again in a moment; `bellwether list` shows the members.");
        };
        match self.peers.set_duty(url, named.name.clone(), duty).await {
            Ok(()) => message::complete(out, &duty.as_str().to_uppercase()),
            Err(why) => {
                let what = format!("it could not be written down: {why}");
                refuse(out, "57P03", &what, "Try `bellwether drain`.");
            }
        }
    }

    async fn reload(&self, out: &mut Vec<u8>) {
        match self.reloads.make().await {
            Ok(()) => message::complete(out, "RELOAD"),
            Err(Unread::Nobody) => {
                refuse(out, "0A000", "no file is read here", "Reload the agent of this node.");
            }
            Err(Unread::Failed(why)) => {
                let hint = "What was in force stays in force. Correct the file, then RELOAD.";
                refuse(out, "F0000", &why, hint);
            }
        }
    }

    async fn until_free(&self, database: Option<&str>) {
        loop {
            let reports = self.handle.reports().await;
            let is_busy = reports.iter().flat_map(|report| &report.pools).any(|pool| {
                database.is_none_or(|database| *pool.database == *database) && pool.servers_active > 0
            });
            if !is_busy {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Who writes to the store: the agent of this node; else, on a host without one, that of the leader, or any.
fn agent_of(topology: &Topology) -> Option<String> {
    let with_address = || topology.members.iter().filter_map(|known| Some((known, known.api_url.clone()?)));
    let named = |name: &MemberName| with_address().find(|(known, _)| known.name == *name);
    let found =
        named(&topology.me).or_else(|| named(topology.leader.as_ref()?)).or_else(|| with_address().next());
    found.map(|(_, url)| url)
}

fn refuse(out: &mut Vec<u8>, sqlstate: &str, message: &str, hint: &str) {
    Report { severity: "ERROR", sqlstate, message, detail: "", hint }.write(out);
}

/// Everything of one worker, for the console.
impl ProxyHandle {
    pub(crate) async fn reports(&self) -> Vec<WorkerReport> {
        let (to, mut answers) = tokio::sync::mpsc::channel(self.workers.len().max(1));
        for worker in &self.workers {
            worker.send(Command::Report(to.clone()));
        }
        drop(to);
        let mut reports = Vec::new();
        let all = async {
            while let Some(report) = answers.recv().await {
                reports.push(report);
            }
        };
        let _ = tokio::time::timeout(super::ANSWER_WITHIN, all).await;
        reports
    }
}
