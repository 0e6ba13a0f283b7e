//! What a proxy is doing at one moment.

use std::time::Duration;

/// Everything that `SHOW` shows. Times are spans up to the moment when it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub version: String,
    pub is_paused: bool,
    pub is_suspended: bool,
    pub databases: Vec<Database>,
    pub users: Vec<User>,
    pub pools: Vec<Pool>,
    pub clients: Vec<Client>,
    pub servers: Vec<Server>,
    /// Key, value, default.
    pub config: Vec<(String, String, String)>,
    /// Over which the averages are taken.
    pub stats_period: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub pool_size: usize,
    pub min_pool_size: usize,
    pub reserve_pool_size: usize,
    /// If it differs.
    pub server_lifetime: Option<Duration>,
    pub pool_mode: &'static str,
    /// Zero: any number.
    pub max_server_connections: usize,
    pub server_connections: usize,
    /// Zero: any number.
    pub max_client_connections: usize,
    pub client_connections: usize,
    pub is_paused: bool,
    pub is_disabled: bool,
    pub totals: Totals,
    /// As they were before `stats_period`.
    pub totals_before: Totals,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// If it differs.
    pub pool_size: Option<usize>,
    /// If it differs.
    pub reserve_pool_size: Option<usize>,
    /// Zero: any number.
    pub max_server_connections: usize,
    pub server_connections: usize,
    /// Zero: any number.
    pub max_client_connections: usize,
    pub client_connections: usize,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub server_assignments: u64,
    pub transactions: u64,
    pub queries: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_micros: u64,
    pub query_micros: u64,
    pub wait_micros: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    /// Servers that could not be opened. PgBouncer has no such column; it is in `/metrics`.
    pub server_failures: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.server_assignments += other.server_assignments;
        self.transactions += other.transactions;
        self.queries += other.queries;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.transaction_micros += other.transaction_micros;
        self.query_micros += other.query_micros;
        self.wait_micros += other.wait_micros;
        self.client_parses += other.client_parses;
        self.server_parses += other.server_parses;
        self.binds += other.binds;
        self.server_failures += other.server_failures;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub database: String,
    pub user: String,
    pub mode: &'static str,
    pub clients_active: usize,
    pub clients_waiting: usize,
    pub clients_active_cancel: usize,
    pub clients_waiting_cancel: usize,
    pub servers_active: usize,
    pub servers_active_cancel: usize,
    pub servers_being_canceled: usize,
    pub servers_idle: usize,
    pub servers_used: usize,
    pub servers_tested: usize,
    pub servers_login: usize,
    /// Of the client that waits the longest.
    pub longest_wait: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub id: u64,
    pub user: String,
    pub database: String,
    /// `active`, `waiting` or `idle`.
    pub state: &'static str,
    pub address: String,
    pub port: u16,
    pub local_address: String,
    pub local_port: u16,
    /// RFC 3339.
    pub connected_at: String,
    pub asked_at: String,
    pub wait: Duration,
    /// The id of its server.
    pub server: Option<u64>,
    pub tls: String,
    pub application_name: String,
    pub prepared_statements: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub id: u64,
    pub user: String,
    pub database: String,
    /// `active`, `idle`, `used`, `tested` or `new`.
    pub state: &'static str,
    pub address: String,
    pub port: u16,
    pub local_address: String,
    pub local_port: u16,
    pub connected_at: String,
    pub asked_at: String,
    pub is_closing: bool,
    /// The id of its client.
    pub client: Option<u64>,
    /// Of its process.
    pub pid: u32,
    pub tls: String,
    pub prepared_statements: usize,
}
