//! The little that the switch reads in a frame.

use super::octets;

const IPV4: [u8; 2] = [8, 0];
const TCP: u8 = 6;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Port(usize),
    Everybody,
}

/// `None`: to nobody here.
pub(super) fn destination(frame: &[u8], ports: usize) -> Option<Destination> {
    let address = frame.get(..6)?;
    if address[0] & 1 == 1 {
        return Some(Destination::Everybody);
    }
    (0..ports).find(|&port| octets(port) == address).map(Destination::Port)
}

/// Source and destination port, if the frame carries TCP.
pub(super) fn tcp_ports(frame: &[u8]) -> Option<[u16; 2]> {
    let packet = frame.get(14..)?;
    if frame[12..14] != IPV4 || *packet.get(9)? != TCP {
        return None;
    }
    let segment = packet.get(usize::from(packet[0] & 15) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    Some([port(0)?, port(2)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From host 1 to host 2, TCP from port 5432 to 40000, without payload.
    fn segment() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let mut packet = vec![0_u8; 20];
        (packet[0], packet[9]) = (0x45, TCP);
        frame.extend(packet);
        frame.extend(5432_u16.to_be_bytes());
        frame.extend(40_000_u16.to_be_bytes());
        frame
    }

    #[test]
    fn a_frame_goes_to_the_host_with_its_address_and_a_broadcast_to_everybody() {
        assert_eq!(destination(&segment(), 3), Some(Destination::Port(2)));
        assert_eq!(destination(&segment(), 2), None, "there is no third port");
        assert_eq!(destination(&[255; 14], 3), Some(Destination::Everybody));
        assert_eq!(destination(&[2, 0], 3), None, "too short for an address");
    }

    #[test]
    fn ports_are_read_from_tcp_alone() {
        assert_eq!(tcp_ports(&segment()), Some([5432, 40_000]));
        let mut other = segment();
        other[14 + 9] = 17;
        assert_eq!(tcp_ports(&other), None);
        assert_eq!(tcp_ports(&segment()[..36]), None, "cut off in the ports");
    }
}
