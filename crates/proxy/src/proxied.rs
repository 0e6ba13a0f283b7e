//! PROXY headers, versions 1 and 2: what a load balancer says of the client whose bytes follow. Bytes in, facts out.

use std::net::{IpAddr, SocketAddr};

use bellwether_types::Network;
use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

use crate::refusal::Refusal;

const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Balancers add a few hundred bytes about TLS and themselves.
const LONGEST: usize = 4096;
/// By the protocol.
const LONGEST_TEXT: usize = 107;

/// Who has come by way of a load balancer, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proxied {
    pub(crate) client: SocketAddr,
    /// As the client called it.
    pub(crate) called: SocketAddr,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heading {
    /// Too few bytes to tell.
    Incomplete,
    /// No header: the client's own first packet.
    Absent,
    /// So many bytes. `None`: the balancer speaks for itself, to see whether we are there.
    Header(usize, Option<Proxied>),
    Broken,
}

impl Heading {
    /// What `bytes` begin with. No packet of PostgreSQL's protocol begins as a header does.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let begins = |signature: &[u8]| {
            let length = bytes.len().min(signature.len());
            bytes[..length] == signature[..length]
        };
        if !begins(TEXT) && !begins(BINARY) {
            return Self::Absent;
        }
        if !bytes.starts_with(TEXT) && !bytes.starts_with(BINARY) {
            return Self::Incomplete;
        }
        let longest = if bytes.starts_with(TEXT) { LONGEST_TEXT } else { LONGEST };
        match ProxyHeader::parse(bytes, ParseConfig { include_tlvs: false, ..ParseConfig::default() }) {
            Ok((header, size)) if size <= longest => match header.proxied_address() {
                Some(of) if of.protocol == Protocol::Datagram => Self::Broken,
                Some(of) => Self::Header(size, Some(Proxied { client: of.source, called: of.destination })),
                None => Self::Header(size, None),
            },
            Err(Error::BufferTooShort) if bytes.len() < LONGEST => Self::Incomplete,
            Ok(_) | Err(_) => Self::Broken,
        }
    }

    /// What to do about it: the size of a header to pass over, and whom it names; `None` while more is to come. Headers are taken
    /// from the named networks only, and must come from there: else anybody could say to be anybody.
    pub(crate) fn judged(
        self,
        from: Option<IpAddr>,
        named: &[Network],
    ) -> Result<Option<(usize, Option<Proxied>)>, Refusal> {
        let is_named = from.is_some_and(|from| named.iter().any(|network| network.contains(from)));
        let refused = |what: &str, hint| {
            let from =
                from.map_or_else(|| "a Unix socket".to_owned(), |from| from.to_canonical().to_string());
            Err(Refusal::Heading { what: format!("{what} {from}"), hint })
        };
        match self {
            Self::Incomplete => Ok(None),
            Self::Absent if is_named => refused(
                "a PROXY header is expected from",
                "Let the load balancer send one (HAProxy: send-proxy-v2), or take its address out of accept_proxy.",
            ),
            Self::Absent => Ok(Some((0, None))),
            _ if !is_named => refused(
                "no PROXY header is taken from",
                "Name the load balancer's address in accept_proxy of the listener.",
            ),
            Self::Header(size, proxied) => Ok(Some((size, proxied))),
            Self::Broken => {
                refused("a PROXY header cannot be read, from", "It must be of version 1 or 2, for TCP.")
            }
        }
    }
}

/// The header (version 2) for a member; without `of` it says nothing of a client.
pub(crate) fn header(of: Option<Proxied>) -> Vec<u8> {
    let addresses = of.filter(|of| of.client.is_ipv4() == of.called.is_ipv4());
    let header = match addresses {
        Some(of) => ProxyHeader::with_address(ProxiedAddress::stream(of.client, of.called)),
        None => ProxyHeader::with_local(),
    };
    let mut out = Vec::new();
    // It fits: only additions could make it too long.
    let _ = header.encode_v2(&mut out);
    out
}

