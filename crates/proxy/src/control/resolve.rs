//! Where members are: addresses of the hosts in their keys. Routing never waits for a name to be looked up.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bellwether_types::{HostPort, topology::TopologyMember};
use tokio::task::JoinSet;
use tracing::warn;

use crate::routes::hosts_of;

const LOOKUP_LIMIT: Duration = Duration::from_secs(4);

type Found = (HostPort, Option<Vec<SocketAddr>>);

#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: BTreeMap<HostPort, Vec<SocketAddr>>,
    lookups: JoinSet<Found>,
    running: Vec<HostPort>,
}

impl Resolver {
    /// The addresses as far as they are known; a name that is new is looked up meanwhile.
    pub(super) fn addresses(&mut self, member: &TopologyMember) -> Vec<SocketAddr> {
        let hosts = member.conn_url.as_deref().map(hosts_of).unwrap_or_default();
        let mut addresses = Vec::new();
        for host in hosts {
            if let Ok(ip) = host.host.parse::<IpAddr>() {
                addresses.push(SocketAddr::new(ip, host.port));
            } else if let Some(known) = self.known.get(&host) {
                addresses.extend(known);
            } else {
                self.look_up(host);
            }
        }
        addresses
    }

    /// Waits until a lookup has brought something new. Safe to drop.
    pub(super) async fn found(&mut self) {
        loop {
            let Some(ended) = self.lookups.join_next().await else { return std::future::pending().await };
            let Ok((host, found)) = ended else { continue };
            self.running.retain(|running| *running != host);
            let Some(mut addresses) = found else { continue };
            addresses.sort();
            if self.known.get(&host) != Some(&addresses) {
                self.known.insert(host, addresses);
                return;
            }
        }
    }

    /// Looks up again what is known; a name that cannot be looked up keeps its addresses.
    pub(super) fn look_again(&mut self) {
        for host in self.known.keys().cloned().collect::<Vec<_>>() {
            self.look_up(host);
        }
    }

    fn look_up(&mut self, host: HostPort) {
        if self.running.contains(&host) {
            return;
        }
        self.running.push(host.clone());
        self.lookups.spawn(async move {
            let looked = tokio::net::lookup_host((host.host.clone(), host.port));
            let found = match tokio::time::timeout(LOOKUP_LIMIT, looked).await {
                Ok(Ok(addresses)) => Some(addresses.collect()),
                Ok(Err(error)) => {
                    warn!(host = %host, %error, "the name of a member cannot be looked up");
                    None
                }
                Err(_) => None,
            };
            (host, found)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_a_url() {
        let one = vec![HostPort::new("10.0.0.1", 5432)];
        assert_eq!(hosts_of("postgres://10.0.0.1:5432/postgres"), one);
        assert_eq!(hosts_of("postgres://user:secret@10.0.0.1/postgres?x=y"), one);
        let two = vec![HostPort::new("a", 1), HostPort::new("fe80::1", 2)];
        assert_eq!(hosts_of("postgres://a:1,[fe80::1]:2/postgres"), two);
        assert_eq!(hosts_of("nonsense"), vec![]);
    }
}
