//! What every entry point wants, has and fails at, for whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bellwether_types::WallTime;
use serde::{Deserialize, Serialize};

/// All entry points of this member. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
}

/// One entry point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `vip` or `dns`.
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    /// What it is about: addresses with the interface that they belong to, or records.
    pub parts: Vec<Part>,
    /// Whether it should be with this member now.
    pub wanted: bool,
    /// Why, for people.
    pub because: String,
    /// Whether it is.
    pub held: bool,
    /// Unix time in milliseconds at which that changed.
    pub changed_at: Option<WallTime>,
    /// Members that have seen the address at its new place.
    pub confirmed_by: Vec<String>,
    pub last_error: Option<String>,
    pub last_error_at: Option<WallTime>,
    pub errors: u64,
}

/// A part of an entry point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// An address, or a record.
    pub what: String,
    /// The interface, or the server; empty if it has none here.
    pub place: String,
    pub state: String,
    /// The hardware address that was seen to answer for it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<String>,
    /// Our own hardware address there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_address: Option<String>,
}

impl Board {
    /// Replaces what is said about an entry point; counters and times of the one before go on.
    pub fn put(&self, entry: Entry, now: WallTime) {
        let mut entries = self.lock();
        let key = format!("{}/{}", entry.kind, entry.name);
        let present = entries.entry(key).or_default();
        let changed = present.held != entry.held;
        *present = Entry {
            changed_at: if changed { Some(now) } else { present.changed_at },
            last_error: present.last_error.take(),
            last_error_at: present.last_error_at,
            errors: present.errors,
            confirmed_by: if entry.held { std::mem::take(&mut present.confirmed_by) } else { Vec::new() },
            ..entry
        };
        if changed {
            present.confirmed_by.clear();
        }
    }

    /// Notes a failure. True: it is another one than the last.
    pub fn fail(&self, kind: &str, name: &str, why: &str, now: WallTime) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(format!("{kind}/{name}")).or_default();
        (entry.kind, entry.name) = (kind.to_owned(), name.to_owned());
        let is_new = entry.last_error.as_deref() != Some(why);
        entry.last_error = Some(why.to_owned());
        entry.last_error_at = Some(now);
        entry.errors += 1;
        is_new
    }

    /// It works again.
    pub fn clear_error(&self, kind: &str, name: &str) {
        if let Some(entry) = self.lock().get_mut(&format!("{kind}/{name}")) {
            entry.last_error = None;
        }
    }

    /// A member has seen it at its new place.
    pub fn confirm(&self, kind: &str, name: &str, member: &str) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&format!("{kind}/{name}")) else { return false };
        let is_new = entry.held && !entry.confirmed_by.iter().any(|known| known == member);
        if is_new {
            entry.confirmed_by.push(member.to_owned());
        }
        is_new
    }

    /// Forgets entries of this kind that are not named here.
    pub fn keep(&self, kind: &str, names: &[&str]) {
        self.lock().retain(|_, entry| entry.kind != kind || names.contains(&entry.name.as_str()));
    }

    /// All of them, by type and name.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CLOCK_REALTIME, for people.
pub(crate) fn wall() -> WallTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    WallTime::from_unix_millis(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_times_outlive_a_new_picture() {
        let (board, at) = (Board::default(), WallTime::from_unix_millis);
        let entry = |held| Entry { kind: "vip".into(), name: "a".into(), held, ..Entry::default() };
        board.put(entry(true), at(5));
        assert!(board.fail("vip", "a", "no", at(6)));
        assert!(!board.fail("vip", "a", "no", at(7)), "the same again");
        assert!(board.confirm("vip", "a", "b"));
        board.put(entry(true), at(8));
        let seen = &board.entries()[0];
        assert_eq!((seen.changed_at, seen.errors), (Some(at(5)), 2));
        assert_eq!(seen.confirmed_by, ["b"]);
        board.put(entry(false), at(9));
        assert_eq!(board.entries()[0].changed_at, Some(at(9)));
        assert!(board.entries()[0].confirmed_by.is_empty());
    }
}
