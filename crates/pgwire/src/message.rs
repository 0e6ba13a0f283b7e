//! Messages that the proxy says itself, to clients and to servers.

/// Appends one message: its tag, its length, and what `body` writes.
pub fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a string and its zero byte.
pub fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// What a client is told when something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// `FATAL` ends the connection, `ERROR` the statement.
    pub severity: &'a str,
    pub sqlstate: &'a str,
    pub message: &'a str,
    pub detail: &'a str,
    pub hint: &'a str,
}

impl Report<'_> {
    /// Appends an ErrorResponse.
    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, b'E', |out| self.fields(out));
    }

    /// Appends a NoticeResponse.
    pub fn write_notice(&self, out: &mut Vec<u8>) {
        put(out, b'N', |out| self.fields(out));
    }

    fn fields(&self, out: &mut Vec<u8>) {
        let fields = [
            (b'S', self.severity),
            (b'V', self.severity),
            (b'C', self.sqlstate),
            (b'M', self.message),
            (b'D', self.detail),
            (b'H', self.hint),
        ];
        for (kind, text) in fields {
            if !text.is_empty() {
                out.push(kind);
                put_str(out, text.as_bytes());
            }
        }
        out.push(0);
    }
}

/// One field of the body of an ErrorResponse or NoticeResponse (`C` is the SQLSTATE, `M` the message).
pub fn report_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    while let [kind, after @ ..] = rest {
        if *kind == 0 {
            return None;
        }
        let (text, after) = crate::frame::c_string(after)?;
        if *kind == wanted {
            return Some(text);
        }
        rest = after;
    }
    None
}

/// Appends ReadyForQuery; `status` is `I`, `T` or `E`.
pub fn ready(out: &mut Vec<u8>, status: u8) {
    put(out, b'Z', |out| out.push(status));
}

/// Appends a simple query.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    put(out, b'Q', |out| put_str(out, sql.as_bytes()));
}

/// Appends AuthenticationOk.
pub fn authenticated(out: &mut Vec<u8>) {
    put(out, b'R', |out| out.extend_from_slice(&[0; 4]));
}

/// Appends ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(out, b'S', |out| {
        put_str(out, name);
        put_str(out, value);
    });
}

/// Appends BackendKeyData.
pub fn backend_key(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    put(out, b'K', |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends NegotiateProtocolVersion: the newest minor version that is spoken, and the options that are not known.
pub fn negotiate_version(out: &mut Vec<u8>, code: u32, unknown: &[&str]) {
    put(out, b'v', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(&u32::try_from(unknown.len()).unwrap_or(0).to_be_bytes());
        for option in unknown {
            put_str(out, option.as_bytes());
        }
    });
}

/// Appends a row description of text columns.
pub fn row_description(out: &mut Vec<u8>, columns: &[&str]) {
    const TEXT: u32 = 25;
    put(out, b'T', |out| {
        out.extend_from_slice(&u16::try_from(columns.len()).unwrap_or(0).to_be_bytes());
        for name in columns {
            put_str(out, name.as_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&TEXT.to_be_bytes());
            out.extend_from_slice(&(-1_i16).to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        }
    });
}

/// Appends a row of text columns.
pub fn data_row<T: AsRef<[u8]>>(out: &mut Vec<u8>, columns: &[Option<T>]) {
    put(out, b'D', |out| {
        out.extend_from_slice(&u16::try_from(columns.len()).unwrap_or(0).to_be_bytes());
        for column in columns {
            match column {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    let value = value.as_ref();
                    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
    });
}

/// Appends CommandComplete.
pub fn complete(out: &mut Vec<u8>, tag: &str) {
    put(out, b'C', |out| put_str(out, tag.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Header;

    #[test]
    fn a_report_carries_what_a_client_needs() {
        let mut out = Vec::new();
        let report = Report {
            severity: "FATAL",
            sqlstate: "57P03",
            message: "no primary",
            detail: "",
            hint: "try again",
        };
        report.write(&mut out);
        assert_eq!(Header::of(&out), Ok(Some(Header { tag: b'E', size: out.len() })));
        assert_eq!(report_field(&out[5..], b'C'), Some(&b"57P03"[..]));
        assert_eq!(report_field(&out[5..], b'H'), Some(&b"try again"[..]));
        assert_eq!(report_field(&out[5..], b'D'), None, "an empty detail is left out");
    }

    #[test]
    fn ready_is_six_bytes() {
        let mut out = Vec::new();
        ready(&mut out, b'T');
        assert_eq!(out, b"Z\0\0\0\x05T");
    }

    #[test]
    fn a_row_knows_null() {
        let mut out = Vec::new();
        data_row(&mut out, &[Some("a"), None]);
        assert_eq!(out, b"D\0\0\0\x0f\0\x02\0\0\0\x01a\xff\xff\xff\xff");
    }
}
