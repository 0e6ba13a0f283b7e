//! The frames by which neighbours learn where an address is: ARP for IPv4, neighbour discovery for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::place::HardwareAddress;

const BROADCAST: [u8; 6] = [255; 6];
const NOBODY: [u8; 6] = [0; 6];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Option: the hardware address of the target.
const TARGET_ADDRESS: u8 = 2;
const ETHERNET_HEADER: usize = 14;

/// Where an address was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub ip: IpAddr,
    pub at: HardwareAddress,
}

/// What tells all neighbours that `ip` is at `mac`. For IPv4 in both forms: devices differ in which one they honour.
pub fn announcements(ip: IpAddr, mac: HardwareAddress) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => {
            vec![arp(REQUEST, mac, (mac.0, ip), (NOBODY, ip)), arp(REPLY, mac, (mac.0, ip), (mac.0, ip))]
        }
        IpAddr::V6(ip) => vec![advertisement(ip, mac)],
    }
}

/// Asks who has `ip` without saying that we do.
pub fn probe(ip: IpAddr, mac: HardwareAddress) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(REQUEST, mac, (mac.0, Ipv4Addr::UNSPECIFIED), (NOBODY, ip)),
        IpAddr::V6(ip) => solicitation(ip, mac),
    }
}

fn arp(
    operation: u8,
    from: HardwareAddress,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(from.0);
    frame.extend(ARP);
    // Ethernet, IPv4, and how long their addresses are.
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, ip) in [sender, target] {
        frame.extend(mac);
        frame.extend(ip.octets());
    }
    frame
}

fn advertisement(ip: Ipv6Addr, mac: HardwareAddress) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0];
    // Overrides what is known; it answers no question, and we are no router.
    message.extend([0x20, 0, 0, 0]);
    message.extend(ip.octets());
    message.extend([TARGET_ADDRESS, 1]);
    message.extend(mac.0);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    ipv6([0x33, 0x33, 0, 0, 0, 1], mac, ip, all_nodes, message)
}

fn solicitation(ip: Ipv6Addr, mac: HardwareAddress) -> Vec<u8> {
    let last = ip.octets();
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(last);
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&last[13..]);
    let to = [0x33, 0x33, 0xff, last[13], last[14], last[15]];
    ipv6(to, mac, Ipv6Addr::UNSPECIFIED, Ipv6Addr::from(group), message)
}

fn ipv6(
    to: [u8; 6],
    from: HardwareAddress,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(message.len()).expect("a message of some tens of bytes");
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + 40 + message.len());
    frame.extend(to);
    frame.extend(from.0);
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Neighbours throw away what a router could have passed on.
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(message);
    frame
}

/// The internet checksum over the pseudo header and an even number of bytes.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).expect("a message of some tens of bytes");
    let mut bytes = Vec::new();
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded above")
}

/// Who says in an ARP frame that an address is his; `None` if nobody does.
pub fn read_arp(frame: &[u8]) -> Option<Sighting> {
    let packet = frame.get(ETHERNET_HEADER..ETHERNET_HEADER + 28)?;
    if frame[12..14] != ARP || packet[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac: [u8; 6] = packet[8..14].try_into().ok()?;
    let ip: [u8; 4] = packet[14..18].try_into().ok()?;
    let ip = Ipv4Addr::from(ip);
    (!ip.is_unspecified()).then_some(Sighting { ip: ip.into(), at: HardwareAddress(mac) })
}

/// The same of a neighbour advertisement, without the headers before it.
pub fn read_advertisement(message: &[u8]) -> Option<Sighting> {
    if *message.first()? != ADVERTISEMENT {
        return None;
    }
    let ip: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let mut options = message.get(24..)?;
    while let [kind, length, ..] = *options {
        let size = usize::from(length) * 8;
        let option = options.get(..size).filter(|_| size > 0)?;
        if kind == TARGET_ADDRESS {
            let mac: [u8; 6] = option.get(2..8)?.try_into().ok()?;
            return Some(Sighting { ip: Ipv6Addr::from(ip).into(), at: HardwareAddress(mac) });
        }
        options = &options[size..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 7]);

    #[test]
    fn arp_is_announced_in_both_forms_and_read_back() {
        let ip: IpAddr = "10.0.0.10".parse().unwrap();
        let frames = announcements(ip, MAC);
        let forms: Vec<u8> = frames.iter().map(|frame| frame[21]).collect();
        assert_eq!(forms, [REQUEST, REPLY]);
        for frame in &frames {
            assert_eq!(frame.len(), 42);
            assert_eq!((&frame[..6], &frame[38..]), (&[255; 6][..], &[10, 0, 0, 10][..]));
            assert_eq!(read_arp(frame), Some(Sighting { ip, at: MAC }));
        }
        assert_eq!(frames[0][32..38], [0; 6], "a request names no target");
        assert_eq!(read_arp(&probe(ip, MAC)), None, "a probe claims nothing");
        assert_eq!(read_arp(&frames[0][..30]), None);
    }

    #[test]
    fn an_advertisement_overrides_and_its_checksum_is_right() {
        let ip: IpAddr = "2001:db8::10".parse().unwrap();
        let frame = announcements(ip, MAC).remove(0);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[21], 255, "hop limit");
        let message = &frame[54..];
        assert_eq!((message[0], message[4]), (ADVERTISEMENT, 0x20));
        assert_eq!(read_advertisement(message), Some(Sighting { ip, at: MAC }));
        assert_eq!(read_advertisement(&message[..20]), None);
        // Over a message with its checksum in place the sum is zero.
        let source = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap());
        let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).unwrap());
        assert_eq!(checksum(source, destination, message), 0);
        assert_eq!(probe(ip, MAC)[..6], [0x33, 0x33, 0xff, 0, 0, 0x10]);
    }
}
