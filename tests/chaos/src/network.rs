//! The network between hosts: addresses, and a switch that does to frames what its [`Rules`] say.

mod frame;
mod rules;
mod switch;

pub use rules::{Link, Rules};
pub use switch::Switch;

use std::net::Ipv4Addr;

/// The port of the switch where the clients are: this process.
pub const CLIENT: usize = 0;

/// The address at a port of the switch.
pub fn address(port: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + octet(port))
}

/// The hardware address at a port of the switch, as `ip` takes it.
pub(crate) fn hardware_address(port: usize) -> String {
    octets(port).map(|octet| format!("{octet:02x}")).join(":")
}

/// The same as it stands in frames.
fn octets(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, octet(port)]
}

fn octet(port: usize) -> u8 {
    u8::try_from(port).expect("a handful of hosts")
}
