//! Which servers are asked and told: those that are configured, or those that the zone itself names.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bellwether_types::HostPort;
use tokio::{net::lookup_host, time::timeout};

use super::{
    message::{authority, question, servers},
    update::Kind,
    wire::{ask, new_id},
};

const PORT: u16 = 53;
const RESOLVED_WITHIN: Duration = Duration::from_secs(2);
const RESOLVERS: &str = "/etc/resolv.conf";

/// A server under the name that it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub address: SocketAddr,
}

/// Looks these up, in their order; those without an address are left out.
pub async fn resolved(servers: &[HostPort]) -> Vec<Server> {
    let mut found = Vec::new();
    for server in servers {
        if let Some(address) = address_of(&server.host, server.port).await {
            found.push(Server { host: server.host.clone(), address });
        }
    }
    found
}

/// The server that the zone's SOA names, found through the resolvers of this host.
pub async fn primary_of(zone: &str) -> Vec<Server> {
    for resolver in resolvers() {
        let Ok(question) = question(new_id(), zone, Kind::Soa, true) else { return Vec::new() };
        let Ok(answer) = ask(resolver, question, None).await else { continue };
        if let Some((_, host)) = authority(&answer)
            && let Some(address) = address_of(&host, PORT).await
        {
            return vec![Server { host, address }];
        }
    }
    Vec::new()
}

/// All servers that the zone names, as this server knows it.
pub async fn all_of(zone: &str, server: SocketAddr) -> Vec<Server> {
    let Ok(question) = question(new_id(), zone, Kind::Ns, false) else { return Vec::new() };
    let Ok(answer) = ask(server, question, None).await else { return Vec::new() };
    let names = servers(&answer);
    resolved(&names.iter().map(|name| HostPort::new(name, PORT)).collect::<Vec<_>>()).await
}

/// The address of a host, if it has one.
pub async fn address_of(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port));
    }
    timeout(RESOLVED_WITHIN, lookup_host((host, port))).await.ok()?.ok()?.next()
}

fn resolvers() -> Vec<SocketAddr> {
    let text = fs::read_to_string(RESOLVERS).unwrap_or_default();
    nameservers(&text).into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect()
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|address| address.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_the_host() {
        let text = "# x\nsearch a.b\nnameserver 10.0.0.53\n nameserver\t2001:db8::53\nnameserver nonsense\n";
        assert_eq!(nameservers(text), ["10.0.0.53", "2001:db8::53"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
