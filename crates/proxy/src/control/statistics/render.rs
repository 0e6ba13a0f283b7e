//! The same numbers in four forms.

mod prometheus;

use std::{fmt::Write as _, time::Duration};

use bellwether_types::Duty;
use serde::Serialize;

use crate::{
    clock,
    metrics::Metrics,
    report::PoolReport,
    routes::{Routes, Target},
    settings::{Mode, Settings},
};

/// The customary header of HAProxy's statistics, as far as it means something here.
const CSV_HEADER: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,";

/// All numbers at one instant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    cluster: String,
    primary: Option<String>,
    /// Why there is none.
    no_primary: Option<&'static str>,
    clients: u64,
    cancels: Cancels,
    clients_limit: usize,
    listeners: Vec<ListenerShown>,
    pools: Vec<PoolShown>,
    full: FullShown,
}

/// How often a pool had to wait because of which limit.
#[derive(Clone, Copy, Debug, Serialize)]
struct FullShown {
    pool_size: u64,
    max_db_connections: u64,
    max_user_connections: u64,
}

/// Requests to cancel.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cancels {
    found: u64,
    sent_on: u64,
    received: u64,
    dropped: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ListenerShown {
    name: String,
    role: &'static str,
    mode: &'static str,
    connections: u64,
    accepted: u64,
    waiting: u64,
    proxied: u64,
    received_bytes: u64,
    sent_bytes: u64,
    cut: u64,
    repeated: u64,
    refused: std::collections::BTreeMap<&'static str, u64>,
    members: Vec<MemberShown>,
}

#[derive(Clone, Debug, Serialize)]
struct MemberShown {
    name: String,
    /// `UP`: clients are led there. `DRAIN`: only those that are there already. `MAINT`: an operator wants nobody there. `DOWN`: nobody.
    status: &'static str,
    connections: u64,
    opened: u64,
}

#[derive(Clone, Debug, Serialize)]
struct PoolShown {
    database: String,
    user: String,
    role: &'static str,
    mode: &'static str,
    clients_active: usize,
    clients_waiting: usize,
    servers_active: usize,
    servers_idle: usize,
    servers_login: usize,
    servers_reset: usize,
    pinned: usize,
    longest_wait_seconds: f64,
    transactions: u64,
    queries: u64,
    received_bytes: u64,
    sent_bytes: u64,
    client_parses: u64,
    server_parses: u64,
    binds: u64,
    server_failures: u64,
    transaction_seconds: f64,
    query_seconds: f64,
    wait_seconds: f64,
    last_error: Option<String>,
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Tcp => "tcp",
        Mode::Session => "session",
        Mode::Transaction => "transaction",
        Mode::Statement => "statement",
    }
}