#[cfg(test)]
mod hostile {
    use proptest::prelude::*;

    use super::*;

    fn address(ip: [u8; 16], port: u16, is_ipv4: bool) -> SocketAddr {
        if is_ipv4 { ([ip[0], ip[1], ip[2], ip[3]], port).into() } else { (ip, port).into() }
    }

    proptest! {
        #[test]
        fn whatever_follows_a_signature_is_told_or_refused(
            is_text: bool, rest in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..320,
        ) {
            let bytes = [if is_text { TEXT } else { BINARY }, &rest].concat();
            let part = &bytes[..cut.min(bytes.len())];
            match (Heading::of(part), Heading::of(&bytes)) {
                // What is settled stays settled, whatever comes later.
                (Heading::Incomplete, _) => {}
                (early, whole) => prop_assert_eq!(early, whole),
            }
            if let Heading::Header(size, _) = Heading::of(&bytes) {
                prop_assert!(size <= bytes.len() && size >= 15);
            }
        }

        #[test]
        fn what_is_written_is_read_byte_by_byte(
            ips: [[u8; 16]; 2], ports: [u16; 2], is_ipv4: bool, tail in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let of = Proxied { client: address(ips[0], ports[0], is_ipv4), called: address(ips[1], ports[1], is_ipv4) };
            let header = header(Some(of));
            let bytes = [&header[..], &tail].concat();
            for end in 1..header.len() {
                prop_assert_eq!(Heading::of(&bytes[..end]), Heading::Incomplete);
            }
            prop_assert_eq!(Heading::of(&bytes), Heading::Header(header.len(), Some(of)));
        }

        #[test]
        fn no_first_packet_is_taken_for_a_header(size in 8_u32..10_000, rest in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&size.to_be_bytes()[..], &rest].concat();
            prop_assert_eq!(Heading::of(&bytes), Heading::Absent);
        }
    }

    #[test]
    fn headers_of_text() {
        let of = |text: &str| Heading::of(text.as_bytes());
        let proxied =
            Proxied { client: "192.0.2.7:5000".parse().unwrap(), called: "192.0.2.1:5432".parse().unwrap() };
        let known = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 5432\r\n";
        assert_eq!(of(&format!("{known}\0\0\0\x08")), Heading::Header(known.len(), Some(proxied)));
        assert_eq!(of("PROXY UNKNOWN ffff\r\n"), Heading::Header(20, None));
        for broken in ["PROXY TCP4 192.0.2.7 ::1 1 2\r\n", "PROXY TCP9 192.0.2.7 192.0.2.1 1 2\r\n"] {
            assert_eq!(of(broken), Heading::Broken, "{broken}");
        }
        assert_eq!(of(&format!("PROXY UNKNOWN {}", "x".repeat(200))), Heading::Broken, "endless");
        assert_eq!(of("PRO"), Heading::Incomplete);
        assert_eq!(of("POST / HTTP/1.1"), Heading::Absent);
    }

    #[test]
    fn only_the_named_may_and_they_must() {
        let named = ["10.0.0.0/8".parse().unwrap()];
        let (balancer, stranger) = (Some("10.1.1.1".parse().unwrap()), Some("192.0.2.1".parse().unwrap()));
        let header = Heading::Header(28, None);
        assert_eq!(header.judged(balancer, &named), Ok(Some((28, None))));
        assert_eq!(Heading::Absent.judged(stranger, &named), Ok(Some((0, None))));
        assert_eq!(Heading::Incomplete.judged(balancer, &named), Ok(None));
        assert!(header.judged(stranger, &named).is_err() && header.judged(None, &named).is_err());
        assert!(Heading::Absent.judged(balancer, &named).is_err());
        assert!(Heading::Broken.judged(balancer, &named).is_err());
    }
}
