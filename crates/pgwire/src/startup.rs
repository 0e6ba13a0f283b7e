//! What a client says before anything else.

use crate::frame::c_string;

/// PostgreSQL takes no longer first packet either.
pub const LONGEST: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The first byte of a TLS handshake: nobody speaks PostgreSQL's protocol with it, so TLS may begin at once (PostgreSQL 17).
pub const TLS_HANDSHAKE: u8 = 0x16;

/// A version of the protocol: 3.0, or 3.2 (PostgreSQL 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    pub major: u16,
    pub minor: u16,
}

impl Protocol {
    pub const V3_0: Protocol = Protocol { major: 3, minor: 0 };
    pub const V3_2: Protocol = Protocol { major: 3, minor: 2 };

    /// As it stands in a startup message.
    pub fn code(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }
}

/// One of the packets without a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// May we encrypt? Answered with one byte.
    Ssl,
    /// May we encrypt by Kerberos? Answered with one byte.
    Gssenc,
    Cancel {
        process: u32,
        /// Four bytes, and up to 256 since version 3.2.
        secret: Vec<u8>,
    },
    Startup(Startup),
}

/// Who wants what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    pub protocol: Protocol,
    /// In the order in which they were sent.
    pub parameters: Vec<(String, String)>,
}

/// Why a first packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartupError {
    #[error("invalid length of startup packet")]
    Length,
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Protocol { major: u16, minor: u16 },
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    #[error("startup parameters must be UTF-8")]
    Encoding,
}

impl First {
    /// Reads the packet that `bytes` begin with, and says how long it is; `None` if there are too few bytes yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<(First, usize)>, StartupError> {
        let Some(size) = number(bytes, 0) else { return Ok(None) };
        let size = size as usize;
        if !(8..=LONGEST).contains(&size) {
            return Err(StartupError::Length);
        }
        let Some(packet) = bytes.get(..size) else { return Ok(None) };
        let code = number(packet, 4).ok_or(StartupError::Length)?;
        let first = match code {
            SSL_REQUEST => First::Ssl,
            GSSENC_REQUEST => First::Gssenc,
            CANCEL_REQUEST => {
                let process = number(packet, 8).ok_or(StartupError::Length)?;
                First::Cancel { process, secret: packet[12..].to_vec() }
            }
            _ => First::Startup(Startup::parse(code, &packet[8..])?),
        };
        Ok(Some((first, size)))
    }
}

impl Startup {
    fn parse(code: u32, mut rest: &[u8]) -> Result<Startup, StartupError> {
        let (major, minor) = ((code >> 16) as u16, (code & 0xffff) as u16);
        if major != 3 {
            return Err(StartupError::Protocol { major, minor });
        }
        let mut parameters = Vec::new();
        loop {
            let (name, after) = c_string(rest).ok_or(StartupError::Layout)?;
            if name.is_empty() {
                let protocol = Protocol { major, minor };
                return if after.is_empty() {
                    Ok(Startup { protocol, parameters })
                } else {
                    Err(StartupError::Layout)
                };
            }
            let (value, after) = c_string(after).ok_or(StartupError::Layout)?;
            parameters.push((text(name)?, text(value)?));
            rest = after;
        }
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Empty if the client named none, which PostgreSQL refuses.
    pub fn user(&self) -> &str {
        self.parameter("user").unwrap_or("")
    }

    /// The user's name if the client named no database.
    pub fn database(&self) -> &str {
        self.parameter("database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }

    /// Whether the client wants to stream WAL (`true`, or `database` for logical replication).
    pub fn is_replication(&self) -> bool {
        let wanted = self.parameter("replication").unwrap_or("false").to_ascii_lowercase();
        !matches!(wanted.as_str(), "false" | "off" | "no" | "0" | "f" | "n" | "")
    }

    /// The packet as it goes to a server.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.protocol.code().to_be_bytes());
        for (name, value) in &self.parameters {
            for text in [name, value] {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        }
        out.push(0);
        let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }
}

/// The packet that asks a server to encrypt.
pub fn ssl_request() -> [u8; 8] {
    let mut packet = [0; 8];
    packet[..4].copy_from_slice(&8_u32.to_be_bytes());
    packet[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
    packet
}

/// The packet that asks a server to cancel what one of its processes does.
pub fn cancel_request(process: u32, secret: &[u8]) -> Vec<u8> {
    let size = u32::try_from(12 + secret.len()).unwrap_or(u32::MAX);
    let mut packet = Vec::with_capacity(12 + secret.len());
    for number in [size, CANCEL_REQUEST, process] {
        packet.extend_from_slice(&number.to_be_bytes());
    }
    packet.extend_from_slice(secret);
    packet
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn text(bytes: &[u8]) -> Result<String, StartupError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn startup(parameters: &[(&str, &str)]) -> Startup {
        let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Startup { protocol: Protocol::V3_0, parameters }
    }

    #[test]
    fn a_startup_is_read_as_it_was_written() {
        let sent = startup(&[("user", "app"), ("database", "shop"), ("options", "-c geqo=off")]);
        let mut bytes = Vec::new();
        sent.write(&mut bytes);
        for short in 0..bytes.len() {
            assert_eq!(First::parse(&bytes[..short]), Ok(None), "{short} bytes are too few");
        }
        let size = bytes.len();
        bytes.extend_from_slice(b"more");
        assert_eq!(First::parse(&bytes), Ok(Some((First::Startup(sent), size))));
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(First::parse(&ssl_request()), Ok(Some((First::Ssl, 8))));
        let cancel = cancel_request(7, b"secret of 3.2");
        let expected = First::Cancel { process: 7, secret: b"secret of 3.2".to_vec() };
        assert_eq!(First::parse(&cancel), Ok(Some((expected, cancel.len()))));
    }

    #[test]
    fn what_is_no_startup_is_refused() {
        assert_eq!(First::parse(b"GET / HTTP/1.1\r\n"), Err(StartupError::Length));
        assert_eq!(First::parse(&[0, 0, 0, 4]), Err(StartupError::Length));
        let version_2 = [0, 0, 0, 9, 0, 2, 0, 0, 0];
        assert_eq!(First::parse(&version_2), Err(StartupError::Protocol { major: 2, minor: 0 }));
        let unterminated = [0, 0, 0, 10, 0, 3, 0, 0, b'a', 0];
        assert_eq!(First::parse(&unterminated), Err(StartupError::Layout));
    }

    #[test]
    fn the_database_is_named_after_the_user_by_default() {
        assert_eq!(startup(&[("user", "app")]).database(), "app");
        assert_eq!(startup(&[("user", "app"), ("database", "shop")]).database(), "shop");
    }

    #[test]
    fn replication_is_asked_for_in_several_ways() {
        for (value, wanted) in
            [("true", true), ("database", true), ("on", true), ("false", false), ("0", false)]
        {
            assert_eq!(startup(&[("replication", value)]).is_replication(), wanted, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = First::parse(&bytes);
            let mut framed = (u32::try_from(bytes.len()).unwrap() + 4).to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = First::parse(&framed);
        }
    }
}
