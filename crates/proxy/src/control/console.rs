//! Doing what is typed on the console, in all workers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_pgwire::message::{self, Report};
use tokio::sync::watch;

use super::ProxyHandle;
use crate::{
    admin::{self, Command as Typed, Show, Snapshot, table},
    report::WorkerReport,
    routes::Routes,
    settings::{Mode, Settings},
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
            Err(error) => refuse(&mut out, "42601", &error.to_string(), ""),
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
            Typed::WaitClose(database) => {
                self.until_free(database.as_deref()).await;
                return message::complete(out, "WAIT_CLOSE");
            }
            Typed::Reload | Typed::Set { .. } => {
                return refuse(
                    out,
                    "0A000",
                    "settings are those of the node's file",
                    "Change the file, then `kill -HUP` the agent or POST /reload.",
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

    async fn snapshot(&self) -> Snapshot {
        let reports = self.handle.reports().await;
        let (settings, routes) = (self.settings.borrow().clone(), self.routes.borrow().clone());
        let mut snapshot = Snapshot {
            version: format!("PgBouncer 1.24.0 (Bellwether {})", env!("CARGO_PKG_VERSION")),
            is_paused: reports.iter().any(|report| report.is_paused),
            stats_period: Duration::from_secs(60),
            config: config(&settings),
            ..Snapshot::default()
        };
        let mut databases: BTreeMap<String, admin::Database> = BTreeMap::new();
        for report in &reports {
            for pool in &report.pools {
                add_pool(&mut snapshot, pool);
                let database =
                    databases.entry(pool.database.to_string()).or_insert_with(|| admin::Database {
                        name: pool.database.to_string(),
                        pool_mode: word(pool.mode),
                        pool_size: settings.pooler.size_of(&pool.database, &pool.user),
                        ..admin::Database::default()
                    });
                database.server_connections += pool.servers_active + pool.servers_idle + pool.servers_login;
                database.client_connections += pool.clients_active + pool.clients_waiting;
                database.totals.transactions += pool.transactions;
                database.is_paused |= report.is_paused || report.paused.contains(&*pool.database);
                database.is_disabled |= report.disabled.contains(&*pool.database);
            }
            snapshot.clients.extend(report.clients.iter().cloned());
            snapshot.servers.extend(report.servers.iter().cloned());
        }
        if let Some(address) = routes.primary.as_ref().and_then(|route| route.addresses.first()) {
            for database in databases.values_mut() {
                (database.host, database.port) = (address.ip().to_string(), address.port());
            }
        }
        snapshot.databases = databases.into_values().collect();
        snapshot
    }
}

/// The pools of several threads, or of several listeners, are one to people.
fn add_pool(snapshot: &mut Snapshot, pool: &crate::report::PoolReport) {
    let mode = word(pool.mode);
    let is_same = |known: &admin::Pool| {
        known.database == *pool.database && known.user == *pool.user && known.mode == mode
    };
    let at = snapshot.pools.iter().position(is_same).unwrap_or_else(|| {
        let (database, user) = (pool.database.to_string(), pool.user.to_string());
        snapshot.pools.push(admin::Pool { database, user, mode, ..admin::Pool::default() });
        snapshot.pools.len() - 1
    });
    let shown = &mut snapshot.pools[at];
    shown.clients_active += pool.clients_active;
    shown.clients_waiting += pool.clients_waiting;
    shown.servers_active += pool.servers_active;
    shown.servers_idle += pool.servers_idle;
    shown.servers_tested += pool.servers_reset;
    shown.servers_being_canceled += pool.servers_being_cancelled;
    shown.servers_login += pool.servers_login;
    shown.longest_wait = shown.longest_wait.max(Duration::from_micros(pool.longest_wait_micros));
}

fn config(settings: &Settings) -> Vec<(String, String, String)> {
    let pooler = &settings.pooler;
    let seconds = |span: Duration| span.as_secs().to_string();
    [
        ("default_pool_size", pooler.pool_size.to_string(), "20"),
        ("max_client_conn", pooler.max_clients.to_string(), "10000"),
        ("max_prepared_statements", pooler.max_prepared_statements.to_string(), "200"),
        ("query_wait_timeout", seconds(pooler.query_wait_timeout), "120"),
        ("client_login_timeout", seconds(pooler.client_login_timeout), "60"),
        ("server_connect_timeout", seconds(pooler.server_connect_timeout), "5"),
        ("server_idle_timeout", seconds(pooler.server_idle_timeout), "600"),
        ("server_lifetime", seconds(pooler.server_lifetime), "3600"),
        ("server_reset_query", pooler.reset_query.clone(), "DISCARD ALL"),
    ]
    .map(|(key, value, default)| (key.to_owned(), value, default.to_owned()))
    .into()
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Tcp => "tcp",
        Mode::Session => "session",
        Mode::Transaction => "transaction",
        Mode::Statement => "statement",
    }
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
