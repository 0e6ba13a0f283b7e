//! `zookeeper`: a ZooKeeper ensemble that holds the state.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{HostPort, section::Section, sections::servers::read_hosts};

const DEFAULT_PORT: u16 = 2181;
/// What the servers' `tickTime` can be; it is written in milliseconds there.
const TICK_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const PERMISSIONS: [&str; 6] = ["CREATE", "READ", "WRITE", "DELETE", "ADMIN", "ALL"];

/// A ZooKeeper ensemble. The TLS files are read for each new connection; nothing else is applied on reload.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    /// Never empty.
    pub hosts: Vec<HostPort>,
    /// `use_ssl` and what goes with it.
    pub tls: Option<Tls>,
    /// By principal, what it may do: words of CREATE, READ, WRITE, DELETE, ADMIN, ALL.
    pub set_acls: BTreeMap<String, Vec<String>>,
    /// By scheme, what each session presents.
    pub auth_data: BTreeMap<String, SecretString>,
    /// Ours: the servers' `tickTime`.
    pub tick_time: Duration,
}

/// How the connections are encrypted.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Authorities; the system's if not given.
    pub cacert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    /// In `cert` if not given.
    pub key: Option<PathBuf>,
    pub key_password: Option<SecretString>,
    /// Ours: the name in a server's certificate is checked, too. Patroni's client never does that.
    pub check_hostname: bool,
}

impl ZooKeeper {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        if !section.has("hosts") || section.text_is_empty("hosts") {
            section.missing(
                "hosts",
                "name the servers of the ensemble: `hosts: [10.0.0.11:2181, 10.0.0.12:2181, 10.0.0.13:2181]`",
            );
        }
        let auth_data = section.text_map("auth_data").unwrap_or_default();
        let read = Self {
            hosts: read_hosts(section, "hosts", DEFAULT_PORT),
            set_acls: read_acls(section),
            tls: read_tls(section),
            auth_data: auth_data.into_iter().map(|(scheme, secret)| (scheme, secret.into())).collect(),
            tick_time: read_tick_time(section),
        };
        (!read.hosts.is_empty()).then_some(read)
    }
}

fn read_tls(section: &Section<'_>) -> Option<Tls> {
    let tls = Tls {
        cacert: section.file("cacert"),
        cert: section.file("cert"),
        key: section.file("key"),
        key_password: section.secret("key_password"),
        check_hostname: section.flag("check_hostname").unwrap_or(false),
    };
    let verify = section.flag("verify").unwrap_or(true);
    if !section.flag("use_ssl").unwrap_or(false) {
        for key in ["cacert", "cert", "key", "key_password", "verify", "check_hostname"] {
            if section.has(key) {
                let warning =
                    section.about(key, "has no effect, because ZooKeeper is talked to in clear text");
                section.report.warn(warning.help("set `use_ssl: true`"));
            }
        }
        return None;
    }
    if !verify {
        let problem =
            section.about("verify", "would let anybody pose as the ensemble, which is not supported");
        section.report.problem(
            problem.help("name the authority of the servers' certificates in `cacert`, and remove `verify`"),
        );
    }
    if tls.key.is_some() && tls.cert.is_none() {
        section.missing("cert", "give the certificate that `key` belongs to");
    }
    Some(tls)
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
