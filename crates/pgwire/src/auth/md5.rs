//! The old method: `md5` of password and name, and that again with a salt.
//!
//! Kept for clients and secrets from before PostgreSQL 14. What is stored opens the account as the password does.

use ::md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "md5";

/// What `pg_authid` keeps: 32 hexadecimal digits, without their prefix `md5`. Not shown by `Debug`.
#[derive(Clone)]
pub struct Md5Hash(String);

impl Md5Hash {
    /// Reads `md5` and 32 hexadecimal digits; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Md5Hash> {
        let digits = text.strip_prefix(PREFIX)?;
        let all_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        all_hex.then(|| Md5Hash(digits.to_ascii_lowercase()))
    }

    pub fn of_password(password: &[u8], user: &str) -> Md5Hash {
        Md5Hash(hash(password, user.as_bytes()))
    }

    /// What a client answers to a server that has sent `salt`.
    pub fn response(&self, salt: [u8; 4]) -> String {
        format!("{PREFIX}{}", hash(self.0.as_bytes(), &salt))
    }

    /// Whether `answer` is the response to `salt`, in a time that does not depend on how much of it fits.
    pub fn fits(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        self.response(salt).as_bytes().ct_eq(answer).into()
    }
}

impl PartialEq for Md5Hash {
    fn eq(&self, other: &Md5Hash) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Md5Hash {}

impl std::fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5Hash(..)")
    }
}

fn hash(text: &[u8], salt: &[u8]) -> String {
    let mut hash = Md5::new();
    hash.update(text);
    hash.update(salt);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postgresql_stores_and_sends_it() {
        // SELECT md5('secret' || 'alice'), and that again with the bytes 1, 2, 3, 4.
        let hash = Md5Hash::of_password(b"secret", "alice");
        assert_eq!(Some(&hash), Md5Hash::parse("md54a0a68b43b6cd5cf266fa02f196e2371").as_ref());
        assert_eq!(hash.response([1, 2, 3, 4]), "md598a0412b9c31436fc53776e863350083");
        assert!(hash.fits([1, 2, 3, 4], hash.response([1, 2, 3, 4]).as_bytes()));
        assert!(!hash.fits([1, 2, 3, 5], hash.response([1, 2, 3, 4]).as_bytes()));
        assert!(!hash.fits([1, 2, 3, 4], b"md5"));
    }

    #[test]
    fn what_is_no_hash_is_not_taken_for_one() {
        for bad in
            ["md5", "md5zz", "MD50123456789abcdef0123456789abcdef", "md50123456789abcdef0123456789abcdeg"]
        {
            assert_eq!(Md5Hash::parse(bad), None, "{bad}");
        }
        assert!(Md5Hash::parse("md50123456789ABCDEF0123456789abcdef").is_some());
    }
}
