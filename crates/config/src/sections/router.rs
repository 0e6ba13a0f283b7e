//! `router`: the proxy of this node, which sends clients to the right member. Off without the section.

mod front;

use std::{collections::BTreeSet, net::IpAddr, net::SocketAddr, time::Duration};

pub use self::front::{Front, UnixSocket};
use crate::{
    section::Section,
    sections::pooler::Pooler,
    value::{Unit, int_with_unit},
};

const SPAN: &str = "write seconds, or a number with a unit, for example `500ms`";

/// Ours. All of it but `threads` is applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    pub listeners: Vec<Listener>,
    /// Where the statistics can be read.
    pub stats: Vec<SocketAddr>,
    pub threads: usize,
    pub maxconn: usize,
    pub balance: Balance,
    /// Replicas with this member's tag `zone` come first.
    pub prefer_zone: bool,
    /// `None`: half of `ttl`.
    pub max_view_age: Option<Duration>,
    pub max_replica_lag_bytes: u64,
    pub fallback: Fallback,
    pub connect_timeout: Duration,
    pub queue_timeout: Duration,
    pub queue_max: usize,
    pub drain_timeout: Duration,
    /// Zero: never.
    pub idle_timeout: Duration,
}

/// A port of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub addresses: Vec<SocketAddr>,
    pub role: ListenerRole,
    pub mode: ListenerMode,
    pub split: Option<Split>,
    pub front: Front,
}

/// `split`: reads go to replicas, everything else to the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `manual`: only what a client sends there by a hint.
    pub is_manual: bool,
    pub consistency: SplitConsistency,
    /// For a replica to show a client's last write.
    pub wait: Duration,
    /// At the primary after a write, where no position is kept.
    pub sticky: Duration,
    /// Reads are no older.
    pub max_lag: Option<Duration>,
    /// Replicas that are further behind are not asked.
    pub max_lag_bytes: Option<u64>,
}

/// `split_consistency`: which writes a client sees on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitConsistency {
    Eventual,
    Session,
}

/// `role`: which members a listener leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRole {
    Primary,
    Replicas,
    Sync,
    Async,
}

/// `mode`: how clients share servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerMode {
    Tcp,
    Session,
    Transaction,
    Statement,
}

/// `balance`, in HAProxy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConn,
    Random,
}

/// `replicas.fallback`: who serves readers when there is no replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    None,
    Leader,
}

/// The listeners that are there without being written down.
const CUSTOMARY: [(&str, u16, ListenerRole); 4] = [
    ("primary", 5000, ListenerRole::Primary),
    ("replicas", 5001, ListenerRole::Replicas),
    ("sync", 5002, ListenerRole::Sync),
    ("async", 5003, ListenerRole::Async),
];

impl Router {
    /// `None` without the section.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        if !root.has("router") && !root.has("pooler") {
            return None;
        }
        let section = root.child("router");
        let count = |key: &str, default: usize| {
            section
                .integer(key, 1..=1_000_000)
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(default)
        };
        let span = |key: &str, seconds: u64| {
            section.span(key, Duration::from_secs(1), SPAN).unwrap_or(Duration::from_secs(seconds))
        };
        let replicas = section.child("replicas");
        Some(Self {
            listeners: read_listeners(root, &section),
            stats: read_stats(root, &section),
            threads: section
                .integer("threads", 1..=64)
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(1),
            maxconn: count("maxconn", 10_000),
            balance: section
                .choice(
                    "balance",
                    &[
                        ("roundrobin", Balance::RoundRobin),
                        ("leastconn", Balance::LeastConn),
                        ("random", Balance::Random),
                    ],
                )
                .unwrap_or(Balance::RoundRobin),
            prefer_zone: section.flag("prefer_zone").unwrap_or(false),
            max_view_age: section.span("max_view_age", Duration::from_secs(1), SPAN),
            max_replica_lag_bytes: read_lag(&section),
            fallback: replicas
                .choice("fallback", &[("none", Fallback::None), ("leader", Fallback::Leader)])
                .unwrap_or(Fallback::None),
            connect_timeout: span("connect_timeout", 5),
            queue_timeout: span("queue_timeout", 5),
            queue_max: count("queue_max", 10_000),
            drain_timeout: span("drain_timeout", 30),
            idle_timeout: span("idle_timeout", 0),
        })
    }
}

