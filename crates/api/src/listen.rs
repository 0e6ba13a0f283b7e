//! Opening the port.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bellwether_types::Failure;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::{TlsError, config::InvalidHeader};

/// Connections that wait for `accept`. Health checks come in bursts; the kernel's default is the same order.
const BACKLOG: i32 = 1024;

/// Where to listen: hosts (names or addresses) that share a port. An empty host or `*` means every interface, IPv4 and IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOn {
    pub hosts: Vec<String>,
    /// 0: any free port (for tests).
    pub port: u16,
}

impl ListenOn {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { hosts: vec![host.into()], port }
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.hosts.join(","), self.port)
    }
}

/// Why the API could not open its port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error(
        "{address} is in use by another process: change `restapi.listen`, or stop what listens there (`ss -ltnp`)"
    )]
    InUse { address: SocketAddr },
    #[error("could not listen on {address} (`restapi.listen`)")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("could not resolve `{host}` of `restapi.listen`")]
    Resolve {
        host: String,
        #[source]
        cause: io::Error,
    },
    #[error("`restapi.listen` names no address")]
    NoAddress,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Header(#[from] InvalidHeader),
}

impl BindError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::InUse { .. } => Failure::ApiPortInUse,
            Self::Listen { .. } | Self::Resolve { .. } => Failure::ApiCannotListen,
            Self::Tls(_) => Failure::ApiCertificates,
            Self::NoAddress | Self::Header(_) => Failure::ConfigInvalid,
        }
    }
}

/// Listens on every address that the hosts resolve to. A name may resolve to a family that this machine lacks: that one is
/// left out as long as another works.
pub(crate) async fn listen(on: &ListenOn) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for host in &on.hosts {
        let mut missing = None;
        let before = listeners.len();
        for address in addresses(host, on.port).await? {
            match open(address) {
                Ok(listener) => listeners.push(listener),
                Err(cause) if is_family_missing(&cause) => missing = Some((address, cause)),
                Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                    return Err(BindError::InUse { address });
                }
                Err(cause) => return Err(BindError::Listen { address, cause }),
            }
            if is_wildcard(host) && listeners.len() > before {
                break; // the IPv6 wildcard takes IPv4 as well
            }
        }
        if let (true, Some((address, cause))) = (listeners.len() == before, missing) {
            return Err(BindError::Listen { address, cause });
        }
    }
    if listeners.is_empty() { Err(BindError::NoAddress) } else { Ok(listeners) }
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "*")
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97) // EAFNOSUPPORT
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, BindError> {
    if is_wildcard(host) {
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|cause| BindError::Resolve { host: host.to_owned(), cause })?;
    let mut addresses: Vec<_> = found.collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted agent must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = listen(&ListenOn::new("127.0.0.1", 0)).await.unwrap();
        let taken = first[0].local_addr().unwrap();
        let error = listen(&ListenOn::new("127.0.0.1", taken.port())).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { address } if address == taken), "{error:?}");
    }

    #[tokio::test]
    async fn every_interface_includes_ipv4() {
        for host in ["", "*"] {
            let listeners = listen(&ListenOn::new(host, 0)).await.unwrap();
            let port = listeners[0].local_addr().unwrap().port();
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        }
    }
}
