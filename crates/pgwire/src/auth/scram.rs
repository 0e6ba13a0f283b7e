//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it.
//!
//! What a server keeps ([`Verifier`]) holds StoredKey and ServerKey, not the password. The proof of a client is its ClientKey, masked
//! with a signature that StoredKey and the exchange determine; whoever knows StoredKey can unmask it ([`server`]). With that
//! ClientKey and the ServerKey, [`client`] logs in to every server that keeps the same verifier, as all members of a cluster do.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use subtle::ConstantTimeEq as _;

pub mod client;
pub mod server;

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// PostgreSQL's default, also of what is made up for unknown users.
pub const ITERATIONS: u32 = 4096;

/// No server may keep us busy for longer: a second of work at most.
const MOST_ITERATIONS: u32 = 1_000_000;

/// One of SCRAM's keys. Not shown by `Debug`, compared in constant time.
#[derive(Clone)]
pub struct Key(pub [u8; 32]);

impl Key {
    fn mac(&self, data: &[u8]) -> Key {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), data);
        Key::from_slice(tag.as_ref()).expect("HMAC-SHA-256 has 32 bytes")
    }

    fn hash(&self) -> Key {
        Key::from_slice(digest::digest(&digest::SHA256, &self.0).as_ref()).expect("SHA-256 has 32 bytes")
    }

    fn xor(&self, other: &Key) -> Key {
        let mut bytes = self.0;
        bytes.iter_mut().zip(other.0).for_each(|(byte, mask)| *byte ^= mask);
        Key(bytes)
    }

    fn from_slice(bytes: &[u8]) -> Option<Key> {
        Some(Key(bytes.try_into().ok()?))
    }

    fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    fn from_base64(text: &str) -> Option<Key> {
        Key::from_slice(&STANDARD.decode(text).ok()?)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a server keeps instead of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: NonZeroU32,
    pub salt: Vec<u8>,
    pub stored_key: Key,
    pub server_key: Key,
}

impl Verifier {
    /// Reads PostgreSQL's form; `None` if it is another.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Verifier {
            iterations: iterations.parse().ok()?,
            salt,
            stored_key: Key::from_base64(stored_key)?,
            server_key: Key::from_base64(server_key)?,
        })
    }

    /// The verifier of a password.
    pub fn of_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Verifier {
        let salted = salted_password(password, salt, iterations);
        Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: salted.mac(b"Client Key").hash(),
            server_key: salted.mac(b"Server Key"),
        }
    }

    /// One that no password fits, for a user who has none. It is the same in each attempt, as a real one would be: who tries a
    /// name twice must not learn whether it exists. `seed` is a secret of this proxy, the same for as long as it lives.
    pub fn mock(user: &str, seed: &[u8; 32]) -> Verifier {
        let key = |label: &str| Key(*seed).mac(format!("{label}:{user}").as_bytes());
        Verifier {
            iterations: NonZeroU32::new(ITERATIONS).expect("not zero"),
            salt: mock_salt(user, seed).to_vec(),
            stored_key: key("stored"),
            server_key: key("server"),
        }
    }
}

/// The salt for a user without a verifier: as long as PostgreSQL's own.
pub(super) fn mock_salt(user: &str, seed: &[u8; 32]) -> [u8; 16] {
    let mac = Key(*seed).mac(format!("salt:{user}").as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&mac.0[..16]);
    salt
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (salt, stored, server) =
            (STANDARD.encode(&self.salt), self.stored_key.base64(), self.server_key.base64());
        write!(f, "{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// What logs in to a server without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub client_key: Key,
    pub server_key: Key,
    pub salt: Vec<u8>,
    pub iterations: NonZeroU32,
}

impl Keys {
    /// The keys of a password, for a server that has told its salt and iterations.
    fn of_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Keys {
        let salted = salted_password(password, salt, iterations);
        let (client_key, server_key) = (salted.mac(b"Client Key"), salted.mac(b"Server Key"));
        Keys { client_key, server_key, salt: salt.to_vec(), iterations }
    }
}

/// PostgreSQL prepares a password as SASL demands where that is possible, and takes its bytes where it is not.
fn salted_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Key {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    let password = prepared.as_ref().map_or(password, |text| text.as_bytes());
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
    Key(salted)
}

/// What went wrong in an exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramError {
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    #[error("the client asks for channel binding, which a proxy that ends TLS cannot offer")]
    ChannelBinding,
    #[error("the client uses an authorization identity, which is not supported")]
    AuthorizationIdentity,
    #[error("the password does not fit")]
    WrongPassword,
    #[error("the server wants {0} iterations, which is more than {MOST_ITERATIONS}")]
    TooManyIterations(u32),
    #[error(
        "the server keeps another verifier of this user than the one that the client was checked against: it must be read again"
    )]
    StaleKeys,
    #[error("the server did not prove that it knows the user's verifier")]
    Impostor,
    #[error("the server refused the exchange: {0}")]
    Refused(String),
}

/// The value of the attribute `name`, which must come next, and the text behind it.
fn attribute(text: &str, name: char) -> Option<(&str, &str)> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    Some(value.split_once(',').unwrap_or((value, "")))
}

/// A nonce: printable, without a comma.
fn nonce(random: &super::Random) -> String {
    STANDARD.encode(random.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of RFC 7677, section 3.
    pub(super) const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    pub(super) fn rfc_verifier() -> Verifier {
        let salt = STANDARD.decode(SALT).unwrap();
        Verifier::of_password(b"pencil", &salt, NonZeroU32::new(4096).unwrap())
    }

    #[test]
    fn a_verifier_survives_writing_and_reading() {
        let verifier = rfc_verifier();
        let text = verifier.to_string();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert_eq!(Verifier::parse(&text), Some(verifier));
    }

    #[test]
    fn what_is_no_verifier_is_not_taken_for_one() {
        let good = rfc_verifier().to_string();
        for bad in [
            "",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$a:b",
            &good.replace("SHA-256", "SHA-1"),
            &good.replace("4096", "many"),
            &good[..good.len() - 4],
            &good.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        ] {
            assert_eq!(Verifier::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_made_up_for_a_user_stays_the_same_and_differs_between_users() {
        let seed = [7; 32];
        assert_eq!(Verifier::mock("alice", &seed), Verifier::mock("alice", &seed));
        assert_ne!(Verifier::mock("alice", &seed).salt, Verifier::mock("bob", &seed).salt);
        assert_ne!(Verifier::mock("alice", &seed).salt, Verifier::mock("alice", &[8; 32]).salt);
        assert_eq!(Verifier::mock("alice", &seed).salt.len(), 16, "as long as PostgreSQL's");
    }

    #[test]
    fn keys_do_not_show() {
        let shown = format!("{:?}", rfc_verifier());
        assert!(!shown.contains("WG5d8o") && shown.contains("Key(..)"), "{shown}");
    }
}