/// Customary is port 7000, with the section `router`.
fn read_stats(root: &Section<'_>, router: &Section<'_>) -> Vec<SocketAddr> {
    let stats = router.child("stats");
    let port = stats.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let everywhere = router.comma_texts("bind").unwrap_or_else(|| vec!["*".to_owned()]);
    let bind = stats.comma_texts("bind").unwrap_or(everywhere);
    let is_on = stats.flag("enabled").unwrap_or(root.has("router") || stats.is_given());
    if is_on { read_addresses(&stats, &bind, port.unwrap_or(7000)) } else { vec![] }
}

fn read_lag(section: &Section<'_>) -> u64 {
    const DEFAULT: u64 = 100 << 20;
    read_bytes(section, "max_replica_lag").unwrap_or(DEFAULT)
}

fn read_bytes(section: &Section<'_>, key: &str) -> Option<u64> {
    let node = section.node(key)?;
    let bytes =
        int_with_unit(&node.to_value(), Some(Unit::Bytes)).and_then(|bytes| u64::try_from(bytes).ok());
    if bytes.is_none() {
        let problem = section.about(key, "is no number of bytes");
        section.report.problem(problem.help("write bytes, or a number with a unit, for example `100MB`"));
    }
    bytes
}

fn read_listeners(root: &Section<'_>, router: &Section<'_>) -> Vec<Listener> {
    let everywhere = router.comma_texts("bind").unwrap_or_else(|| vec!["*".to_owned()]);
    let section = router.child("listeners");
    let mut listeners = Vec::new();
    for (name, port, role) in CUSTOMARY.into_iter().filter(|_| root.has("router")) {
        listeners.extend(read_listener(&section, name, Some((port, role)), &everywhere));
    }
    for entry in section.entries() {
        if CUSTOMARY.iter().all(|(name, ..)| *name != entry.key) {
            listeners.extend(read_listener(&section, &entry.key, None, &everywhere));
        }
    }
    listeners.extend(read_pools(root, &everywhere));
    refuse_double_ports(&section, &listeners);
    listeners
}

/// The customary port of the pools.
fn read_pools(root: &Section<'_>, everywhere: &[String]) -> Option<Listener> {
    if !root.has("pooler") {
        return None;
    }
    let pooler = root.child("pooler");
    let port = pooler.integer("listen_port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let bind = pooler.comma_texts("listen_addr").unwrap_or_else(|| everywhere.to_vec());
    Some(Listener {
        name: "pooled".to_owned(),
        addresses: read_addresses(&pooler, &bind, port.unwrap_or(Pooler::PORT)),
        role: ListenerRole::Primary,
        mode: Pooler::read(root)?.pool_mode,
        split: None,
        front: Front::of_pools(&pooler, port.unwrap_or(Pooler::PORT)),
    })
}

fn read_listener(
    section: &Section<'_>,
    name: &str,
    customary: Option<(u16, ListenerRole)>,
    everywhere: &[String],
) -> Option<Listener> {
    let listener = section.child(name);
    let role = listener.choice(
        "role",
        &[
            ("primary", ListenerRole::Primary),
            ("leader", ListenerRole::Primary),
            ("master", ListenerRole::Primary),
            ("replicas", ListenerRole::Replicas),
            ("replica", ListenerRole::Replicas),
            ("sync", ListenerRole::Sync),
            ("async", ListenerRole::Async),
        ],
    );
    let mode = listener.choice(
        "mode",
        &[
            ("tcp", ListenerMode::Tcp),
            ("session", ListenerMode::Session),
            ("transaction", ListenerMode::Transaction),
            ("statement", ListenerMode::Statement),
        ],
    );
    let port = listener.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let bind = listener.comma_texts("bind").unwrap_or_else(|| everywhere.to_vec());
    if listener.flag("enabled") == Some(false) {
        return None;
    }
    let port = port.or(customary.map(|(port, _)| port));
    if port.is_none() && !listener.has("port") {
        listener.missing("port", "choose a port that no other program on this host listens on");
    }
    let role = role.or(customary.map(|(_, role)| role)).unwrap_or(ListenerRole::Primary);
    let mode = mode.unwrap_or(ListenerMode::Tcp);
    let split = read_split(&listener, role, mode);
    let front = Front::read(&listener, port.unwrap_or_default(), mode);
    let addresses = read_addresses(&listener, &bind, port?);
    Some(Listener { name: name.to_owned(), addresses, role, mode, split, front })
}

fn read_split(listener: &Section<'_>, role: ListenerRole, mode: ListenerMode) -> Option<Split> {
    let words = [("off", None), ("conservative", Some(false)), ("manual", Some(true))];
    let is_manual = listener.choice("split", &words).flatten();
    // All are read, so that a slip is told while the split is off, too.
    let consistency = listener.choice(
        "split_consistency",
        &[("session", SplitConsistency::Session), ("eventual", SplitConsistency::Eventual)],
    );
    let span = |key: &str, otherwise| listener.span(key, Duration::from_secs(1), SPAN).unwrap_or(otherwise);
    let wait = span("split_wait", Duration::from_millis(50));
    let sticky = span("split_sticky", Duration::from_secs(5));
    let max_lag = listener.span("split_max_lag", Duration::from_secs(1), SPAN);
    let max_lag_bytes = read_bytes(listener, "split_max_lag_bytes");
    let is_manual = is_manual?;
    if role != ListenerRole::Primary || !matches!(mode, ListenerMode::Transaction | ListenerMode::Statement) {
        let problem =
            listener.about("split", "needs a listener that leads to the primary and shares servers");
        listener.report.problem(problem.help("write `role: primary` and `mode: transaction`"));
        return None;
    }
    let consistency = consistency.unwrap_or(SplitConsistency::Session);
    Some(Split { is_manual, consistency, wait, sticky, max_lag, max_lag_bytes })
}

/// Addresses and not names: a name may lead to another host one day.
fn read_addresses(listener: &Section<'_>, bind: &[String], port: u16) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for written in bind {
        match written.as_str() {
            "*" => addresses.extend([
                SocketAddr::from(([0, 0, 0, 0], port)),
                SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
            ]),
            "localhost" => addresses.push(SocketAddr::from(([127, 0, 0, 1], port))),
            text => {
                match text.trim_matches(['[', ']']).parse::<IpAddr>() {
                    Ok(ip) => addresses.push(SocketAddr::new(ip, port)),
                    Err(_) => {
                        let problem = listener.about("bind", format!("`{text}` is no address"));
                        listener.report.problem(problem.help(
                            "write IP addresses of this host or virtual ones, or `*` for every interface",
                        ));
                    }
                }
            }
        }
    }
    addresses
}

