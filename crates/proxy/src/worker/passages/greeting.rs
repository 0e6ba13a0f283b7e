//! What the first bytes of both sides mean.

use bellwether_pgwire::{
    frame::{HEADER, Header, c_string},
    startup::{First, TLS_HANDSHAKE},
};

/// How a client begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Incomplete,
    /// It asks whether to encrypt.
    Encrypt,
    /// It encrypts at once.
    Handshake,
    Startup,
    Cancel {
        process: u32,
        secret: Vec<u8>,
    },
    /// Another protocol.
    Foreign(String),
}

impl Opening {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Self::Handshake;
        }
        match First::parse(bytes) {
            Ok(None) => Self::Incomplete,
            Ok(Some((First::Ssl | First::Gssenc, _))) => Self::Encrypt,
            Ok(Some((First::Startup(_), _))) => Self::Startup,
            Ok(Some((First::Cancel { process, secret }, _))) => Self::Cancel { process, secret },
            Err(problem) => Self::Foreign(problem.to_string()),
        }
    }
}

/// What a server has reported while a session begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Starting {
    /// Bytes of whole messages.
    pub(super) whole: usize,
    /// It is a standby, says PostgreSQL 14 and later.
    pub(super) in_recovery: bool,
    pub(super) key: Option<(u32, Vec<u8>)>,
    /// The session takes commands, or the bytes are none that we know: no more looking.
    pub(super) ready: bool,
}

impl Starting {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        loop {
            let rest = &bytes[seen.whole..];
            let header = match Header::of(rest) {
                Ok(Some(header)) if header.size <= rest.len() => header,
                Ok(_) => return seen,
                Err(_) => {
                    seen.ready = true;
                    return seen;
                }
            };
            let body = &rest[HEADER..header.size];
            match header.tag {
                b'S' => seen.in_recovery |= is_standby(body),
                b'K' if body.len() > 4 => {
                    let process = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                    seen.key = Some((process, body[4..].to_vec()));
                }
                b'Z' => seen.ready = true,
                _ => {}
            }
            seen.whole += header.size;
        }
    }
}

fn is_standby(status: &[u8]) -> bool {
    let Some((name, rest)) = c_string(status) else { return false };
    name == b"in_hot_standby" && c_string(rest).is_some_and(|(value, _)| value == b"on")
}

#[cfg(test)]
mod tests {
    use bellwether_pgwire::{message, startup};

    use super::*;

    #[test]
    fn openings_are_told_apart() {
        assert_eq!(Opening::of(b"\0\0"), Opening::Incomplete);
        assert_eq!(Opening::of(&startup::ssl_request()), Opening::Encrypt);
        assert_eq!(Opening::of(&[TLS_HANDSHAKE, 3, 1]), Opening::Handshake);
        let cancel = startup::cancel_request(5, &[1, 2, 3, 4]);
        assert_eq!(Opening::of(&cancel), Opening::Cancel { process: 5, secret: vec![1, 2, 3, 4] });
        assert!(matches!(Opening::of(b"GET / HTTP/1.1\r\n"), Opening::Foreign(_)));
    }

    #[test]
    fn a_standby_gives_itself_away() {
        let mut bytes = Vec::new();
        message::parameter_status(&mut bytes, b"in_hot_standby", b"on");
        message::backend_key(&mut bytes, 7, b"abcd");
        let whole = bytes.len();
        message::ready(&mut bytes, b'I');
        let incomplete = Starting::of(&bytes[..bytes.len() - 1]);
        let expected = Starting { whole, in_recovery: true, key: Some((7, b"abcd".to_vec())), ready: false };
        assert_eq!(incomplete, expected);
        assert!(Starting::of(&bytes).ready);
    }

    #[test]
    fn a_primary_does_not() {
        let mut bytes = Vec::new();
        message::parameter_status(&mut bytes, b"in_hot_standby", b"off");
        message::parameter_status(&mut bytes, b"application_name", b"on");
        assert!(!Starting::of(&bytes).in_recovery);
    }
}
