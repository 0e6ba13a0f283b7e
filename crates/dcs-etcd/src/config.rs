//! Where etcd is, and how to log in.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use secrecy::SecretString;

/// The port of etcd's clients.
pub(crate) const CLIENT_PORT: u16 = 2379;

/// How to reach an etcd cluster, and which keys of it are ours.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// What all keys of the cluster begin with: `/service/batman/`, as [`bellwether_dcs::codec::keys::base_path`] makes it.
    pub prefix: String,
    /// Tried in this order until one answers; from then on that one is kept until it fails.
    pub endpoints: Vec<Endpoint>,
    /// DNS records that name endpoints; looked up first.
    pub srv: Option<Srv>,
    /// Ask the cluster for its members and use them too. Not for proxies in front of etcd.
    pub discover_members: bool,
    pub credentials: Option<Credentials>,
    /// For endpoints with TLS.
    pub tls: TlsFiles,
}

impl EtcdConfig {
    /// Without TLS files, a login or DNS; members are discovered.
    pub fn new(prefix: impl Into<String>, endpoints: Vec<Endpoint>) -> Self {
        Self {
            prefix: prefix.into(),
            endpoints,
            srv: None,
            discover_members: true,
            credentials: None,
            tls: TlsFiles::default(),
        }
    }
}

/// One address of etcd: `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("`{0}` is no URL that begins with http:// or https://")]
    Scheme(String),
    #[error("`{0}` is no host and port")]
    Address(String),
}

impl Endpoint {
    pub fn new(tls: bool, host: impl Into<String>, port: u16) -> Self {
        Self { tls, host: host.into(), port }
    }

    fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether an endpoint that a member advertises can stand beside these, which a person wrote: the same protection, and no
    /// `localhost` (etcd's default) that means another machine.
    pub(crate) fn fits(&self, written: &[Endpoint]) -> bool {
        written.iter().all(|one| one.tls == self.tls)
            && (!self.is_loopback() || written.iter().all(Endpoint::is_loopback))
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    /// A URL as etcd's members advertise it; a path is ignored.
    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(InvalidEndpoint::Scheme(text.to_owned()));
        };
        let invalid = || InvalidEndpoint::Address(text.to_owned());
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => (host, port.parse().map_err(|_| invalid())?),
            _ => (authority, CLIENT_PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains('@') {
            return Err(invalid());
        }
        Ok(Self::new(tls, host, port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// A domain with SRV records of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub domain: String,
    /// Put after the service name: `x` asks for `_etcd-client-x._tcp.domain`.
    pub suffix: Option<String>,
    /// Asked instead of the system's name server.
    pub name_server: Option<SocketAddr>,
}

/// A user of etcd.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
}

/// PEM files. They are read for each new connection, so that renewed ones are used without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the servers' certificates; the system's authorities if not given.
    pub cacert: Option<PathBuf>,
    /// Our own certificate, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its key; looked for in `cert` if not given.
    pub key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_members_write_them() {
        for (text, endpoint) in [
            ("http://10.0.0.1:2379", Endpoint::new(false, "10.0.0.1", 2379)),
            ("https://etcd-1", Endpoint::new(true, "etcd-1", 2379)),
            ("https://[fe80::1]:4001/", Endpoint::new(true, "fe80::1", 4001)),
            ("http://[::1]", Endpoint::new(false, "::1", 2379)),
        ] {
            assert_eq!(text.parse(), Ok(endpoint), "{text}");
        }
        for bad in ["unix:///x", "10.0.0.1:2379", "http://:2379", "http://a:b", "http://u:p@h:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        assert_eq!(Endpoint::new(true, "::1", 1).to_string(), "https://[::1]:1");
    }

    #[test]
    fn advertised_endpoints_neither_lower_the_protection_nor_mean_another_machine() {
        let (plain, secure) = (Endpoint::new(false, "10.0.0.1", 1), Endpoint::new(true, "10.0.0.2", 1));
        let local = Endpoint::new(false, "localhost", 1);
        assert!(plain.fits(std::slice::from_ref(&plain)));
        assert!(!plain.fits(std::slice::from_ref(&secure)) && !secure.fits(std::slice::from_ref(&plain)));
        assert!(!local.fits(&[plain]) && local.fits(&[Endpoint::new(false, "127.0.0.1", 2)]));
    }
}
