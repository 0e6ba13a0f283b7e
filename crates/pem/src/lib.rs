//! Private keys in PEM files, encrypted or not, and which certificates are trusted.
//!
//! The TLS library reads plain keys only. [`decrypted`] brings a file that was written with a password (`keyfile_password`) into
//! the form that it reads; nothing that is decrypted here touches a disk.
//!
//! [`trust`] accepts what OpenSSL does where a file names the authorities.
//!
//! Deliberately not here: the old encryption of OpenSSL (`Proc-Type: 4,ENCRYPTED`), which derives its key from
//! one round of MD5.

pub mod trust;

use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, SecretDocument, der::pem::PemLabel as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// Why a key cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error("it is encrypted, and no password is given")]
    NoPassword,
    #[error("the password does not fit, or the encryption is none that is supported (PBES2 with AES)")]
    NotDecrypted,
    #[error(
        "it is encrypted in OpenSSL's old form, which is not supported: bring it into the present one (`openssl pkcs8 -topk8 -v2 aes256 -in ... -out ...`)"
    )]
    OldForm,
    #[error("it begins like an encrypted key and is none")]
    Damaged,
}

/// The content of a PEM file with its encrypted private key, if it has one, in plain form.
pub fn decrypted(pem: Vec<u8>, password: Option<&SecretString>) -> Result<SecretSlice<u8>, KeyError> {
    let Ok(text) = std::str::from_utf8(&pem) else { return Ok(pem.into()) };
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::OldForm);
    }
    let Some(begin) = text.find(BEGIN) else { return Ok(pem.into()) };
    let end = text[begin..].find(END).ok_or(KeyError::Damaged)? + begin + END.len();
    let password = password.ok_or(KeyError::NoPassword)?;
    let (label, document) = SecretDocument::from_pem(&text[begin..end]).map_err(|_| KeyError::Damaged)?;
    EncryptedPrivateKeyInfo::validate_pem_label(label).map_err(|_| KeyError::Damaged)?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|_| KeyError::Damaged)?;
    let plain = encrypted.decrypt(password.expose_secret().as_bytes()).map_err(|_| KeyError::NotDecrypted)?;
    let plain = plain.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| KeyError::Damaged)?;
    let text = text.as_bytes();
    Ok([&text[..begin], plain.trim_end().as_bytes(), &text[end..]].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl pkcs8 -topk8 -v2 aes256 -passout pass:s3cret` from [`PLAIN`].
    const ENCRYPTED: &str = include_str!("testdata/encrypted.key");
    const PLAIN: &str = include_str!("testdata/plain.key");

    fn read(pem: &str, password: Option<&str>) -> Result<String, KeyError> {
        let password = password.map(SecretString::from);
        let read = decrypted(pem.as_bytes().to_vec(), password.as_ref())?;
        Ok(String::from_utf8(read.expose_secret().to_vec()).unwrap())
    }

    #[test]
    fn encrypted_keys_are_decrypted_where_they_stand() {
        let around =
            |key: &str| format!("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n{key}# end\n");
        assert_eq!(read(&around(ENCRYPTED), Some("s3cret")), Ok(around(PLAIN)));
        assert_eq!(read(&around(PLAIN), Some("s3cret")), Ok(around(PLAIN)), "a plain key needs no password");
    }

    #[test]
    fn what_cannot_be_decrypted_says_why() {
        let cut = &ENCRYPTED[..200];
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        for (pem, password, expected) in [
            (ENCRYPTED, None, KeyError::NoPassword),
            (ENCRYPTED, Some("s3cre"), KeyError::NotDecrypted),
            (ENCRYPTED, Some(""), KeyError::NotDecrypted),
            (cut, Some("s3cret"), KeyError::Damaged),
            (old, Some("s3cret"), KeyError::OldForm),
        ] {
            assert_eq!(read(pem, password), Err(expected), "{password:?}");
        }
    }
}
