//! Keys of the document one by one, and what is wrong with them.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::value::{int_with_unit, lenient_bool, plain_int};

/// Thirty years, in seconds: sums of such durations cannot overflow.
pub(super) const LONGEST: u64 = 1_000_000_000;

/// Reads keys of the document and remembers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) reasons: Vec<String>,
    pub(super) messages: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A null is as good as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn refuse(&mut self, key: &str, reason: &str, value: &Value) {
        self.reasons.push(format!("{key}: {reason} (found `{value}`)"));
    }

    /// A value that is not understood, and counts as not set.
    pub(super) fn told_wrong(&mut self, key: &str, expected: &str, value: &Value) {
        self.messages.push(format!("{key}: expects {expected}, and counts as not set (found `{value}`)"));
    }

    /// What is no number counts as not set, as in Patroni: one such value must not keep a member from following the rest.
    pub(super) fn int(&mut self, key: &str, default: i64) -> i64 {
        let Some(value) = self.get(key) else { return default };
        int_with_unit(value, None).unwrap_or_else(|| {
            self.messages.push(format!(
                "{key}: expects a whole number without unit, and counts as {default} (found `{value}`)"
            ));
            default
        })
    }

    /// Not negative.
    pub(super) fn count(&mut self, key: &str, default: u64) -> u64 {
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        u64::try_from(self.int(key, default)).unwrap_or(0)
    }

    pub(super) fn seconds(&mut self, key: &str, default: Duration) -> Duration {
        Duration::from_secs(self.count(key, default.as_secs()).min(LONGEST))
    }

    /// One of the three that the lease hangs on: without a number the document is refused.
    pub(super) fn timing(&mut self, key: &str, default: Duration) -> Duration {
        let Some(value) = self.get(key) else { return default };
        let Some(seconds) = plain_int(value) else {
            self.refuse(key, "expects a whole number without unit", value);
            return default;
        };
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LONGEST))
    }

    /// Whether a key is set to a true value; what is neither true nor false counts as not set.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(lenient_bool).unwrap_or(false)
    }
}
