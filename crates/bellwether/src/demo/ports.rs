//! Ports that are free and will stay so.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
};

/// Where to look: high enough for nobody's service, as far as possible below the ports of outgoing connections.
const FIRST: u16 = 15_000;
/// The kernel's default; see [`first_ephemeral`].
const FIRST_EPHEMERAL: u16 = 32_768;

/// Finds `count` ports of 127.0.0.1 on which nobody listens.
///
/// A node that is down for a while must find its ports again, so they are taken from below the range from which the kernel
/// serves outgoing connections.
pub(super) fn free(count: usize) -> io::Result<Vec<u16>> {
    let last = first_ephemeral().max(FIRST + 1_000);
    let start = rand::random_range(FIRST..last);
    // All are held until all are found, so that none is given out twice.
    let mut held = Vec::with_capacity(count);
    for port in (start..last).chain(FIRST..start) {
        if held.len() == count {
            break;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

fn first_ephemeral() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(FIRST_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_listened_on() {
        let ports = free(9).unwrap();
        let listeners: Vec<_> =
            ports.iter().map(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
        assert_eq!(listeners.len(), 9);
    }
}
