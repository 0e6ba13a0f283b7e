//! Names of clusters and members.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name that stands in `synchronous_standby_names` when strict synchronous mode has no standby; nobody may bear it.
pub const PLACEHOLDER: &str = "__patroni_strict_sync_replica_placeholder__";

/// Why a text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name must not be empty")]
    Empty,
    #[error("`{0}` must not contain `/`, control characters or surrounding blanks")]
    Characters(String),
    #[error("'name' can't be set to '{PLACEHOLDER}'")]
    Placeholder,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text: not empty, no `/` (names are path segments in the store), no control characters.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                if text.is_empty() {
                    return Err(InvalidName::Empty);
                }
                if text == PLACEHOLDER {
                    return Err(InvalidName::Placeholder);
                }
                if text.contains('/') || text.chars().any(char::is_control) || text.trim() != text {
                    return Err(InvalidName::Characters(text));
                }
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// One member: an agent with its PostgreSQL. Compares case-sensitively; see [`MemberName::same_standby`].
    MemberName
}
name! {
    /// The cluster (`scope`).
    ClusterName
}

impl MemberName {
    /// Whether both names mean the same standby to PostgreSQL, which folds case in `synchronous_standby_names`.
    pub fn same_standby(&self, other: &MemberName) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// The replication slot that belongs to this member: lower case, `-` and `.` become `_`, anything else outside
    /// `[a-z0-9_]` becomes `u` and its code point in at least four digits, cut at 63 characters.
    pub fn slot_name(&self) -> String {
        let mut slot = String::with_capacity(self.0.len());
        for c in self.0.to_lowercase().chars() {
            match c {
                'a'..='z' | '0'..='9' | '_' => slot.push(c),
                '-' | '.' => slot.push('_'),
                other => slot.push_str(&format!("u{:04}", other as u32)),
            }
        }
        slot.truncate(63);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_path_segments() {
        for bad in ["", "a/b", " a", "a\n", PLACEHOLDER] {
            assert!(MemberName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(MemberName::new("pg-1").unwrap().as_str(), "pg-1");
    }

    #[test]
    fn slot_names_keep_only_what_postgresql_allows() {
        for (name, slot) in [("pg-1.Example", "pg_1_example"), ("a b", "au0032b"), ("x_9", "x_9")] {
            assert_eq!(MemberName::new(name).unwrap().slot_name(), slot);
        }
        assert_eq!(MemberName::new("x".repeat(80)).unwrap().slot_name().len(), 63);
    }

    #[test]
    fn standbys_compare_without_case() {
        let (a, b) = (MemberName::new("PG1").unwrap(), MemberName::new("pg1").unwrap());
        assert!(a.same_standby(&b) && a != b);
    }
}
