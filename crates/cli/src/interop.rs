//! What other programs are told about a cluster: connection strings by driver, and configurations of proxies and poolers. Pure: from the
//! members to text.

pub(crate) mod drivers;
pub(crate) mod haproxy;
pub(crate) mod keepalived;
pub(crate) mod pgbouncer;

use bellwether_types::cluster::{Cluster, Member};

use crate::render::members::host_and_port;

/// Where a member is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of the REST interface: host, port, and whether it speaks TLS.
    pub(crate) api: Option<(String, u16, bool)>,
}

/// All members that say where they are, by name: whoever leads, the result is the same.
pub(crate) fn places(cluster: &Cluster) -> Vec<Place> {
    let place = |member: &Member| {
        let (host, port) = host_and_port(member)?;
        Some(Place { name: member.name.to_string(), host, port, api: api_of(member) })
    };
    cluster.members.values().filter_map(place).collect()
}

fn api_of(member: &Member) -> Option<(String, u16, bool)> {
    let url = member.api_url.as_deref()?;
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (host, port) = authority.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?, scheme == "https"))
}

/// As it stands before a port.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn two() -> Vec<Place> {
        let place = |name: &str, host: &str| Place {
            name: name.into(),
            host: host.into(),
            port: 5432,
            api: Some((host.into(), 8008, false)),
        };
        vec![place("a", "10.0.0.1"), place("b", "2001:db8::2")]
    }
}
