//! The interface as rows, for the reference pages.

use bellwether_types::{Timestamp, status::NodeStatus};

use crate::{facts::Facts, metrics, operations::CALLS};

/// A path with a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub method: &'static str,
    /// Without the slash before it.
    pub path: &'static str,
    pub doc: &'static str,
}

const fn get(path: &'static str, doc: &'static str) -> Endpoint {
    Endpoint { method: "GET", path, doc }
}

/// What is read; not a statement about health.
const DOCUMENTS: &[Endpoint] = &[
    get("patroni", "This member's status."),
    get("cluster", "All members, and a scheduled switchover."),
    get("history", "The timelines of the cluster: when and why each began."),
    get("config", "The dynamic configuration."),
    get("failsafe", "The members that a leader without the store asks; 502 while `failsafe_mode` is off."),
    get("entrypoints", "Virtual addresses and DNS records of this member: wanted, actual, last error."),
    get("metrics", "Prometheus text; see [Metrics](metrics.md)."),
    get(
        "journal",
        "The last records of this member's journal (`limit`, 1000 at most). Guarded like an unsafe call.",
    ),
];

/// Answered with 200 or 503; HEAD and OPTIONS answer the same without a body.
const CHECKS: &[Endpoint] = &[
    get("primary", "This member is the primary and holds the lease. Also `/`, `/master`, `/read-write`."),
    get("leader", "The same, or the leader of a standby cluster."),
    get("standby-leader", "The leader of a standby cluster. Also `/standby_leader`."),
    get(
        "replica",
        "A running replica that takes reads (no tag `noloadbalance`, not drained); `lag=BYTES` limits its lag, `replication_state=streaming` demands a state.",
    ),
    get("read-only", "A primary or a replica that takes reads."),
    get("sync", "A synchronous standby. Also `/synchronous`."),
    get("quorum", "A quorum standby."),
    get("async", "A replica that is neither. Also `/asynchronous`; with `lag=BYTES`."),
    get("read-only-sync", "A primary or a synchronous standby. Also `/read-only-synchronous`."),
    get("read-only-quorum", "A primary or a quorum standby."),
    get("health", "PostgreSQL runs."),
    get("liveness", "The agent's loop turns."),
    get("readiness", "This member leads, or follows closely; `lag=BYTES`, `mode=apply` or `write`."),
];

/// Documents that can be read.
pub fn documents() -> &'static [Endpoint] {
    DOCUMENTS
}

/// Health checks, for load balancers and supervisors.
pub fn checks() -> &'static [Endpoint] {
    CHECKS
}

/// Unsafe calls.
pub fn calls() -> Vec<Endpoint> {
    CALLS.iter().map(|call| Endpoint { method: call.method, path: call.segment, doc: call.doc }).collect()
}

/// What `GET /metrics` answers in this situation.
pub fn metrics_text(status: &NodeStatus, now: Timestamp) -> String {
    let entrypoint = serde_json::json!({"type": "vip", "name": "main"});
    metrics::render(&Facts::new(status, now), &[entrypoint])
}

#[cfg(test)]
mod tests {
    use bellwether_types::settings::SyncMode;

    use super::*;
    use crate::{health, request::Query, situations::*};

    #[test]
    fn every_documented_check_is_answered_with_200_in_some_situation() {
        let situations = [
            leader(),
            standby_leader(),
            replica(),
            sync_voter(replica(), SyncMode::On),
            sync_voter(replica(), SyncMode::Quorum),
        ];
        let elsewhere = ["liveness", "readiness"];
        for check in checks().iter().filter(|check| !elsewhere.contains(&check.path)) {
            let also = check.doc.split('`').filter(|word| word.starts_with('/')).map(str::to_owned);
            for path in also.chain([format!("/{}", check.path)]) {
                let healthy = situations.iter().any(|status| {
                    let facts = Facts::new(status, status.taken_at);
                    health::check(&facts, &path, &Query::parse("")) == 200
                });
                assert!(healthy, "{path}");
            }
        }
    }
}
