//! Which events are told at all.

use bellwether_config::sections::log::{Log, LogLevel};
use tracing_subscriber::EnvFilter;

/// Patroni's loggers, and where the same is told here. A longer name comes after the one that it begins with.
const LOGGERS: &[(&str, &[&str])] = &[
    ("patroni", &["bellwether"]),
    ("patroni.__main__", &["bellwether"]),
    ("patroni.api", &["bellwether_api"]),
    ("patroni.config", &["bellwether_config"]),
    ("patroni.dcs", &["bellwether_dcs"]),
    ("patroni.dcs.consul", &["bellwether_dcs_consul"]),
    ("patroni.dcs.etcd", &["bellwether_dcs_etcd"]),
    ("patroni.dcs.etcd3", &["bellwether_dcs_etcd"]),
    ("patroni.dcs.raft", &["bellwether_dcs_raft"]),
    ("patroni.dcs.zookeeper", &["bellwether_dcs_zookeeper"]),
    ("patroni.ha", &["bellwether_agent", "bellwether_ha"]),
    ("patroni.postgresql", &["bellwether_postgres"]),
    ("patroni.request", &["bellwether_api_client"]),
];

pub(crate) fn of(log: &Log) -> EnvFilter {
    EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| EnvFilter::new(directives(log)))
}

/// Libraries below us tell their own stories at levels that fit themselves, not an operator: of them only warnings are told.
fn directives(log: &Log) -> String {
    let ours = word(log.level);
    let theirs = word(log.level.max(LogLevel::Warning));
    let mut directives = format!("{theirs},openraft=error,bellwether={ours}");
    for (logger, level) in &log.loggers {
        for target in targets(logger) {
            directives.push_str(&format!(",{target}={}", word(*level)));
        }
    }
    directives
}

/// What a library calls an error and nobody can act on. A node of the store that is stopped on a busy machine outlives for a moment
/// whoever listened to its metrics.
pub(crate) fn is_noise(target: &str, message: &str) -> bool {
    target.starts_with("openraft::") && message.starts_with("failed to report metrics")
}

/// Where what this logger tells is told here. Unknown names are taken for ours, with `.` for `::`.
fn targets(logger: &str) -> Vec<String> {
    let ends = logger.match_indices('.').map(|(at, _)| at).chain([logger.len()]);
    let known = |end: usize| LOGGERS.iter().find(|(name, _)| *name == &logger[..end]);
    match ends.filter_map(known).next_back() {
        Some((_, targets)) => targets.iter().map(|&target| target.to_owned()).collect(),
        None => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            logger.chars().all(is_plain).then(|| logger.replace('.', "::")).into_iter().collect()
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metrics_of_a_node_that_stops_are_no_error() {
        for (target, message, expected) in [
            ("openraft::core::raft_core", "failed to report metrics, error: channel closed, id: 1", true),
            ("openraft::core::raft_core", "failed to write the log", false),
            ("bellwether_dcs_raft::node", "failed to report metrics", false),
        ] {
            assert_eq!(is_noise(target, message), expected, "{target}: {message}");
        }
    }

    #[test]
    fn levels_and_loggers_become_a_filter() {
        let mut log = Log { level: LogLevel::Error, ..Log::default() };
        assert_eq!(directives(&log), "error,openraft=error,bellwether=error");
        log.level = LogLevel::Debug;
        log.loggers.insert("patroni.postgresql.rewind".to_owned(), LogLevel::Warning);
        log.loggers.insert("bellwether_agent.lease".to_owned(), LogLevel::Info);
        log.loggers.insert("no, filter=trace".to_owned(), LogLevel::Debug);
        let expected =
            "warn,openraft=error,bellwether=debug,bellwether_agent::lease=info,bellwether_postgres=warn";
        assert_eq!(directives(&log), expected);
        EnvFilter::try_new(expected).unwrap();
    }
}
