//! What a statement leaves behind in its session, found in its text.
//!
//! A scanner, not a parser: it must never overlook something that the next client of a server would meet, and may err on the
//! other side, which costs the sharing of one server.

mod scan;

use self::scan::{Statements, Words};
use super::settings::Setting;

/// Why a client keeps its server for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    Listen,
    TemporaryTable,
    AdvisoryLock,
    Prepare,
    HoldCursor,
    /// Something is set in a way that cannot be repeated on another server.
    Setting,
    /// `LOAD` and the like.
    Other,
}

/// A change of what is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Set(Setting),
    /// By name, in lower case.
    Reset(String),
    ResetAll,
}

/// All that a text leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) pin: Option<Pin>,
    pub(crate) changes: Vec<Change>,
}

impl Effects {
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.pin.is_none() && self.changes.is_empty()
    }

    /// The effects of a text, which may hold several statements.
    pub(crate) fn of(sql: &[u8]) -> Self {
        let mut effects = Self::default();
        for statement in Statements::of(sql) {
            effects.add(statement);
        }
        effects
    }

    fn add(&mut self, statement: &[u8]) {
        let mut words = Words::of(statement);
        let mut first = [0_u8; 16];
        let pin = match words.next_lower(&mut first) {
            b"set" => self.set(words),
            b"reset" => self.reset(words),
            b"listen" => Some(Pin::Listen),
            b"load" => Some(Pin::Other),
            b"discard" => self.discard(words),
            // `PREPARE TRANSACTION` leaves nothing in the session.
            b"prepare" => (!words.next_is(b"transaction")).then_some(Pin::Prepare),
            b"declare" => scan::has_words(statement, &[b"with", b"hold"]).then_some(Pin::HoldCursor),
            b"create" if is_temporary(words) => Some(Pin::TemporaryTable),
            b"explain" if has_temporary(statement) => Some(Pin::TemporaryTable),
            // What a block of code does cannot be seen, as with functions; but it is often written to do such things.
            b"do" => hidden(statement),
            b"select" | b"with" | b"values" | b"call" | b"execute" | b"explain" | b"insert" | b"update"
            | b"delete" | b"merge" | b"fetch" | b"copy" | b"table" | b"create" | b"alter" => {
                hidden(statement)
            }
            _ => None,
        };
        self.pin = self.pin.or(pin);
    }

    fn set(&mut self, mut words: Words<'_>) -> Option<Pin> {
        let whole = words;
        if words.next_is(b"local")
            || whole.clone().next_is(b"transaction")
            || whole.clone().next_is(b"constraints")
        {
            return None;
        }
        let mut words = whole;
        if words.clone().next_is(b"session") {
            let mut after = words;
            after.next_is(b"session");
            if after.clone().next_is(b"authorization") {
                let setting = keyword_setting(
                    "session_authorization",
                    "SET SESSION AUTHORIZATION",
                    "RESET SESSION AUTHORIZATION",
                    {
                        after.next_is(b"authorization");
                        after.rest()
                    },
                );
                return self.record(setting);
            }
            if after.clone().next_is(b"characteristics") {
                return Some(Pin::Setting);
            }
            words = after;
        }
        if words.clone().next_is(b"role") {
            words.next_is(b"role");
            return self.record(keyword_setting("role", "SET ROLE", "RESET ROLE", words.rest()));
        }
        if words.clone().next_is(b"time") {
            words.next_is(b"time");
            words.next_is(b"zone");
            return self.record(keyword_setting(
                "timezone",
                "SET TIME ZONE",
                "RESET TIME ZONE",
                words.rest(),
            ));
        }
        if words.clone().next_is(b"names") {
            words.next_is(b"names");
            return self.record(keyword_setting(
                "client_encoding",
                "SET NAMES",
                "RESET client_encoding",
                words.rest(),
            ));
        }
        let setting = scan::assignment(words.rest()).and_then(|(name, value)| {
            let value = std::str::from_utf8(value).ok()?;
            let written = scan::written_name(&name);
            let (apply, reset) = (format!("SET {written} TO {value}"), format!("RESET {written}"));
            Some(Setting { name, apply, reset })
        });
        self.record(setting)
    }

    /// What cannot be repeated keeps its server.
    fn record(&mut self, setting: Option<Setting>) -> Option<Pin> {
        let Some(setting) = setting else { return Some(Pin::Setting) };
        self.changes.push(Change::Set(setting));
        None
    }

    fn reset(&mut self, words: Words<'_>) -> Option<Pin> {
        if words.clone().next_is(b"all") {
            self.changes.push(Change::ResetAll);
            return None;
        }
        let rest = words;
        let name = if rest.clone().next_is(b"time") {
            Some("timezone".to_owned())
        } else if rest.clone().next_is(b"session") {
            Some("session_authorization".to_owned())
        } else {
            scan::name(rest.rest()).map(|(name, _)| name)
        };
        match name {
            Some(name) => {
                self.changes.push(Change::Reset(name));
                None
            }
            None => Some(Pin::Setting),
        }
    }

    fn discard(&mut self, words: Words<'_>) -> Option<Pin> {
        if words.clone().next_is(b"all") {
            self.changes.push(Change::ResetAll);
        }
        None
    }
}

fn keyword_setting(name: &str, apply: &str, reset: &str, value: &[u8]) -> Option<Setting> {
    let value = std::str::from_utf8(value).ok()?.trim();
    (!value.is_empty()).then(|| Setting {
        name: name.into(),
        apply: format!("{apply} {value}"),
        reset: reset.into(),
    })
}

/// `CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP`.
fn is_temporary(words: Words<'_>) -> bool {
    let mut words = words;
    for _ in 0..4 {
        let mut word = [0_u8; 16];
        match words.next_lower(&mut word) {
            b"temp" | b"temporary" => return true,
            b"or" | b"replace" | b"global" | b"local" => {}
            _ => return false,
        }
    }
    false
}

/// `EXPLAIN ANALYZE CREATE TEMP TABLE ... AS`.
fn has_temporary(statement: &[u8]) -> bool {
    scan::has_words(statement, &[b"create", b"temp"])
        || scan::has_words(statement, &[b"create", b"temporary"])
}

/// Functions and clauses anywhere in a statement.
fn hidden(statement: &[u8]) -> Option<Pin> {
    // Each of them has an underscore or the word `temp`: most statements have neither.
    for (at, byte) in statement.iter().enumerate() {
        match byte {
            b'_' => {
                let (before, after) = (&statement[..at], &statement[at + 1..]);
                // Locks for a transaction end with it.
                if scan::starts_with(after, b"advisory_") && !scan::starts_with(&after[9..], b"xact") {
                    return Some(Pin::AdvisoryLock);
                }
                if scan::ends_with(before, b"set") && scan::starts_with(after, b"config") {
                    return Some(Pin::Setting);
                }
                // To read from there may make nothing, and costs no more than the sharing of one server.
                if scan::ends_with(before, b"pg") && scan::starts_with(after, b"temp") {
                    return Some(Pin::TemporaryTable);
                }
            }
            b't' | b'T' if scan::starts_with(&statement[at..], b"temp") => {
                let is_word = at > 0 && !scan::is_word_byte(statement[at - 1]);
                let after = &statement[at + 4..];
                let after = if scan::starts_with(after, b"orary") { &after[5..] } else { after };
                let ends = after.first().is_none_or(|byte| !scan::is_word_byte(*byte));
                if is_word && ends && scan::has_words(&statement[..at], &[b"into"]) {
                    return Some(Pin::TemporaryTable);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
