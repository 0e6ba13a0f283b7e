//! Which interface an address belongs to.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use bellwether_config::sections::vip::VipAddress;

/// What a network card is known by to its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// `None`: it has no neighbours.
    pub mac: Option<HardwareAddress>,
    pub has_carrier: bool,
    pub addresses: Vec<VipAddress>,
}

/// Where an address goes on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Here {
        index: u32,
        name: String,
        /// `None` only where nothing is announced.
        mac: Option<HardwareAddress>,
        has_carrier: bool,
    },
    /// In no network of this host: it belongs to another site.
    Elsewhere,
    Unusable {
        why: String,
    },
}

/// Finds the place of `address`; `ours` are all virtual addresses, which say nothing about networks.
pub fn place(
    address: VipAddress,
    wanted: Option<&str>,
    interfaces: &[Interface],
    ours: &BTreeSet<IpAddr>,
    announces: bool,
) -> Place {
    let found: Vec<&Interface> = match wanted {
        Some(name) => interfaces.iter().filter(|interface| interface.name == name).collect(),
        None => interfaces.iter().filter(|interface| holds(interface, address.ip, ours)).collect(),
    };
    match (found.as_slice(), wanted) {
        ([interface], _) if interface.mac.is_none() && announces => Place::Unusable {
            why: format!(
                "the interface {} has no hardware address, so nobody can be told; name another, or set `vip.announce: none`",
                interface.name
            ),
        },
        ([interface], _) => Place::Here {
            index: interface.index,
            name: interface.name.clone(),
            mac: interface.mac,
            has_carrier: interface.has_carrier,
        },
        ([], Some(name)) => Place::Unusable { why: format!("there is no interface {name}") },
        ([], None) => Place::Elsewhere,
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|interface| interface.name.as_str()).collect();
            let why = format!("it lies in the networks of {}; name one in `interface`", names.join(" and "));
            Place::Unusable { why }
        }
    }
}

fn holds(interface: &Interface, ip: IpAddr, ours: &BTreeSet<IpAddr>) -> bool {
    let own = interface.addresses.iter().filter(|own| !ours.contains(&own.ip));
    own.into_iter().any(|own| is_in_network(ip, own))
}

/// Whether `ip` lies in the network of an interface with this address. A network of one address is none.
fn is_in_network(ip: IpAddr, own: &VipAddress) -> bool {
    let length = u32::from(own.prefix_len);
    match (ip, own.ip) {
        (IpAddr::V4(ip), IpAddr::V4(own)) if length < 32 => {
            (u32::from(ip) ^ u32::from(own)).checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(own)) if length < 128 && !own.is_unicast_link_local() => {
            (u128::from(ip) ^ u128::from(own)).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> VipAddress {
        let (ip, prefix) = text.split_once('/').unwrap();
        VipAddress { ip: ip.parse().unwrap(), prefix_len: prefix.parse().unwrap() }
    }

    fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
        Interface {
            index,
            name: name.into(),
            mac: (name != "tun0").then_some(HardwareAddress([2; 6])),
            has_carrier: true,
            addresses: addresses.iter().map(|text| address(text)).collect(),
        }
    }

    fn find(ip: &str, wanted: Option<&str>, interfaces: &[Interface]) -> String {
        let ours = BTreeSet::from(["10.0.0.10".parse().unwrap()]);
        match place(address(ip), wanted, interfaces, &ours, true) {
            Place::Here { name, .. } => name,
            Place::Elsewhere => "elsewhere".into(),
            Place::Unusable { why } => why,
        }
    }

    #[test]
    fn the_network_says_where_an_address_belongs() {
        let host = [
            interface(1, "lo", &["127.0.0.1/8"]),
            interface(2, "eth0", &["10.0.0.5/24", "2001:db8::5/64", "fe80::1/64", "10.0.0.10/32"]),
            interface(3, "eth1", &["10.1.0.5/16"]),
            interface(4, "tun0", &["10.9.0.1/24"]),
        ];
        for (ip, expected) in [
            ("10.0.0.10/32", "eth0"),
            ("10.0.0.100/32", "eth0"),
            ("10.1.7.7/32", "eth1"),
            ("10.2.0.1/32", "elsewhere"),
            ("2001:db8::10/128", "eth0"),
            ("2001:db8:1::10/128", "elsewhere"),
        ] {
            assert_eq!(find(ip, None, &host), expected, "{ip}");
        }
        assert_eq!(find("10.2.0.1/32", Some("eth1"), &host), "eth1");
        assert_eq!(find("10.2.0.1/32", Some("eth7"), &host), "there is no interface eth7");
        assert!(find("10.9.0.9/32", None, &host).contains("tun0 has no hardware address"));
    }

    #[test]
    fn two_interfaces_in_one_network_are_not_guessed_between() {
        let host = [interface(2, "eth0", &["10.0.0.5/24"]), interface(3, "eth1", &["10.0.0.6/24"])];
        assert!(find("10.0.0.10/32", None, &host).contains("eth0 and eth1; name one"));
        assert_eq!(find("10.0.0.10/32", Some("eth1"), &host), "eth1");
        // An address of ours on an interface does not make a network of it.
        let leftover = [interface(2, "eth0", &["10.0.0.10/24"])];
        assert_eq!(find("10.0.0.11/32", None, &leftover), "elsewhere");
    }
}