fn refuse_double_ports(section: &Section<'_>, listeners: &[Listener]) {
    let mut taken = BTreeSet::new();
    for listener in listeners {
        for address in &listener.addresses {
            if !taken.insert(*address) {
                let problem = section
                    .about(&listener.name, format!("listens on {address}, where another listener does"));
                section.report.problem(problem.help("give each listener a port of its own"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Report;

    fn read(text: &str) -> (Option<Router>, Vec<String>) {
        let (root, _) = crate::yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        let router = Router::read(&Section::root(&root, &report));
        (router, report.into_parts().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_the_section_there_is_no_proxy() {
        assert_eq!(read("scope: s"), (None, vec![]));
    }

    #[test]
    fn the_customary_listeners_are_there_by_themselves() {
        let (router, problems) = read("router: {bind: 127.0.0.1}");
        assert_eq!(problems, Vec::<String>::new());
        let listeners = router.unwrap().listeners;
        let ports: Vec<(&str, u16)> =
            listeners.iter().map(|listener| (listener.name.as_str(), listener.addresses[0].port())).collect();
        assert_eq!(ports, [("primary", 5000), ("replicas", 5001), ("sync", 5002), ("async", 5003)]);
        assert!(listeners.iter().all(|listener| listener.mode == ListenerMode::Tcp));
    }

    #[test]
    fn listeners_are_moved_switched_off_and_added() {
        let text = "\
router:
  bind: ['*']
  max_replica_lag: 16MB
  queue_timeout: 500ms
  listeners:
    primary: {port: 6000, bind: 10.0.0.100}
    sync: {enabled: false}
    async: {enabled: false}
    reports: {port: 5010, role: replica}
";
        let (router, problems) = read(text);
        assert_eq!(problems, Vec::<String>::new());
        let router = router.unwrap();
        let names: Vec<&str> = router.listeners.iter().map(|listener| listener.name.as_str()).collect();
        assert_eq!(names, ["primary", "replicas", "reports"]);
        assert_eq!(router.listeners[0].addresses, ["10.0.0.100:6000".parse().unwrap()]);
        assert_eq!(router.listeners[1].addresses.len(), 2, "both families");
        assert_eq!(router.listeners[2].role, ListenerRole::Replicas);
        assert_eq!(
            (router.max_replica_lag_bytes, router.queue_timeout),
            (16 << 20, Duration::from_millis(500))
        );
    }

    #[test]
    fn what_cannot_be_listened_on_is_told() {
        let (_, problems) =
            read("router: {listeners: {a: {bind: db.example}, b: {port: 5000}, c: {port: 7, bind: x}}}");
        let all = problems.join("\n");
        for expected in ["router.listeners.a.port", "router.listeners.b", "`x` is no address"] {
            assert!(all.contains(expected), "{expected} in {all}");
        }
    }
}
