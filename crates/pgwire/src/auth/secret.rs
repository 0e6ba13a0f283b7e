//! What is known of a user's password.

use super::md5::Md5Hash;
use super::scram::{ITERATIONS, Verifier, mock_salt};
use secrecy::{ExposeSecret as _, SecretString};
use std::num::NonZeroU32;
use std::sync::OnceLock;

/// As it stands in `pg_authid.rolpassword` or in `userlist.txt`.
#[derive(Clone, Debug)]
pub enum Secret {
    Scram(Verifier),
    Md5(Md5Hash),
    Plain(Plain),
}

/// A password, and its verifier once somebody has asked for it.
#[derive(Clone, Debug)]
pub struct Plain {
    password: SecretString,
    verifier: OnceLock<Verifier>,
}

/// A secret that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    #[error(
        "it begins like a SCRAM verifier and is none (SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey)"
    )]
    DamagedVerifier,
    #[error("it is empty: no password opens such an account")]
    Empty,
}

impl Secret {
    /// Tells by its form what it is, as PostgreSQL does. A damaged verifier is not taken for a password.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.starts_with("SCRAM-SHA-256$") {
            return Verifier::parse(text).map(Secret::Scram).ok_or(SecretError::DamagedVerifier);
        }
        Ok(match Md5Hash::parse(text) {
            Some(hash) => Secret::Md5(hash),
            None => Secret::Plain(Plain { password: text.into(), verifier: OnceLock::new() }),
        })
    }

    /// Whether `password` is the user's.
    pub(super) fn opens_to(&self, user: &str, password: &[u8]) -> bool {
        match self {
            Secret::Scram(verifier) => {
                Verifier::of_password(password, &verifier.salt, verifier.iterations) == *verifier
            }
            Secret::Md5(hash) => Md5Hash::of_password(password, user) == *hash,
            Secret::Plain(plain) => {
                // Compared as hashes, whose length and time are the same for all passwords.
                Md5Hash::of_password(password, user)
                    == Md5Hash::of_password(plain.password.expose_secret().as_bytes(), user)
                    && subtle::ConstantTimeEq::ct_eq(plain.password.expose_secret().as_bytes(), password)
                        .into()
            }
        }
    }
}

impl Plain {
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// Derived once, with the salt that an unknown user of this name would be shown.
    pub(super) fn verifier(&self, user: &str, seed: &[u8; 32]) -> &Verifier {
        self.verifier.get_or_init(|| {
            let iterations = NonZeroU32::new(ITERATIONS).expect("not zero");
            Verifier::of_password(
                self.password.expose_secret().as_bytes(),
                &mock_salt(user, seed),
                iterations,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_by_its_form() {
        let verifier = Verifier::of_password(b"secret", b"salt", NonZeroU32::MIN).to_string();
        assert!(matches!(Secret::parse(&verifier), Ok(Secret::Scram(_))));
        assert!(matches!(Secret::parse("md54a0a68b43b6cd5cf266fa02f196e2371"), Ok(Secret::Md5(_))));
        assert!(matches!(Secret::parse("md5 is old"), Ok(Secret::Plain(_))));
        assert_eq!(Secret::parse(&verifier[..40]).unwrap_err(), SecretError::DamagedVerifier);
        assert_eq!(Secret::parse("").unwrap_err(), SecretError::Empty);
    }

    #[test]
    fn each_form_knows_the_password_and_no_other() {
        let verifier = Verifier::of_password(b"secret", b"salt", NonZeroU32::MIN).to_string();
        for text in [&verifier, "md54a0a68b43b6cd5cf266fa02f196e2371", "secret"] {
            let secret = Secret::parse(text).unwrap();
            assert!(secret.opens_to("alice", b"secret"), "{text}");
            assert!(!secret.opens_to("alice", b"secre"), "{text}");
            assert!(!secret.opens_to("alice", b""), "{text}");
        }
    }

    #[test]
    fn a_password_does_not_show() {
        assert!(!format!("{:?}", Secret::parse("hunter2").unwrap()).contains("hunter2"));
    }
}
