//! A snapshot as the rows of `SHOW`.

use super::{Show, Snapshot, snapshot::Totals};

/// What a `SHOW` returns: text columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<Option<String>>>,
}

/// The cells of a row.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$(Some($cell.to_string())),+] };
}

const POOLS: &[&str] = &[
    "database",
    "user",
    "cl_active",
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_idle",
    "sv_used",
    "sv_tested",
    "sv_login",
    "maxwait",
    "maxwait_us",
    "pool_mode",
    "load_balance_hosts",
];
const DATABASES: &[&str] = &[
    "name",
    "host",
    "port",
    "database",
    "force_user",
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "server_lifetime",
    "pool_mode",
    "load_balance_hosts",
    "max_connections",
    "current_connections",
    "max_client_connections",
    "current_client_connections",
    "paused",
    "disabled",
];
const SOCKETS: &[&str] = &[
    "type",
    "user",
    "database",
    "replication",
    "state",
    "addr",
    "port",
    "local_addr",
    "local_port",
    "connect_time",
    "request_time",
    "wait",
    "wait_us",
    "close_needed",
    "ptr",
    "link",
    "remote_pid",
    "tls",
    "application_name",
    "prepared_statements",
    "id",
];
const TOTALS: [&str; 11] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
];
const STATS_TOTALS: &[&str] = &[
    "database",
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
];
const STATS: &[&str] = &[
    "database",
    "total_server_assignment_count",
    "total_xact_count",
    "total_query_count",
    "total_received",
    "total_sent",
    "total_xact_time",
    "total_query_time",
    "total_wait_time",
    "total_client_parse_count",
    "total_server_parse_count",
    "total_bind_count",
    "avg_server_assignment_count",
    "avg_xact_count",
    "avg_query_count",
    "avg_recv",
    "avg_sent",
    "avg_xact_time",
    "avg_query_time",
    "avg_wait_time",
    "avg_client_parse_count",
    "avg_server_parse_count",
    "avg_bind_count",
];
const USERS: &[&str] = &[
    "name",
    "pool_size",
    "reserve_pool_size",
    "pool_mode",
    "max_user_connections",
    "current_connections",
    "max_user_client_connections",
    "current_client_connections",
];

/// The rows of a `SHOW`. What this proxy does not have (name servers, peers, memory of its own) has no rows.
pub fn table(show: Show, of: &Snapshot) -> Table {
    let (columns, rows) = match show {
        Show::Help => {
            (&["command"][..], Show::ALL.iter().map(|show| row![format!("SHOW {}", show.word())]).collect())
        }
        Show::Version => (&["version"][..], vec![row![of.version]]),
        Show::State => (&["key", "value"][..], state(of)),
        Show::Config => (
            &["key", "value", "default", "changeable"][..],
            of.config.iter().map(|(key, value, default)| row![key, value, default, "yes"]).collect(),
        ),
        Show::Databases => (DATABASES, databases(of)),
        Show::Pools => (POOLS, pools(of)),
        Show::Clients => (SOCKETS, clients(of)),
        Show::Servers => (SOCKETS, servers(of)),
        Show::Sockets | Show::ActiveSockets => (SOCKETS, [clients(of), servers(of)].concat()),
        Show::Lists => (&["list", "items"][..], lists(of)),
        Show::Stats => (STATS, stats(of, &[Half::Totals, Half::Averages])),
        Show::StatsTotals => (STATS_TOTALS, stats(of, &[Half::Totals])),
        Show::StatsAverages => (STATS_TOTALS, stats(of, &[Half::Averages])),
        Show::Totals => (&["name", "value"][..], totals(of)),
        Show::Users => (USERS, users(of)),
        Show::Mem => (&["name", "size", "used", "free", "memtotal"][..], vec![]),
        Show::DnsHosts => (&["hostname", "ttl", "addrs"][..], vec![]),
        Show::DnsZones => (&["zonename", "serial", "count"][..], vec![]),
        Show::Peers => (&["peer_id", "host", "port", "pool_size"][..], vec![]),
        Show::PeerPools => (
            &["peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login"][..],
            vec![],
        ),
        Show::Fds => (&["fd", "task", "user", "database", "addr", "port", "cancel", "link"][..], vec![]),
    };
    Table { columns, rows }
}

type Rows = Vec<Vec<Option<String>>>;

fn state(of: &Snapshot) -> Rows {
    let word = |is: bool| if is { "yes" } else { "no" };
    vec![
        row!["active", word(!of.is_paused && !of.is_suspended)],
        row!["paused", word(of.is_paused)],
        row!["suspended", word(of.is_suspended)],
    ]
}

fn databases(of: &Snapshot) -> Rows {
    let row = |it: &super::Database| {
        let mut row = row![it.name, it.host, it.port, it.name];
        // Nobody is forced to be another user.
        row.push(None);
        row.extend(row![it.pool_size, it.min_pool_size, it.reserve_pool_size]);
        row.push(it.server_lifetime.map(|lifetime| lifetime.as_secs().to_string()));
        row.extend(row![it.pool_mode]);
        // Hosts come from the cluster.
        row.push(None);
        row.extend(row![
            it.max_server_connections,
            it.server_connections,
            it.max_client_connections,
            it.client_connections,
            u8::from(it.is_paused),
            u8::from(it.is_disabled)
        ]);
        row
    };
    of.databases.iter().map(row).collect()
}

