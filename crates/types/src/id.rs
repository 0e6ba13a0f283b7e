//! Identifiers and counters that the store or PostgreSQL hand out.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The version of one key in the store, or of the whole store: only equality and order have a meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A leadership number: the revision at which the present leader key was created. A new leader has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A lease (session) in the store. Keys attached to it vanish with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// PostgreSQL's "Database system identifier". Stored as decimal text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(u64);

/// A text that is no system identifier: it must be all digits and at least ten characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a database system identifier (at least ten digits)")]
pub struct InvalidSystemId(pub String);

impl FromStr for SystemId {
    type Err = InvalidSystemId;
    fn from_str(text: &str) -> Result<Self, InvalidSystemId> {
        let valid = text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if valid => Ok(SystemId(number)),
            _ => Err(InvalidSystemId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SystemId {
    type Error = InvalidSystemId;
    fn try_from(text: String) -> Result<Self, InvalidSystemId> {
        text.parse()
    }
}

impl From<SystemId> for String {
    fn from(id: SystemId) -> String {
        id.to_string()
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

impl fmt::Debug for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_id_is_at_least_ten_digits() {
        assert_eq!("7421833905512378144".parse::<SystemId>().unwrap().to_string(), "7421833905512378144");
        for bad in ["", "123", "742183390551237814x", "-7421833905"] {
            assert!(bad.parse::<SystemId>().is_err(), "{bad:?}");
        }
    }
}
