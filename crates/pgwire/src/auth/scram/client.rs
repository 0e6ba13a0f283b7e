//! The client's side: the proxy logs in to a server.

use super::{Key, Keys, MOST_ITERATIONS, ScramError, attribute, nonce};
use crate::auth::Random;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use std::num::NonZeroU32;

/// The header of a client that does not bind channels, and the same in base64.
const HEADER: &str = "n,,";
const HEADER_IN_BASE64: &str = "biws";

/// What the client logs in with.
#[derive(Clone, Debug)]
pub enum Credential {
    Password(SecretString),
    /// Of a client that proved itself against the same verifier.
    Keys(Keys),
}

/// An exchange that has sent its first message.
#[derive(Debug)]
pub struct Client {
    credential: Credential,
    nonce: String,
}

/// An exchange that has sent its proof and waits for the server's.
#[derive(Debug)]
pub struct Proving {
    signature: Key,
}

impl Client {
    /// Begins; also gives the first message. The user's name stays empty: PostgreSQL ignores it.
    pub fn begin(credential: Credential, random: &Random) -> (Client, String) {
        let nonce = nonce(random);
        let first = format!("{HEADER}n=,r={nonce}");
        (Client { credential, nonce }, first)
    }

    /// Takes the server's challenge; says what to answer.
    pub fn answer(self, server_first: &[u8]) -> Result<(Proving, String), ScramError> {
        let server_first =
            std::str::from_utf8(server_first).map_err(|_| ScramError::Malformed("not UTF-8"))?;
        let (whole_nonce, rest) = attribute(server_first, 'r').ok_or(ScramError::Malformed("no nonce"))?;
        let (salt, rest) = attribute(rest, 's').ok_or(ScramError::Malformed("no salt"))?;
        let (iterations, _) = attribute(rest, 'i').ok_or(ScramError::Malformed("no iterations"))?;
        if !whole_nonce.starts_with(&self.nonce) || whole_nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed("a nonce that is not built on ours"));
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed("a salt that is none"))?;
        let iterations: NonZeroU32 =
            iterations.parse().map_err(|_| ScramError::Malformed("iterations that are none"))?;
        let keys = self.keys(&salt, iterations)?;
        let without_proof = format!("c={HEADER_IN_BASE64},r={whole_nonce}");
        let exchange = format!("n=,r={},{server_first},{without_proof}", self.nonce);
        let proof = keys.client_key.xor(&keys.client_key.hash().mac(exchange.as_bytes()));
        let proving = Proving { signature: keys.server_key.mac(exchange.as_bytes()) };
        Ok((proving, format!("{without_proof},p={}", proof.base64())))
    }

    fn keys(&self, salt: &[u8], iterations: NonZeroU32) -> Result<Keys, ScramError> {
        match &self.credential {
            Credential::Keys(keys) if keys.salt == salt && keys.iterations == iterations => Ok(keys.clone()),
            Credential::Keys(_) => Err(ScramError::StaleKeys),
            Credential::Password(_) if iterations.get() > MOST_ITERATIONS => {
                Err(ScramError::TooManyIterations(iterations.get()))
            }
            Credential::Password(password) => {
                Ok(Keys::of_password(password.expose_secret().as_bytes(), salt, iterations))
            }
        }
    }
}

impl Proving {
    /// Takes the server's last message: has it proved that it knows the verifier?
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).map_err(|_| ScramError::Malformed("not UTF-8"))?;
        if let Some((reason, _)) = attribute(text, 'e') {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let (signature, _) = attribute(text, 'v').ok_or(ScramError::Malformed("no signature"))?;
        let signature =
            Key::from_base64(signature).ok_or(ScramError::Malformed("a signature that is none"))?;
        if signature == self.signature { Ok(()) } else { Err(ScramError::Impostor) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::{Chance, Server};
    use super::super::tests::rfc_verifier;
    use super::*;

    fn random(byte: u8) -> Random {
        Random([byte; 18])
    }

    /// A whole exchange with our own server's side: the client's verdict of it, and the keys that the server got.
    fn exchange(credential: Credential) -> Result<Keys, ScramError> {
        let server = Server::new(rfc_verifier(), Chance::Real, &random(1));
        let (client, first) = Client::begin(credential, &random(2));
        let (challenged, server_first) = server.challenge(first.as_bytes())?;
        let (proving, last) = client.answer(server_first.as_bytes())?;
        let proved = challenged.prove(last.as_bytes())?;
        proving.finish(proved.server_final.as_bytes())?;
        Ok(proved.keys)
    }

    #[test]
    fn the_keys_of_one_exchange_open_the_next() {
        let keys = exchange(Credential::Password("pencil".into())).unwrap();
        let again = exchange(Credential::Keys(keys.clone())).unwrap();
        assert_eq!(keys, again);
        assert_eq!(exchange(Credential::Password("pen".into())), Err(ScramError::WrongPassword));
    }

    #[test]
    fn keys_of_another_verifier_are_stale() {
        let mut keys = exchange(Credential::Password("pencil".into())).unwrap();
        keys.salt[0] ^= 1;
        assert_eq!(exchange(Credential::Keys(keys)), Err(ScramError::StaleKeys));
    }

    #[test]
    fn a_server_that_does_not_know_the_verifier_is_told_apart() {
        let (client, first) = Client::begin(Credential::Password("pencil".into()), &random(2));
        let server = Server::new(rfc_verifier(), Chance::Real, &random(1));
        let (_, server_first) = server.challenge(first.as_bytes()).unwrap();
        let (proving, _) = client.answer(server_first.as_bytes()).unwrap();
        let forged = format!("v={}", Key([9; 32]).base64());
        assert_eq!(proving.finish(forged.as_bytes()), Err(ScramError::Impostor));
    }

    #[test]
    fn what_a_hostile_server_may_say() {
        let answer = |server_first: &str| {
            let (client, _) = Client::begin(Credential::Password("pencil".into()), &random(2));
            client.answer(server_first.as_bytes()).unwrap_err()
        };
        let ours = nonce(&random(2));
        assert_eq!(
            answer(&format!("r={ours}x,s=AAAA,i=4000000000")),
            ScramError::TooManyIterations(4_000_000_000)
        );
        for malformed in [
            "".into(),
            "r=foreign,s=AAAA,i=1".into(),
            format!("r={ours},s=AAAA,i=1"),
            format!("r={ours}x,s=?,i=1"),
            format!("r={ours}x,s=AAAA,i=0"),
        ] {
            assert!(matches!(answer(&malformed), ScramError::Malformed(_)), "{malformed}");
        }
    }
}
