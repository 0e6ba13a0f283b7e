//! The messages of the exchange.

use crate::{auth::scram::MECHANISM, frame::c_string, message};

pub(super) const OK: u32 = 0;
pub(super) const CLEARTEXT: u32 = 3;
pub(super) const MD5: u32 = 5;
pub(super) const SASL: u32 = 10;
pub(super) const SASL_CONTINUE: u32 = 11;
pub(super) const SASL_FINAL: u32 = 12;

/// An AuthenticationRequest.
pub(super) fn request(kind: u32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    message::put(&mut out, b'R', |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        body(out);
    });
    out
}

/// What a SASLInitialResponse carries for our mechanism.
pub(super) fn sasl_initial(body: &[u8]) -> Result<&[u8], &'static str> {
    let (mechanism, rest) = c_string(body).ok_or("malformed SASL response")?;
    if mechanism != MECHANISM.as_bytes() {
        return Err("client selected an invalid SASL authentication mechanism");
    }
    let [a, b, c, d, data @ ..] = rest else { return Err("malformed SASL response") };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != data.len() {
        return Err("malformed SASL response");
    }
    Ok(data)
}
