//! Hosts and ports as Patroni writes them.

use std::{fmt, str::FromStr};

/// A host (name or address) and a port. IPv6 addresses are kept without brackets and printed with them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// A text that is no address; the message says what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    #[error("the port is missing")]
    NoPort,
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    #[error("the host is missing")]
    NoHost,
}

impl HostPort {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Splits at the last `:`; a text without one gets `default_port`, if there is one. The host may be empty.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let bracketed = text.starts_with('[') && text.ends_with(']');
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !bracketed => (host, parse_port(port)?),
            _ => (text, default_port.ok_or(InvalidAddress::NoPort)?),
        };
        Ok(Self { host: unbracket(host).to_owned(), port })
    }

    /// Whether the address means only this machine, or every interface, and so is no use to others.
    pub fn is_local_only(&self) -> bool {
        is_loopback(&self.host) || self.is_wildcard()
    }

    /// Every interface.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "*" | "0.0.0.0" | "::")
    }
}

/// Whether a host is `localhost` or an address in 127.0.0.0/8 or `::1`.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unbracket(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn parse_port(text: &str) -> Result<u16, InvalidAddress> {
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(InvalidAddress::Port(text.to_owned())),
    }
}

impl FromStr for HostPort {
    type Err = InvalidAddress;
    /// `host:port` with a host.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let parsed = Self::parse(text, None)?;
        if parsed.host.is_empty() { Err(InvalidAddress::NoHost) } else { Ok(parsed) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where a server listens: one or more hosts with one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As written; `*` or an empty text means every interface.
    pub hosts: Vec<String>,
    pub port: u16,
}

impl Listen {
    /// `addr[,addr...][:port]`.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, InvalidAddress> {
        let HostPort { host, port } = HostPort::parse(text, default_port)?;
        let hosts = host.split(',').map(|host| unbracket(host.trim()).to_owned()).collect();
        Ok(Self { hosts, port })
    }

    /// The text of the parameter `listen_addresses`.
    pub fn listen_addresses(&self) -> String {
        self.hosts.join(",")
    }

    pub fn is_wildcard(&self) -> bool {
        self.hosts.iter().any(|host| HostPort::new(host.as_str(), self.port).is_wildcard())
    }

    /// Where a local client reaches the server: a loopback address if it listens there, else the first host.
    pub fn local_address(&self) -> HostPort {
        let host = if self.is_wildcard() {
            "localhost"
        } else {
            let loopback = self.hosts.iter().find(|host| is_loopback(host));
            loopback.or(self.hosts.first()).map_or("localhost", String::as_str)
        };
        HostPort::new(host, self.port)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hosts.as_slice() {
            [host] => HostPort::new(host.as_str(), self.port).fmt(f),
            hosts => write!(f, "{}:{}", hosts.join(","), self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split_at_the_last_colon() {
        for (text, host, port) in [
            ("10.0.0.1:5432", "10.0.0.1", 5432),
            ("[::1]:8008", "::1", 8008),
            ("::1:8008", "::1", 8008),
            ("*:8008", "*", 8008),
        ] {
            assert_eq!(text.parse::<HostPort>(), Ok(HostPort::new(host, port)), "{text}");
        }
        assert_eq!(HostPort::new("::1", 8008).to_string(), "[::1]:8008");
        assert_eq!(HostPort::parse("db1", Some(5432)), Ok(HostPort::new("db1", 5432)));
        assert_eq!(HostPort::parse("[fe80::1]", Some(5432)), Ok(HostPort::new("fe80::1", 5432)));
        assert_eq!(HostPort::parse(":8008", None), Ok(HostPort::new("", 8008)));
        for bad in ["db1", "db1:", "db1:0", "db1:65536", "db1:x", ":8008", "[::1]"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn several_hosts_share_a_port() {
        let listen = Listen::parse("10.0.0.1,127.0.0.1:5433", Some(5432)).unwrap();
        assert_eq!(listen.listen_addresses(), "10.0.0.1,127.0.0.1");
        assert_eq!(listen.local_address(), HostPort::new("127.0.0.1", 5433));
        assert_eq!(Listen::parse("*", Some(5432)).unwrap().local_address(), HostPort::new("localhost", 5432));
    }
}
