//! Which keys carry a secret, and what is shown in its place.

/// What stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// Whether nobody should read the value of this key: passwords, tokens, and what carries them.
pub fn is_secret(key: &str) -> bool {
    matches!(
        key,
        "password" | "sslpassword" | "keyfile_password" | "key_password" | "token" | "auth_data" | "auth"
    )
}