fn pools(of: &Snapshot) -> Rows {
    let row = |it: &super::Pool| {
        let mut row = row![
            it.database,
            it.user,
            it.clients_active,
            it.clients_waiting,
            it.clients_active_cancel,
            it.clients_waiting_cancel,
            it.servers_active,
            it.servers_active_cancel,
            it.servers_being_canceled,
            it.servers_idle,
            it.servers_used,
            it.servers_tested,
            it.servers_login,
            it.longest_wait.as_secs(),
            it.longest_wait.subsec_micros(),
            it.mode,
        ];
        row.push(None);
        row
    };
    of.pools.iter().map(row).collect()
}

fn clients(of: &Snapshot) -> Rows {
    let row = |it: &super::Client| {
        row![
            "C",
            it.user,
            it.database,
            "none",
            it.state,
            it.address,
            it.port,
            it.local_address,
            it.local_port,
            it.connected_at,
            it.asked_at,
            it.wait.as_secs(),
            it.wait.subsec_micros(),
            0,
            format!("{:#x}", it.id),
            it.server.map(|id| format!("{id:#x}")).unwrap_or_default(),
            0,
            it.tls,
            it.application_name,
            it.prepared_statements,
            it.id,
        ]
    };
    of.clients.iter().map(row).collect()
}

fn servers(of: &Snapshot) -> Rows {
    let row = |it: &super::Server| {
        row![
            "S",
            it.user,
            it.database,
            "none",
            it.state,
            it.address,
            it.port,
            it.local_address,
            it.local_port,
            it.connected_at,
            it.asked_at,
            0,
            0,
            u8::from(it.is_closing),
            format!("{:#x}", it.id),
            it.client.map(|id| format!("{id:#x}")).unwrap_or_default(),
            it.pid,
            it.tls,
            "",
            it.prepared_statements,
            it.id,
        ]
    };
    of.servers.iter().map(row).collect()
}

fn lists(of: &Snapshot) -> Rows {
    let logging_in: usize = of.pools.iter().map(|pool| pool.servers_login).sum();
    let used = |state: &str| of.servers.iter().filter(|server| server.state == state).count();
    vec![
        row!["databases", of.databases.len()],
        row!["users", of.users.len()],
        row!["peers", 0],
        row!["pools", of.pools.len()],
        row!["peer_pools", 0],
        row!["free_clients", 0],
        row!["used_clients", of.clients.len()],
        row!["login_clients", 0],
        row!["free_servers", used("idle")],
        row!["used_servers", of.servers.len() - used("idle")],
        row!["login_servers", logging_in],
        row!["dns_names", 0],
        row!["dns_zones", 0],
        row!["dns_queries", 0],
        row!["dns_pending", 0],
    ]
}

fn users(of: &Snapshot) -> Rows {
    let row = |it: &super::User| {
        let number = |number: Option<usize>| number.map(|number| number.to_string());
        let mut row = row![it.name];
        // Modes are those of listeners.
        row.extend([number(it.pool_size), number(it.reserve_pool_size), None]);
        row.extend(row![
            it.max_server_connections,
            it.server_connections,
            it.max_client_connections,
            it.client_connections
        ]);
        row
    };
    of.users.iter().map(row).collect()
}

#[derive(Clone, Copy)]
enum Half {
    Totals,
    Averages,
}

fn stats(of: &Snapshot, halves: &[Half]) -> Rows {
    let row = |it: &super::Database| {
        let numbers = halves.iter().flat_map(|half| match half {
            Half::Totals => numbers(&it.totals),
            Half::Averages => averages(&it.totals, &it.totals_before, of.stats_period.as_micros()),
        });
        std::iter::once(it.name.clone()).chain(numbers.map(|number| number.to_string())).map(Some).collect()
    };
    of.databases.iter().map(row).collect()
}

fn numbers(it: &Totals) -> [u64; 11] {
    [
        it.server_assignments,
        it.transactions,
        it.queries,
        it.received_bytes,
        it.sent_bytes,
        it.transaction_micros,
        it.query_micros,
        it.wait_micros,
        it.client_parses,
        it.server_parses,
        it.binds,
    ]
}

/// Counts and bytes for each second, times for each transaction, query, and assignment of a server.
fn averages(now: &Totals, before: &Totals, period_micros: u128) -> [u64; 11] {
    let (now, before) = (numbers(now), numbers(before));
    let grown: [u64; 11] = std::array::from_fn(|at| now[at].saturating_sub(before[at]));
    let [assignments, transactions, queries, ..] = grown;
    std::array::from_fn(|at| {
        let per = match at {
            5 => transactions,
            6 => queries,
            7 => assignments,
            _ => {
                let each = u128::from(grown[at]) * 1_000_000 / period_micros.max(1);
                return u64::try_from(each).unwrap_or(u64::MAX);
            }
        };
        grown[at].checked_div(per).unwrap_or(0)
    })
}

fn totals(of: &Snapshot) -> Rows {
    let mut sums = [0_u64; 11];
    for database in &of.databases {
        for (sum, number) in sums.iter_mut().zip(numbers(&database.totals)) {
            *sum += number;
        }
    }
    TOTALS.iter().zip(sums).map(|(name, sum)| row![format!("total_{name}"), sum]).collect()
}

#[cfg(test)]
mod tests;
