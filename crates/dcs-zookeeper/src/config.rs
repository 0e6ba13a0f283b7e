//! What an operator can set.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use zookeeper_client::Permission;

/// ZooKeeper's own default.
const DEFAULT_PORT: u16 = 2181;

/// How to reach the ensemble and what to do there.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` or `host` of each server; the port is 2181 unless given. At least one.
    pub hosts: Vec<String>,
    /// The cluster's prefix, `/namespace/scope/`. Created with its parents when first written to.
    pub prefix: String,
    /// Who may do what with the znodes that we create (Patroni's `set_acls`). Empty: everybody may do everything.
    pub acls: Vec<AclRule>,
    /// Credentials that each session presents: scheme (`digest`, ...) and secret (Patroni's `auth_data`).
    pub auth_data: Vec<(String, SecretString)>,
    /// Patroni's `use_ssl`: the connections are encrypted, and the servers' certificates verified.
    pub tls: Option<TlsFiles>,
    /// The servers' `tickTime`, or more; 2 s by default, as theirs. A session lasts at least twice as long, and half of it may
    /// pass before the ensemble's leader learns that a session lives: that much less a lease is relied on.
    pub tick_time: Duration,
}

/// Who is trusted, and who we are.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities in PEM; those of the system if not given.
    pub cacert: Option<PathBuf>,
    /// Our certificate in PEM, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// In `cert` if not given.
    pub key: Option<PathBuf>,
    pub key_password: Option<SecretString>,
    /// A server's certificate must bear the name or address that the server is called by in `hosts`.
    pub check_hostname: bool,
}

impl Config {
    /// Defaults for everything else.
    pub fn new(hosts: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            hosts,
            prefix: prefix.into(),
            acls: Vec::new(),
            auth_data: Vec::new(),
            tls: None,
            tick_time: Duration::from_secs(2),
        }
    }

    /// Every setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.hosts.iter().all(|host| host.trim().is_empty()) {
            problems.push("`hosts` names no server".to_owned());
        }
        if !self.prefix.starts_with('/') || self.base().contains("//") {
            problems.push(format!("the prefix {:?} is no absolute path", self.prefix));
        }
        if self.tick_time < Duration::from_millis(10) || self.tick_time > Duration::from_secs(60) {
            problems.push(format!("a tick time of {:?} is not between 10 ms and 60 s", self.tick_time));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// The prefix as a znode's path.
    pub(crate) fn base(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }

    /// The servers as the client library wants them.
    pub(crate) fn connect_string(&self) -> String {
        let hosts = self.hosts.iter().map(|host| host.trim()).filter(|host| !host.is_empty());
        let hosts: Vec<String> = hosts.map(with_port).collect();
        hosts.join(",")
    }
}

fn with_port(host: &str) -> String {
    let has_port = match host.strip_prefix('[') {
        Some(_) => host.contains("]:"),
        None => host.matches(':').count() == 1,
    };
    match has_port {
        true => host.to_owned(),
        false if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{DEFAULT_PORT}"),
        false => format!("{host}:{DEFAULT_PORT}"),
    }
}

/// Settings that cannot work, all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the settings of `zookeeper` cannot work: {}", problems.join("; "))]
pub struct ConfigError {
    pub problems: Vec<String>,
}

/// What one principal may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRule {
    pub(crate) scheme: String,
    pub(crate) id: String,
    pub(crate) permissions: Permission,
}

impl AclRule {
    /// One entry of `set_acls`: `scheme:credential`, or a credential of the scheme `x509`, and words out of CREATE, READ, WRITE,
    /// DELETE, ADMIN, ALL. The error says what is wrong.
    pub fn parse<'a>(principal: &str, words: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let (scheme, id) = match principal.split_once(':') {
            Some((scheme, id)) => (scheme, id),
            None => ("x509", principal),
        };
        let mut permissions = Permission::NONE;
        for word in words {
            permissions = permissions
                | match word.to_ascii_uppercase().as_str() {
                    "CREATE" => Permission::CREATE,
                    "READ" => Permission::READ,
                    "WRITE" => Permission::WRITE,
                    "DELETE" => Permission::DELETE,
                    "ADMIN" => Permission::ADMIN,
                    "ALL" => Permission::ALL,
                    _ => {
                        let problem = format!(
                            "`set_acls`: {word:?} of {principal:?} is none of CREATE, READ, WRITE, DELETE, ADMIN, ALL"
                        );
                        return Err(ConfigError { problems: vec![problem] });
                    }
                };
        }
        Ok(Self { scheme: scheme.to_owned(), id: id.to_owned(), permissions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_the_usual_port() {
        let hosts = ["a", "b:2182", " c ", "::1", "[::1]:99"].map(str::to_owned).to_vec();
        let config = Config::new(hosts, "/service/batman/");
        assert_eq!(config.connect_string(), "a:2181,b:2182,c:2181,[::1]:2181,[::1]:99");
        assert_eq!(config.base(), "/service/batman");
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = Config::new(vec![String::new()], "service");
        config.tick_time = Duration::ZERO;
        assert_eq!(config.check().unwrap_err().problems.len(), 3);
    }

    #[test]
    fn principals_have_the_scheme_x509_unless_they_say_otherwise() {
        let rule = AclRule::parse("CN=pg", ["READ", "write"]).unwrap();
        assert_eq!((rule.scheme.as_str(), rule.id.as_str()), ("x509", "CN=pg"));
        assert_eq!(rule.permissions, Permission::READ | Permission::WRITE);
        let rule = AclRule::parse("digest:me:hash", ["ALL"]).unwrap();
        assert_eq!((rule.scheme.as_str(), rule.id.as_str()), ("digest", "me:hash"));
        assert_eq!(rule.permissions, Permission::ALL);
        assert!(AclRule::parse("a", ["EXECUTE"]).is_err());
    }
}
