//! For Prometheus.

use std::fmt::Write as _;

use super::{Cancels, FullShown, ListenerShown, PoolShown, Shown};

impl Shown {
    pub(crate) fn prometheus(&self) -> String {
        let mut out = String::new();
        let gauge = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ =
                writeln!(out, "# HELP bellwether_proxy_{name} {help}\n# TYPE bellwether_proxy_{name} {kind}");
        };
        type Of<T> = fn(&T) -> u64;
        let listeners: [(&str, &str, &str, Of<ListenerShown>); 8] = [
            ("connections", "gauge", "Clients that are connected.", |it| it.connections),
            ("accepted_total", "counter", "Clients that were accepted.", |it| it.accepted),
            ("waiting", "gauge", "Clients that wait for a member or a server.", |it| it.waiting),
            (
                "proxied_total",
                "counter",
                "Clients whose address a load balancer has told by a PROXY header.",
                |it| it.proxied,
            ),
            ("received_bytes_total", "counter", "Bytes from clients.", |it| it.received_bytes),
            ("sent_bytes_total", "counter", "Bytes to clients.", |it| it.sent_bytes),
            ("cut_total", "counter", "Sessions that were ended because their member lost its role.", |it| {
                it.cut
            }),
            ("repeated_total", "counter", "Statements that another server was given.", |it| it.repeated),
        ];
        for (name, kind, help, value) in listeners {
            gauge(&mut out, name, kind, help);
            for listener in &self.listeners {
                let _ = writeln!(
                    out,
                    "bellwether_proxy_{name}{{listener=\"{}\"}} {}",
                    label(&listener.name),
                    value(listener)
                );
            }
        }
        gauge(&mut out, "refused_total", "counter", "Clients that were refused, by reason.");
        for listener in &self.listeners {
            for (reason, count) in &listener.refused {
                let _ = writeln!(
                    out,
                    "bellwether_proxy_refused_total{{listener=\"{}\",reason=\"{reason}\"}} {count}",
                    label(&listener.name)
                );
            }
        }
        gauge(
            &mut out,
            "cancels_total",
            "counter",
            "Requests to cancel for clients of pools, by what came of them.",
        );
        let Cancels { found, sent_on, received, dropped } = self.cancels;
        for (way, count) in
            [("found", found), ("sent_on", sent_on), ("received", received), ("dropped", dropped)]
        {
            let _ = writeln!(out, "bellwether_proxy_cancels_total{{way=\"{way}\"}} {count}");
        }
        gauge(
            &mut out,
            "member_status",
            "gauge",
            "1: what the member is for the listener: UP, DRAIN, MAINT or DOWN.",
        );
        for listener in &self.listeners {
            for member in &listener.members {
                let _ = writeln!(
                    out,
                    "bellwether_proxy_member_status{{listener=\"{}\",member=\"{}\",status=\"{}\"}} 1",
                    label(&listener.name),
                    label(&member.name),
                    member.status
                );
            }
        }
        gauge(&mut out, "has_primary", "gauge", "1 if writers are led to a primary.");
        let _ = writeln!(out, "bellwether_proxy_has_primary {}", u8::from(self.primary.is_some()));
        gauge(
            &mut out,
            "pool_full_total",
            "counter",
            "Times that a pool had to wait for a server, by limit.",
        );
        let FullShown { pool_size, max_db_connections, max_user_connections } = self.full;
        for (limit, count) in [
            ("pool_size", pool_size),
            ("max_db_connections", max_db_connections),
            ("max_user_connections", max_user_connections),
        ] {
            let _ = writeln!(out, "bellwether_proxy_pool_full_total{{limit=\"{limit}\"}} {count}");
        }
        let pools: [(&str, &str, &str, Of<PoolShown>); 13] = [
            ("pool_clients_active", "gauge", "Clients of the pool that do not wait.", |it| {
                it.clients_active as u64
            }),
            ("pool_clients_waiting", "gauge", "Clients of the pool that wait for a server.", |it| {
                it.clients_waiting as u64
            }),
            ("pool_servers_active", "gauge", "Servers that a client has.", |it| it.servers_active as u64),
            ("pool_servers_idle", "gauge", "Servers that nobody has.", |it| it.servers_idle as u64),
            ("pool_pinned", "gauge", "Clients that keep their server.", |it| it.pinned as u64),
            ("pool_transactions_total", "counter", "Transactions that have ended.", |it| it.transactions),
            ("pool_queries_total", "counter", "Queries that have been answered.", |it| it.queries),
            ("pool_received_bytes_total", "counter", "Bytes from clients of the pool.", |it| {
                it.received_bytes
            }),
            ("pool_sent_bytes_total", "counter", "Bytes to clients of the pool.", |it| it.sent_bytes),
            ("pool_client_parses_total", "counter", "Statements that clients have prepared.", |it| {
                it.client_parses
            }),
            ("pool_server_parses_total", "counter", "Statements that were prepared on servers.", |it| {
                it.server_parses
            }),
            ("pool_binds_total", "counter", "Times that a prepared statement was given its values.", |it| {
                it.binds
            }),
            ("pool_server_failures_total", "counter", "Servers that could not be opened.", |it| {
                it.server_failures
            }),
        ];
        for (name, kind, help, value) in pools {
            gauge(&mut out, name, kind, help);
            for pool in &self.pools {
                let _ = writeln!(out, "bellwether_proxy_{name}{{{}}} {}", pool.labels(), value(pool));
            }
        }
        type Seconds = fn(&PoolShown) -> f64;
        let spans: [(&str, &str, Seconds); 4] = [
            ("pool_transaction_seconds_total", "How long transactions have taken.", |it| {
                it.transaction_seconds
            }),
            ("pool_query_seconds_total", "How long queries have taken.", |it| it.query_seconds),
            ("pool_wait_seconds_total", "How long clients have waited for a server.", |it| it.wait_seconds),
            ("pool_longest_wait_seconds", "How long the client has waited that waits the longest.", |it| {
                it.longest_wait_seconds
            }),
        ];
        for (name, help, value) in spans {
            gauge(&mut out, name, if name.ends_with("_total") { "counter" } else { "gauge" }, help);
            for pool in &self.pools {
                let _ = writeln!(out, "bellwether_proxy_{name}{{{}}} {}", pool.labels(), value(pool));
            }
        }
        out
    }
}

impl PoolShown {
    fn labels(&self) -> String {
        format!(
            "database=\"{}\",user=\"{}\",role=\"{}\",mode=\"{}\"",
            label(&self.database),
            label(&self.user),
            self.role,
            self.mode
        )
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
