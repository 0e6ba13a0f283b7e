//! The server's side: is this the user?

use super::{Key, Keys, ScramError, Verifier, attribute, nonce};
use crate::auth::Random;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Whether the verifier is a user's, or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// The right password opens.
    Real,
    /// Nothing opens: the exchange only looks like every other.
    Doomed,
}

/// An exchange with one client.
#[derive(Debug)]
pub struct Server {
    verifier: Verifier,
    chance: Chance,
    nonce: String,
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub struct Challenged {
    server: Server,
    /// The header that the client must repeat (`n,,` or `y,,`), in base64.
    binding: String,
    client_first_bare: String,
    server_first: String,
    whole_nonce: String,
}

/// A client that knew the password.
#[derive(Debug)]
pub struct Proved {
    /// What the client must be sent, so that it knows us.
    pub server_final: String,
    /// What logs in to the server as this user.
    pub keys: Keys,
}

impl Server {
    pub fn new(verifier: Verifier, chance: Chance, random: &Random) -> Server {
        Server { verifier, chance, nonce: nonce(random) }
    }

    /// Takes the client's first message; says what to answer.
    pub fn challenge(self, client_first: &[u8]) -> Result<(Challenged, String), ScramError> {
        let text = text(client_first)?;
        let (header, bare) = header(text)?;
        // The name in it is ignored, as by PostgreSQL: the one in the startup message counts.
        let (_, rest) = attribute(bare, 'n').ok_or(ScramError::Malformed("no user name"))?;
        let (client_nonce, _) = attribute(rest, 'r').ok_or(ScramError::Malformed("no nonce"))?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(ScramError::Malformed("a nonce that is not printable"));
        }
        let whole_nonce = format!("{client_nonce}{}", self.nonce);
        let server_first = format!(
            "r={whole_nonce},s={},i={}",
            STANDARD.encode(&self.verifier.salt),
            self.verifier.iterations
        );
        let challenged = Challenged {
            binding: STANDARD.encode(header),
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
            whole_nonce,
            server: self,
        };
        Ok((challenged, server_first))
    }
}

impl Challenged {
    /// Takes the client's proof.
    pub fn prove(self, client_final: &[u8]) -> Result<Proved, ScramError> {
        let text = text(client_final)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof at its end"))?;
        let proof = Key::from_base64(proof).ok_or(ScramError::Malformed("a proof that is none"))?;
        let (binding, rest) =
            attribute(without_proof, 'c').ok_or(ScramError::Malformed("no channel binding"))?;
        let (nonce, _) = attribute(rest, 'r').ok_or(ScramError::Malformed("no nonce"))?;
        if binding != self.binding {
            return Err(ScramError::Malformed("another channel binding than announced"));
        }
        if nonce != self.whole_nonce {
            return Err(ScramError::Malformed("another nonce than agreed"));
        }
        let exchange = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let verifier = self.server.verifier;
        let client_key = proof.xor(&verifier.stored_key.mac(exchange.as_bytes()));
        // Both are computed before either is looked at: the time must not tell which it was.
        let (fits, real) = (client_key.hash() == verifier.stored_key, self.server.chance == Chance::Real);
        if !(fits & real) {
            return Err(ScramError::WrongPassword);
        }
        let signature = verifier.server_key.mac(exchange.as_bytes());
        let Verifier { server_key, salt, iterations, .. } = verifier;
        Ok(Proved {
            server_final: format!("v={}", signature.base64()),
            keys: Keys { client_key, server_key, salt, iterations },
        })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Parts a first message into its header and what is signed.
fn header(text: &str) -> Result<(&str, &str), ScramError> {
    match text.as_bytes().first() {
        Some(b'n' | b'y') => {}
        Some(b'p') => return Err(ScramError::ChannelBinding),
        _ => return Err(ScramError::Malformed("no channel binding flag")),
    }
    match text.as_bytes().get(1..3) {
        Some(b",,") => {}
        Some(b",a") => return Err(ScramError::AuthorizationIdentity),
        _ => return Err(ScramError::Malformed("a header that is none")),
    }
    let (header, bare) = text.split_at(3);
    if bare.starts_with("m=") {
        return Err(ScramError::Malformed("a mandatory extension"));
    }
    Ok((header, bare))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rfc_verifier;
    use super::*;

    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn rfc_server(chance: Chance) -> Server {
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        Server { verifier: rfc_verifier(), chance, nonce }
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let (challenged, first) = rfc_server(Chance::Real).challenge(CLIENT_FIRST).unwrap();
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proved = challenged.prove(CLIENT_FINAL).unwrap();
        assert_eq!(proved.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(proved.keys.client_key.hash(), rfc_verifier().stored_key, "the ClientKey is recovered");
    }

    #[test]
    fn a_made_up_verifier_opens_to_nobody() {
        let (challenged, _) = rfc_server(Chance::Doomed).challenge(CLIENT_FIRST).unwrap();
        assert_eq!(challenged.prove(CLIENT_FINAL).unwrap_err(), ScramError::WrongPassword);
    }

    #[test]
    fn a_wrong_proof_is_a_wrong_password() {
        let (challenged, _) = rfc_server(Chance::Real).challenge(CLIENT_FIRST).unwrap();
        let wrong = String::from_utf8(CLIENT_FINAL.to_vec()).unwrap().replace("p=dHz", "p=eHz");
        assert_eq!(challenged.prove(wrong.as_bytes()).unwrap_err(), ScramError::WrongPassword);
    }

    #[test]
    fn a_changed_exchange_is_refused() {
        let text = String::from_utf8(CLIENT_FINAL.to_vec()).unwrap();
        for wrong in [
            text.replace("c=biws", "c=eSws"),
            text.replace("rOpr", "xOpr"),
            text.replace(",p=", ",q="),
            "".into(),
        ] {
            let (challenged, _) = rfc_server(Chance::Real).challenge(CLIENT_FIRST).unwrap();
            let error = challenged.prove(wrong.as_bytes()).unwrap_err();
            assert!(matches!(error, ScramError::Malformed(_)), "{wrong}: {error}");
        }
    }

    #[test]
    fn channel_binding_and_other_identities_are_refused() {
        let refuse = |first: &[u8]| rfc_server(Chance::Real).challenge(first).unwrap_err();
        assert_eq!(refuse(b"p=tls-server-end-point,,n=,r=abc"), ScramError::ChannelBinding);
        assert_eq!(refuse(b"n,a=other,n=,r=abc"), ScramError::AuthorizationIdentity);
        assert_eq!(refuse(b"n,,m=x,n=,r=abc"), ScramError::Malformed("a mandatory extension"));
        for malformed in
            [&b""[..], b"n", b"n,", b"n,,", b"n,,n=", b"n,,n=,r=", b"n,,n=,r=\x07", b"\xff,,n=,r=a"]
        {
            assert!(matches!(refuse(malformed), ScramError::Malformed(_)), "{malformed:?}");
        }
    }

    #[test]
    fn a_client_that_could_bind_and_sees_no_offer_is_served() {
        let (challenged, _) = rfc_server(Chance::Real).challenge(b"y,,n=,r=abc").unwrap();
        assert_eq!(challenged.binding, "eSws");
    }
}
