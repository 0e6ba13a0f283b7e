//! What all threads tell, put together for the tables of the console.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bellwether_types::Timestamp;

use super::Console;
use crate::{
    admin::{self, Snapshot, Totals},
    clock,
    report::PoolReport,
    settings::{Mode, PoolerSettings, Settings},
};

/// How often totals are noted, for the averages (`stats_period`).
const PERIOD: Duration = Duration::from_secs(60);

/// What the totals of the databases were, one and two periods ago.
#[derive(Debug)]
pub(crate) struct Averages(Mutex<VecDeque<(Timestamp, BTreeMap<String, Totals>)>>);

impl Averages {
    pub(crate) fn from_now() -> Self {
        Self(Mutex::new([(clock::now(), BTreeMap::new())].into()))
    }

    fn note(&self, totals: BTreeMap<String, Totals>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back((clock::now(), totals));
        while notes.len() > 2 {
            notes.pop_front();
        }
    }

    /// Since when there are averages, and from what.
    fn begin(&self) -> (Timestamp, BTreeMap<String, Totals>) {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.front().cloned().unwrap_or_default()
    }
}

impl Console {
    /// Notes totals every now and then. Never ends.
    pub(crate) async fn note_totals(self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let databases = self.snapshot().await.databases.into_iter();
            self.averages.note(databases.map(|database| (database.name, database.totals)).collect());
        }
    }

    pub(super) async fn snapshot(&self) -> Snapshot {
        let reports = self.handle.reports().await;
        let (settings, routes) = (self.settings.borrow().clone(), self.routes.borrow().clone());
        let (since, before) = self.averages.begin();
        let mut snapshot = Snapshot {
            version: format!("PgBouncer 1.24.0 (Bellwether {})", env!("CARGO_PKG_VERSION")),
            is_paused: reports.iter().any(|report| report.is_paused),
            stats_period: clock::now().since(since),
            config: config(&settings),
            ..Snapshot::default()
        };
        let pooler = &settings.pooler;
        let mut databases: BTreeMap<String, admin::Database> = BTreeMap::new();
        let mut users: BTreeMap<String, admin::User> = BTreeMap::new();
        for name in pooler.limits.users.keys() {
            users.insert(name.clone(), user(pooler, name));
        }
        for report in &reports {
            for pool in &report.pools {
                add_pool(&mut snapshot, pool);
                let servers = pool.servers();
                let clients = pool.clients_active + pool.clients_waiting;
                let known = users.entry(pool.user.to_string()).or_insert_with(|| user(pooler, &pool.user));
                known.server_connections += servers;
                known.client_connections += clients;
                let known =
                    databases.entry(pool.database.to_string()).or_insert_with(|| database(pooler, pool));
                known.server_connections += servers;
                known.client_connections += clients;
                known.totals += pool.totals;
                known.is_paused |= report.is_paused || report.paused.contains(&*pool.database);
                known.is_disabled |= report.disabled.contains(&*pool.database);
            }
            snapshot.clients.extend(report.clients.iter().cloned());
            snapshot.servers.extend(report.servers.iter().cloned());
        }
        if let Some(address) = routes.primary.as_ref().and_then(|route| route.addresses.first()) {
            for database in databases.values_mut() {
                (database.host, database.port) = (address.ip().to_string(), address.port());
            }
        }
        for database in databases.values_mut() {
            database.totals_before = before.get(&database.name).copied().unwrap_or_default();
        }
        snapshot.databases = databases.into_values().collect();
        snapshot.users = users.into_values().collect();
        snapshot
    }
}

fn database(pooler: &PoolerSettings, pool: &PoolReport) -> admin::Database {
    // Nobody has the empty name: what holds for the database alone.
    let limit = pooler.limits.of(&pool.database, "");
    admin::Database {
        name: pool.database.to_string(),
        pool_mode: word(pool.mode),
        pool_size: limit.size,
        min_pool_size: limit.min,
        reserve_pool_size: limit.reserve,
        server_lifetime: pooler.limits.server_lifetime_in(&pool.database),
        max_server_connections: limit.max_db.unwrap_or(0),
        max_client_connections: limit.max_db_clients.unwrap_or(0),
        ..admin::Database::default()
    }
}

fn user(pooler: &PoolerSettings, name: &str) -> admin::User {
    let limit = pooler.limits.of("", name);
    let own = pooler.limits.users.get(name);
    admin::User {
        name: name.to_owned(),
        pool_size: own.and_then(|own| own.pool_size),
        reserve_pool_size: own.and_then(|own| own.reserve_pool_size),
        max_server_connections: limit.max_user.unwrap_or(0),
        max_client_connections: limit.max_user_clients.unwrap_or(0),
        ..admin::User::default()
    }
}

/// The pools of several threads, or of several listeners, are one to people.
fn add_pool(snapshot: &mut Snapshot, pool: &PoolReport) {
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
    let limits = &pooler.limits;
    let seconds = |span: Duration| span.as_secs_f64().to_string();
    let at_most = |limit: Option<usize>| limit.unwrap_or(0).to_string();
    [
        ("default_pool_size", limits.pool_size.to_string(), "20"),
        ("min_pool_size", limits.min_pool_size.to_string(), "0"),
        ("reserve_pool_size", limits.reserve_pool_size.to_string(), "0"),
        ("reserve_pool_timeout", seconds(limits.reserve_pool_timeout), "5"),
        ("max_db_connections", at_most(limits.max_db_connections), "0"),
        ("max_user_connections", at_most(limits.max_user_connections), "0"),
        ("max_db_client_connections", at_most(limits.max_db_client_connections), "0"),
        ("max_user_client_connections", at_most(limits.max_user_client_connections), "0"),
        ("max_client_conn", pooler.max_clients.to_string(), "10000"),
        ("max_prepared_statements", pooler.max_prepared_statements.to_string(), "200"),
        ("query_wait_timeout", seconds(pooler.query_wait_timeout), "120"),
        ("query_wait_notify", seconds(pooler.query_wait_notify), "5"),
        ("query_timeout", seconds(limits.timeouts.query), "0"),
        ("transaction_timeout", seconds(limits.timeouts.transaction), "0"),
        ("idle_transaction_timeout", seconds(limits.timeouts.idle_transaction), "0"),
        ("client_idle_timeout", seconds(limits.timeouts.client_idle), "0"),
        ("client_login_timeout", seconds(pooler.client_login_timeout), "60"),
        ("server_connect_timeout", seconds(pooler.server_connect_timeout), "5"),
        ("server_idle_timeout", seconds(pooler.server_idle_timeout), "600"),
        ("server_lifetime", seconds(pooler.server_lifetime), "3600"),
        ("server_reset_query", pooler.reset_query.clone(), "DISCARD ALL"),
        ("admin_users", pooler.admin_users.join(","), ""),
        ("stats_users", pooler.stats_users.join(","), ""),
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