impl Shown {
    pub(crate) fn now(
        metrics: &Metrics,
        routes: &Routes,
        settings: &Settings,
        pools: Vec<PoolReport>,
    ) -> Self {
        let now = clock::now();
        let listeners = settings.listeners.iter().map(|listener| {
            let counts = metrics.listener(&listener.name);
            let candidates = routes.candidates(listener.target, now);
            let known = counts.members();
            let mut members: Vec<MemberShown> = candidates
                .iter()
                .filter(|route| !known.contains_key(&route.member))
                .map(|route| MemberShown {
                    name: route.member.to_string(),
                    status: "UP",
                    connections: 0,
                    opened: 0,
                })
                .collect();
            // Who was taken out stays in sight.
            let is_reader = listener.target != Target::Primary;
            let taken_out =
                routes.taken_out.iter().filter(|(name, _)| is_reader && !known.contains_key(*name));
            members.extend(taken_out.map(|(name, duty)| MemberShown {
                name: name.to_string(),
                status: if *duty == Duty::Maint { "MAINT" } else { "DRAIN" },
                connections: 0,
                opened: 0,
            }));
            members.extend(known.iter().map(|(name, counts)| {
                let is_up = candidates.iter().any(|route| route.member == *name);
                let is_allowed = routes.allows(listener.target, name, now);
                let status = match (is_up, is_allowed, routes.taken_out.get(name)) {
                    (true, ..) => "UP",
                    (false, _, Some(Duty::Maint)) => "MAINT",
                    (false, true, _) | (false, _, Some(Duty::Drain)) => "DRAIN",
                    (false, false, _) => "DOWN",
                };
                MemberShown {
                    name: name.to_string(),
                    status,
                    connections: counts.current.get(),
                    opened: counts.total.get(),
                }
            }));
            members.sort_by(|one, other| one.name.cmp(&other.name));
            ListenerShown {
                name: listener.name.to_string(),
                role: listener.target.as_str(),
                mode: mode(listener.mode),
                connections: counts.connections.get(),
                accepted: counts.accepted.get(),
                waiting: counts.waiting.get(),
                proxied: counts.proxied.get(),
                received_bytes: counts.received.get(),
                sent_bytes: counts.sent.get(),
                cut: counts.cut.get(),
                repeated: counts.repeated.get(),
                refused: counts.refusals(),
                members,
            }
        });
        let primary = routes.primary_at(now);
        Self {
            cluster: routes.cluster.to_string(),
            primary: primary.ok().map(|route| route.member.to_string()),
            no_primary: primary.err().map(crate::routes::NoPrimary::sentence),
            clients: metrics.clients.get(),
            cancels: Cancels {
                found: metrics.cancels.found.get(),
                sent_on: metrics.cancels.sent_on.get(),
                received: metrics.cancels.received.get(),
                dropped: metrics.cancels.dropped.get(),
            },
            clients_limit: settings.limits.max_connections,
            listeners: listeners.collect(),
            pools: pools.into_iter().map(PoolShown::of).collect(),
            full: FullShown {
                pool_size: metrics.full[0].get(),
                max_db_connections: metrics.full[1].get(),
                max_user_connections: metrics.full[2].get(),
            },
        }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// As HAProxy writes it; columns that mean nothing here are empty.
    pub(crate) fn csv(&self) -> String {
        let mut out = format!("{CSV_HEADER}\n");
        for listener in &self.listeners {
            let ListenerShown { name, waiting, connections, accepted, received_bytes, sent_bytes, .. } =
                listener;
            let refused: u64 = listener.refused.values().sum();
            let limit = self.clients_limit;
            let _ = writeln!(
                out,
                "{name},FRONTEND,,,{connections},,{limit},{accepted},{received_bytes},{sent_bytes},{refused},0,0,,,,,OPEN,,,,,,,,"
            );
            for member in &listener.members {
                let MemberShown { name: member, status, connections, opened } = member;
                let _ = writeln!(
                    out,
                    "{name},{member},0,,{connections},,,{opened},,,,0,,0,0,0,0,{status},1,1,0,0,0,,,"
                );
            }
            let up = listener.members.iter().filter(|member| member.status == "UP").count();
            let status = if up > 0 { "UP" } else { "DOWN" };
            let _ = writeln!(
                out,
                "{name},BACKEND,{waiting},,{connections},,{limit},{accepted},{received_bytes},{sent_bytes},{refused},0,,0,0,0,0,{status},{up},{up},0,,0,,,"
            );
        }
        out
    }

    pub(crate) fn html(&self) -> String {
        let mut out = String::from(
            "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Bellwether proxy</title>\
             <style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}\
             td,th{border:1px solid #bbb;padding:.3em .6em;text-align:right}td:first-child,th:first-child{text-align:left}</style>",
        );
        let primary = self.primary.as_deref().unwrap_or(self.no_primary.unwrap_or("none"));
        let _ = write!(out, "<h1>Proxy of {}</h1><p>Primary: {}", escaped(&self.cluster), escaped(primary));
        out.push_str("<table><tr><th>listener<th>role<th>mode<th>member<th>status<th>connections<th>total<th>waiting<th>bytes in<th>bytes out<th>refused<th>cut");
        for listener in &self.listeners {
            let refused: u64 = listener.refused.values().sum();
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td>{}<td><td><td>{}<td>{}<td>{}<td>{}<td>{}<td>{refused}<td>{}",
                escaped(&listener.name),
                listener.role,
                listener.mode,
                listener.connections,
                listener.accepted,
                listener.waiting,
                listener.received_bytes,
                listener.sent_bytes,
                listener.cut
            );
            for member in &listener.members {
                let _ = write!(
                    out,
                    "<tr><td><td><td><td>{}<td>{}<td>{}<td>{}<td><td><td><td><td>",
                    escaped(&member.name),
                    member.status,
                    member.connections,
                    member.opened
                );
            }
        }
        out.push_str("</table><table><tr><th>database<th>user<th>role<th>mode<th>clients<th>waiting<th>longest wait s<th>servers in use<th>idle<th>login<th>pinned<th>transactions");
        for pool in &self.pools {
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.3}<td>{}<td>{}<td>{}<td>{}<td>{}",
                escaped(&pool.database),
                escaped(&pool.user),
                pool.role,
                pool.mode,
                pool.clients_active,
                pool.clients_waiting,
                pool.longest_wait_seconds,
                pool.servers_active,
                pool.servers_idle,
                pool.servers_login,
                pool.pinned,
                pool.transactions
            );
        }
        out.push_str("</table><p><a href=\"/;csv\">csv</a> <a href=\"/stats.json\">json</a> <a href=\"/metrics\">metrics</a>");
        out
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

impl PoolShown {
    fn of(report: PoolReport) -> Self {
        Self {
            database: report.database.to_string(),
            user: report.user.to_string(),
            role: report.target.as_str(),
            mode: mode(report.mode),
            clients_active: report.clients_active,
            clients_waiting: report.clients_waiting,
            servers_active: report.servers_active,
            servers_idle: report.servers_idle,
            servers_login: report.servers_login,
            servers_reset: report.servers_reset,
            pinned: report.pinned,
            longest_wait_seconds: report.longest_wait_micros as f64 / 1e6,
            transactions: report.totals.transactions,
            queries: report.totals.queries,
            received_bytes: report.totals.received_bytes,
            sent_bytes: report.totals.sent_bytes,
            client_parses: report.totals.client_parses,
            server_parses: report.totals.server_parses,
            binds: report.totals.binds,
            server_failures: report.totals.server_failures,
            transaction_seconds: seconds(report.totals.transaction_micros),
            query_seconds: seconds(report.totals.query_micros),
            wait_seconds: seconds(report.totals.wait_micros),
            last_error: report.last_error,
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
