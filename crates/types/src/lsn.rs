//! Log sequence numbers.

use std::{fmt, ops::Sub, str::FromStr};

use serde::{Deserialize, Serialize};

/// A position in the write-ahead log, in bytes. Text form is PostgreSQL's `X/Y`; JSON and store form is the decimal number.
///
/// Ordered, because positions *on one timeline* are. Across timelines use [`crate::TimelineHistory::place`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

/// A text that is not an LSN in the form `X/Y`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a WAL position (expected the form 16/B374D848)")]
pub struct InvalidLsn(pub String);

impl Lsn {
    pub const ZERO: Lsn = Lsn(0);

    /// How many bytes `self` is ahead of `other`; zero if it is not.
    pub fn bytes_ahead_of(self, other: Lsn) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl Sub for Lsn {
    type Output = u64;
    /// Distance in bytes, saturating at zero.
    fn sub(self, other: Lsn) -> u64 {
        self.bytes_ahead_of(other)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Lsn {
    type Err = InvalidLsn;
    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let parse = || {
            let (high, low) = text.trim().split_once('/')?;
            let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
            Some(Lsn(u64::from(high) << 32 | u64::from(low)))
        };
        parse().ok_or_else(|| InvalidLsn(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_form_round_trips(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse::<Lsn>().unwrap(), Lsn(value));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "0", "0/", "/0", "G/0", "0/100000000", "-1/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?}");
        }
    }
}
