//! What a node of the embedded store needs to know.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

/// A password that never shows in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// PEM files for mutual TLS. Every node's certificate must be issued by `ca` and name the host of its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// How fast the store notices the loss of its leader. The same on every node.
///
/// A follower waits `election_max`, then a random time between `election_min` and `election_max`, before it stands
/// for election: the worst case is twice `election_max` and a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Timing {
    /// For a LAN: a new store leader within about 0.9 s.
    pub const DEFAULT: Timing = Timing::millis(200, 300, 450);
    /// For a quiet LAN: about 0.6 s, at four times the heartbeats and their processor time.
    pub const FAST: Timing = Timing::millis(50, 150, 300);
    /// For sites tens of milliseconds apart: about 4 s.
    pub const WAN: Timing = Timing::millis(300, 1000, 2000);

    const fn millis(heartbeat: u64, election_min: u64, election_max: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(election_min),
            election_max: Duration::from_millis(election_max),
        }
    }

    /// The preset of this name: `default`, `fast` or `wan`.
    pub fn preset(name: &str) -> Option<Timing> {
        match name {
            "default" => Some(Self::DEFAULT),
            "fast" => Some(Self::FAST),
            "wan" => Some(Self::WAN),
            _ => None,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One node of the embedded store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster this store belongs to. Nodes of another cluster are refused.
    pub cluster: String,
    /// `host:port` under which the others reach this node. Its place in the store hangs on it: after a change the
    /// node counts as a stranger.
    pub self_addr: String,
    /// `host:port` to listen on; `self_addr` if absent.
    pub bind_addr: Option<String>,
    /// The addresses of the other nodes.
    pub partner_addrs: Vec<String>,
    /// Holds log, vote, snapshot and identity of this node, and nothing else. Created if absent.
    pub data_dir: PathBuf,
    /// Authenticates and encrypts between the nodes; the same on all of them.
    pub password: Option<Secret>,
    /// Certificates instead of a password. They win if both are given.
    pub tls: Option<TlsFiles>,
    pub timing: Timing,
    /// A vote without PostgreSQL: leads the store only while nobody else can.
    pub witness: bool,
    /// Allow neither password nor TLS beyond loopback.
    pub insecure: bool,
}

/// Settings that cannot work, all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's settings cannot work: {}", problems.join("; "))]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl Config {
    /// A node with default timing; add a password unless all addresses are loopback.
    pub fn new(
        cluster: impl Into<String>,
        self_addr: impl Into<String>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            self_addr: self_addr.into(),
            bind_addr: None,
            partner_addrs: Vec::new(),
            data_dir: data_dir.into(),
            password: None,
            tls: None,
            timing: Timing::DEFAULT,
            witness: false,
            insecure: false,
        }
    }

    /// Every problem of these settings, not only the first.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.cluster.is_empty() {
            problems.push("the cluster has no name".to_owned());
        }
        for (setting, address) in self.addresses() {
            if let Err(problem) = parse_address(address) {
                problems.push(format!("`{setting}` {problem}"));
            }
        }
        let mut partners = self.partner_addrs.clone();
        partners.sort();
        partners.dedup();
        if partners.len() != self.partner_addrs.len() {
            problems.push("`partner_addrs` names an address twice".to_owned());
        }
        let Timing { heartbeat, election_min, election_max } = self.timing;
        if heartbeat < Duration::from_millis(10)
            || election_min < heartbeat * 3 / 2
            || election_max <= election_min
        {
            problems.push(format!(
                "timing {heartbeat:?}, {election_min:?} to {election_max:?}: the shortest election wait must be at \
                 least 1.5 heartbeats and shorter than the longest"
            ));
        }
        if let Some(problem) =
            exposure(self.password.as_ref(), self.tls.as_ref(), self.insecure, self.addresses())
        {
            problems.push(problem);
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// Where to listen.
    pub fn listen_addr(&self) -> &str {
        self.bind_addr.as_deref().unwrap_or(&self.self_addr)
    }

    /// The partners without this node itself, in case the list is the same on all nodes.
    pub fn partners(&self) -> Vec<String> {
        self.partner_addrs.iter().filter(|address| **address != self.self_addr).cloned().collect()
    }

    fn addresses(&self) -> Vec<(&'static str, &str)> {
        let mut addresses = vec![("self_addr", self.self_addr.as_str())];
        addresses.extend(self.bind_addr.as_deref().map(|address| ("bind_addr", address)));
        addresses.extend(self.partner_addrs.iter().map(|address| ("partner_addrs", address.as_str())));
        addresses
    }
}

/// Why these credentials do not do for these addresses.
pub(crate) fn exposure(
    password: Option<&Secret>,
    tls: Option<&TlsFiles>,
    insecure: bool,
    addresses: Vec<(&'static str, &str)>,
) -> Option<String> {
    if tls.is_some() || insecure || password.is_some_and(|secret| !secret.expose().is_empty()) {
        return None;
    }
    let open = addresses.into_iter().map(|(_, address)| address).find(|address| !is_loopback(address))?;
    Some(format!(
        "`{open}` is not a loopback address, so the store needs a `password` or TLS files (anybody who reaches it \
         could otherwise take over the cluster)"
    ))
}

/// Splits `host:port`, `[v6]:port` included.
pub(crate) fn parse_address(address: &str) -> Result<(&str, u16), String> {
    let malformed = || format!("is `{address}`, which is not `host:port`");
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port == 0 { Err(malformed()) } else { Ok((host, port)) }
}

fn is_loopback(address: &str) -> bool {
    let Ok((host, _)) = parse_address(address) else { return true };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { password: Some(Secret::new("s")), ..Config::new("demo", "10.0.0.1:2380", "/nowhere") }
    }

    #[test]
    fn settings_that_cannot_work_are_all_named() {
        let cases: [(&str, Config, &str); 6] = [
            ("no cluster", Config { cluster: String::new(), ..config() }, "no name"),
            ("no port", Config { self_addr: "10.0.0.1".into(), ..config() }, "self_addr"),
            ("port zero", Config { bind_addr: Some("10.0.0.1:0".into()), ..config() }, "bind_addr"),
            (
                "twice the same partner",
                Config { partner_addrs: vec!["b:1".into(), "b:1".into()], ..config() },
                "twice",
            ),
            (
                "election shorter than heartbeat",
                Config { timing: Timing::millis(100, 100, 200), ..config() },
                "timing",
            ),
            ("no credentials", Config { password: None, ..config() }, "password"),
        ];
        for (case, config, part) in cases {
            let error = config.check().expect_err(case).to_string();
            assert!(error.contains(part), "{case}: {error}");
        }
        let both = Config { cluster: String::new(), password: None, ..config() };
        assert_eq!(both.check().unwrap_err().problems.len(), 2);
    }

    #[test]
    fn loopback_and_insecure_need_no_credentials() {
        for address in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
            Config::new("demo", address, "/nowhere").check().unwrap();
        }
        Config { password: None, insecure: true, ..config() }.check().unwrap();
        let empty = Config { password: Some(Secret::new("")), ..config() };
        assert!(empty.check().is_err(), "an empty password protects nothing");
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }
}
