//! `zookeeper`: a ZooKeeper ensemble that holds the state.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;

use crate::{HostPort, section::Section, sections::servers::read_hosts};

const DEFAULT_PORT: u16 = 2181;
/// What the servers' `tickTime` can be; it is written in milliseconds there.
const TICK_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const PERMISSIONS: [&str; 6] = ["CREATE", "READ", "WRITE", "DELETE", "ADMIN", "ALL"];

/// A ZooKeeper ensemble. None of it is applied on reload.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    /// Never empty.
    pub hosts: Vec<HostPort>,
    /// By principal, what it may do: words of CREATE, READ, WRITE, DELETE, ADMIN, ALL.
    pub set_acls: BTreeMap<String, Vec<String>>,
    /// By scheme, what each session presents.
    pub auth_data: BTreeMap<String, SecretString>,
    /// Ours: the servers' `tickTime`.
    pub tick_time: Duration,
}

impl ZooKeeper {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        if !section.has("hosts") || section.text_is_empty("hosts") {
            section.missing(
                "hosts",
                "name the servers of the ensemble: `hosts: [10.0.0.11:2181, 10.0.0.12:2181, 10.0.0.13:2181]`",
            );
        }
        refuse_tls(section);
        let auth_data = section.text_map("auth_data").unwrap_or_default();
        let read = Self {
            hosts: read_hosts(section, "hosts", DEFAULT_PORT),
            set_acls: read_acls(section),
            auth_data: auth_data.into_iter().map(|(scheme, secret)| (scheme, secret.into())).collect(),
            tick_time: read_tick_time(section),
        };
        (!read.hosts.is_empty()).then_some(read)
    }
}

/// Going on in clear text where somebody asked for TLS would be wrong.
fn refuse_tls(section: &Section<'_>) {
    if section.flag("use_ssl").unwrap_or(false) {
        let problem = section.about("use_ssl", "asks for TLS to ZooKeeper, which is not supported");
        section.report.problem(problem.help("use a tunnel, or etcd or the embedded store"));
        return;
    }
    for key in ["cacert", "cert", "key", "key_password", "verify"] {
        if section.has(key) {
            let warning = section.about(key, "has no effect, because ZooKeeper is talked to in clear text");
            section.report.warn(warning.help("remove it; TLS to ZooKeeper is not supported"));
        }
    }
}

fn read_acls(section: &Section<'_>) -> BTreeMap<String, Vec<String>> {
    let acls = section.child("set_acls");
    let mut read = BTreeMap::new();
    for entry in acls.entries() {
        let words = acls.comma_texts(&entry.key).unwrap_or_default();
        let known = |word: &String| PERMISSIONS.iter().any(|known| known.eq_ignore_ascii_case(word));
        for word in words.iter().filter(|word| !known(word)) {
            let problem = acls.about(&entry.key, format!("`{word}` is no permission"));
            section.report.problem(problem.help(format!("use some of: {}", PERMISSIONS.join(", "))));
        }
        read.insert(entry.key.clone(), words);
    }
    read
}

fn read_tick_time(section: &Section<'_>) -> Duration {
    const HELP: &str = "write the servers' `tickTime` in milliseconds or with a unit, for example `2s`";
    let tick = section.span("tick_time", Duration::from_millis(1), HELP).unwrap_or(Duration::from_secs(2));
    if !TICK_TIME.contains(&tick) {
        section.report.problem(section.about("tick_time", "must be between 10 ms and 60 s").help(HELP));
    }
    tick
}
