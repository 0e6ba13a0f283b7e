//! Who may make unsafe calls: address, then client certificate, then password.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use bellwether_types::cluster::Cluster;
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret;

use crate::{BasicAuth, Caller, VerifyClient, allowlist::Allowlist, reply::Reply};

/// The rules in force.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) allowlist: Allowlist,
    pub(crate) authentication: Option<BasicAuth>,
    pub(crate) verify_client: VerifyClient,
}

/// What the connection says about its other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) is_tls: bool,
    /// SHA-256 of the client certificate in hexadecimal, if one was sent and verified.
    pub(crate) certificate: Option<String>,
}

impl Access {
    /// Checks in the fixed order; the first failure answers. `Err` carries the caller as far as it is known.
    pub(crate) async fn check(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        members: MembersCount,
        view: Option<&Cluster>,
    ) -> (Caller, Result<(), Reply>) {
        let mut caller = Caller { origin: peer.address, identity: None };
        let allowed = match members {
            MembersCount::Yes => self.allowlist.allows(peer.address, view).await,
            MembersCount::No => self.allowlist.without_members().allows(peer.address, None).await,
        };
        if !allowed {
            return (caller, Err(Reply::message(403, "Access is denied")));
        }
        caller.identity = peer.certificate.as_ref().map(|sha256| format!("cert:{sha256}"));
        if peer.is_tls && self.verify_client != VerifyClient::None && peer.certificate.is_none() {
            return (caller, Err(Reply::message(403, "client certificate required")));
        }
        match self.authentication.as_ref().map(|expected| authenticate(expected, headers)) {
            None => (caller, Ok(())),
            Some(Ok(username)) => {
                caller.identity = Some(username);
                (caller, Ok(()))
            }
            Some(Err(reason)) => {
                let challenge = HeaderValue::from_static("Basic realm=\"Patroni\"");
                let reply = Reply::message(401, reason).with_header(header::WWW_AUTHENTICATE, challenge);
                (caller, Err(reply))
            }
        }
    }
}

/// Whether the members of the cluster count as allowed, if the configuration says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MembersCount {
    Yes,
    No,
}

/// The user name, if name and password are right.
fn authenticate(expected: &BasicAuth, headers: &HeaderMap) -> Result<String, &'static str> {
    let header = headers.get(header::AUTHORIZATION).ok_or("no auth header received")?;
    let given = decode_basic(header).ok_or("not authenticated")?;
    let wanted = format!("{}:{}", expected.username, expected.password.expose_secret());
    if is_same_secret(&given, wanted.as_bytes()) {
        Ok(expected.username.clone())
    } else {
        Err("not authenticated")
    }
}

fn decode_basic(header: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    scheme.eq_ignore_ascii_case("basic").then_some(decoded)
}

/// Compares in a time that depends on neither content nor the length of the right secret: digests have one length, and
/// every byte is looked at.
fn is_same_secret(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest(&SHA256, a), digest(&SHA256, b));
    let difference = a.as_ref().iter().zip(b.as_ref()).fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authorization: Option<&str>) -> Result<String, &'static str> {
        let expected = BasicAuth { username: "admin".to_owned(), password: "s:cret".to_owned().into() };
        let mut headers = HeaderMap::new();
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        authenticate(&expected, &headers)
    }

    #[test]
    fn only_the_right_name_and_password_pass() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(check(None), Err("no auth header received"));
        assert_eq!(check(Some(&basic("admin:s:cret"))), Ok("admin".to_owned()));
        assert_eq!(check(Some(&basic("admin:s:cret").replace("Basic", "basic"))), Ok("admin".to_owned()));
        for wrong in [
            basic("admin:s:cre"),
            basic("admin:s:cret2"),
            basic("other:s:cret"),
            basic(""),
            "Basic ###".to_owned(),
            "Basic".to_owned(),
            basic("admin:s:cret").replace("Basic", "Bearer"),
        ] {
            assert_eq!(check(Some(&wrong)), Err("not authenticated"), "{wrong}");
        }
    }

    #[test]
    fn passwords_do_not_show_in_debug_output() {
        let auth = BasicAuth { username: "admin".to_owned(), password: "s3cret".to_owned().into() };
        assert!(!format!("{auth:?}").contains("s3cret"));
    }
}
