//! Where messages begin and end.
//!
//! After the startup each message is a tag, four bytes of length (which count themselves), and the body.

/// Bytes of tag and length.
pub const HEADER: usize = 5;

/// PostgreSQL's own limit for one message from a client is 1 GiB; whoever claims more speaks another protocol.
const LONGEST: u32 = 0x4000_0000;

/// What stands in front of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// Bytes of the whole message, its header included.
    pub size: usize,
}

/// The bytes are not PostgreSQL's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message with tag {tag:#04x} claims a length of {length} bytes")]
pub struct BadLength {
    pub tag: u8,
    pub length: u32,
}

impl Header {
    /// The header that `bytes` begin with; `None` if there are too few of them yet.
    #[inline]
    pub fn of(bytes: &[u8]) -> Result<Option<Header>, BadLength> {
        let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(4..=LONGEST).contains(&length) {
            return Err(BadLength { tag, length });
        }
        Ok(Some(Header { tag, size: length as usize + 1 }))
    }
}

/// A string that ends with a zero byte, and what comes after it.
pub fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes_and_a_sane_length() {
        assert_eq!(Header::of(b"Q\0\0\0"), Ok(None));
        assert_eq!(Header::of(b"Q\0\0\0\x05\0"), Ok(Some(Header { tag: b'Q', size: 6 })));
        assert_eq!(Header::of(b"Q\0\0\0\x03"), Err(BadLength { tag: b'Q', length: 3 }));
        assert!(Header::of(b"GET / HTTP/1.1").is_err(), "a web browser is told apart");
    }

    #[test]
    fn a_string_ends_at_its_zero() {
        assert_eq!(c_string(b"ab\0c"), Some((&b"ab"[..], &b"c"[..])));
        assert_eq!(c_string(b"ab"), None);
    }
}
