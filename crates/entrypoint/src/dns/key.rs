//! Keys that a server and we both know, in files as `tsig-keygen` writes them.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hickory_proto::rr::{Name, TSigner, rdata::tsig::TsigAlgorithm};

/// How far apart our clock and the server's may be, in seconds.
const FUDGE: u16 = 300;

/// Why a key cannot be used; what to do is in the words.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "{path} cannot be read: {cause}; make it with `tsig-keygen NAME` and let the agent's account read it"
    )]
    Unreadable { path: String, cause: io::Error },
    #[error("{path} may be read by everybody; run `chmod 0600 {path}`")]
    Open { path: String },
    #[error("{path} holds no key: {why}; make it with `tsig-keygen NAME`")]
    Malformed { path: String, why: &'static str },
    #[error(
        "the key in {path} is for {algorithm}, which is too weak or not built in; make one with `tsig-keygen -a hmac-sha256 NAME`"
    )]
    Algorithm { path: String, algorithm: String },
}

/// A key as it was written.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    name: String,
    algorithm: String,
    secret: String,
}

/// Reads the file and makes what signs with it.
pub fn signer(path: &Path) -> Result<TSigner, KeyError> {
    let shown = || path.display().to_string();
    let unreadable = |cause| KeyError::Unreadable { path: shown(), cause };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(KeyError::Open { path: shown() });
    }
    let malformed = |why| KeyError::Malformed { path: shown(), why };
    let written = parse(&text)
        .ok_or_else(|| malformed("expected `key \"NAME\" { algorithm ...; secret \"...\"; };`"))?;
    let algorithm = match written.algorithm.trim_end_matches('.') {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        other => return Err(KeyError::Algorithm { path: shown(), algorithm: other.to_owned() }),
    };
    let secret =
        BASE64_STANDARD.decode(&written.secret).map_err(|_| malformed("the secret is not in base 64"))?;
    let name = Name::from_ascii(&written.name).map_err(|_| malformed("the name is none that DNS knows"))?;
    TSigner::new(secret, algorithm, name, FUDGE)
        .map_err(|_| KeyError::Algorithm { path: shown(), algorithm: written.algorithm })
}

/// `key "NAME" { algorithm A; secret "S"; };`, or `A:NAME:S`.
fn parse(text: &str) -> Option<Written> {
    if let Some((algorithm, rest)) = text.trim().split_once(':')
        && let Some((name, secret)) = rest.split_once(':')
        && !text.contains('{')
    {
        return Some(Written { name: name.into(), algorithm: algorithm.into(), secret: secret.into() });
    }
    let words = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().split('#').next().unwrap_or_default());
    let text = words.collect::<Vec<_>>().join(" ");
    let spaced = text.replace('{', " { ").replace('}', " } ").replace(';', " ; ").replace('"', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|known| *known == word).and_then(|at| words.get(at + 1));
    Some(Written {
        name: (*after("key")?).to_owned(),
        algorithm: after("algorithm")?.to_ascii_lowercase(),
        secret: (*after("secret")?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, String, String)> {
        parse(text).map(|key| (key.name, key.algorithm, key.secret))
    }

    #[test]
    fn both_forms_of_a_key_are_read() {
        let expected = Some(("k.z".into(), "hmac-sha256".into(), "AAAA".into()));
        for text in [
            "key \"k.z\" {\n\talgorithm hmac-sha256;\n\tsecret \"AAAA\";\n};\n",
            "# made by hand\nkey k.z{algorithm HMAC-SHA256;secret \"AAAA\";}; // yes",
            "hmac-sha256:k.z:AAAA\n",
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(of("AAAA"), None);
    }

    #[test]
    fn a_key_for_everybody_is_refused_and_none_is_ever_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "hmac-md5:k.z:c2VjcmV0").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let told = |path: &Path| signer(path).err().map(|error| error.to_string()).unwrap();
        assert!(told(&path).contains("chmod 0600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(told(&path).contains("hmac-md5") && !told(&path).contains("c2VjcmV0"), "{}", told(&path));
        fs::write(&path, "hmac-sha256:k.z:c2VjcmV0").unwrap();
        assert!(signer(&path).is_ok());
        assert!(told(&dir.path().join("none")).contains("cannot be read"));
    }
}
