//! What ties a session to one server connection.
//!
//! Transaction pooling gives a connection back after each transaction. A session that has left something behind in it must keep it.

use crate::effect::{Effect, Span, Which};
use std::collections::BTreeSet;

/// Whether a statement runs inside of a transaction block. What such a block undoes when it is rolled back (settings, channels,
/// temporary tables) does not release a pin from within it: the rollback would bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Outside,
    Inside,
}

/// Why a session is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    Listen,
    TemporaryTable,
    AdvisoryLock,
    HeldCursor,
    PreparedStatement,
    Setting,
    Library,
    Unknown,
}

impl Pin {
    /// Its name in metrics and messages.
    pub fn code(self) -> &'static str {
        match self {
            Pin::Listen => "listen",
            Pin::TemporaryTable => "temporary_table",
            Pin::AdvisoryLock => "advisory_lock",
            Pin::HeldCursor => "held_cursor",
            Pin::PreparedStatement => "prepared_statement",
            Pin::Setting => "setting",
            Pin::Library => "library",
            Pin::Unknown => "unknown",
        }
    }
}

/// What `RESET ALL` leaves as it is.
const NOT_RESET: [&str; 2] = ["role", "session_authorization"];

/// What a session has left behind in its server connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    channels: bool,
    temporary: bool,
    advisory: bool,
    library: bool,
    unknown: bool,
    cursors: BTreeSet<String>,
    prepared: BTreeSet<String>,
    settings: BTreeSet<String>,
}

impl Pins {
    /// Enters what a statement does. Called before it runs: an effect that then fails pins without need, which is harmless.
    /// `is_tracked` says of a parameter whether the pooler itself carries it from connection to connection.
    pub fn apply(&mut self, effect: &Effect, block: Block, is_tracked: impl Fn(&str) -> bool) {
        let outside = block == Block::Outside;
        match effect {
            Effect::Listens => self.channels = true,
            Effect::Unlistens(Which::All) if outside => self.channels = false,
            // Of how many channels one was left is not known.
            Effect::Unlistens(_) => {}
            Effect::MakesTemporary => self.temporary = true,
            Effect::DropsTemporary if outside => self.temporary = false,
            Effect::DropsTemporary => {}
            Effect::LocksAdvisory => self.advisory = true,
            Effect::UnlocksAllAdvisory => self.advisory = false,
            Effect::HoldsCursor(name) => _ = self.cursors.insert(name.clone()),
            Effect::ClosesCursor(which) => forget(&mut self.cursors, which),
            Effect::Prepares(name) => _ = self.prepared.insert(name.clone()),
            Effect::Deallocates(which) => forget(&mut self.prepared, which),
            Effect::Sets { span: Span::Transaction, .. } => {}
            Effect::Sets { parameter, .. } if is_tracked(parameter) => {}
            Effect::Sets { parameter, .. } => _ = self.settings.insert(parameter.clone()),
            Effect::Resets(Which::All) if outside => {
                self.settings.retain(|name| NOT_RESET.contains(&name.as_str()));
            }
            Effect::Resets(Which::One(name)) if outside => _ = self.settings.remove(name),
            Effect::Resets(_) => {}
            Effect::Loads => self.library = true,
            Effect::Unknown => self.unknown = true,
            // A library stays in the server's process for ever.
            Effect::ForgetsAll if outside => *self = Pins { library: self.library, ..Pins::default() },
            Effect::ForgetsAll => {}
        }
    }

    /// Why the session must keep its connection; empty if it need not.
    pub fn reasons(&self) -> Vec<Pin> {
        let reasons = [
            (self.channels, Pin::Listen),
            (self.temporary, Pin::TemporaryTable),
            (self.advisory, Pin::AdvisoryLock),
            (!self.cursors.is_empty(), Pin::HeldCursor),
            (!self.prepared.is_empty(), Pin::PreparedStatement),
            (!self.settings.is_empty(), Pin::Setting),
            (self.library, Pin::Library),
            (self.unknown, Pin::Unknown),
        ];
        reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, pin)| pin).collect()
    }

    pub fn is_pinned(&self) -> bool {
        self.channels
            || self.temporary
            || self.advisory
            || self.library
            || self.unknown
            || !(self.cursors.is_empty() && self.prepared.is_empty() && self.settings.is_empty())
    }
}

fn forget(names: &mut BTreeSet<String>, which: &Which) {
    match which {
        Which::All => names.clear(),
        Which::One(name) => _ = names.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::effects;
    use crate::token::Strings;

    /// The pins after these statements, each outside of a transaction; `application_name` is tracked.
    fn after(statements: &[&str]) -> Vec<Pin> {
        after_in(Block::Outside, statements)
    }

    fn after_in(block: Block, statements: &[&str]) -> Vec<Pin> {
        let mut pins = Pins::default();
        for effect in statements.iter().flat_map(|text| effects(text, Strings::Standard)) {
            pins.apply(&effect, block, |parameter| parameter == "application_name");
        }
        assert_eq!(pins.is_pinned(), !pins.reasons().is_empty());
        pins.reasons()
    }

    #[test]
    fn what_pins_and_what_releases() {
        for (pinning, releasing, pin) in [
            ("LISTEN a", "UNLISTEN *", Pin::Listen),
            ("CREATE TEMP TABLE t (a int)", "DISCARD TEMP", Pin::TemporaryTable),
            ("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()", Pin::AdvisoryLock),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c", Pin::HeldCursor),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL", Pin::HeldCursor),
            ("PREPARE p AS SELECT 1", "DEALLOCATE p", Pin::PreparedStatement),
            ("SET work_mem = '1MB'", "RESET Work_Mem", Pin::Setting),
            ("SET work_mem = '1MB'", "RESET ALL", Pin::Setting),
            ("SET ROLE bob", "RESET role", Pin::Setting),
            ("DO 'x'", "DISCARD ALL", Pin::Unknown),
        ] {
            assert_eq!(after(&[pinning]), [pin], "{pinning}");
            assert_eq!(after(&[pinning, releasing]), [], "{releasing}");
            assert_eq!(after(&[pinning, "DISCARD ALL"]), [], "{pinning}");
        }
    }

    #[test]
    fn what_does_not_release() {
        assert_eq!(after(&["LISTEN a", "LISTEN b", "UNLISTEN a"]), [Pin::Listen]);
        assert_eq!(after(&["SET ROLE bob", "RESET ALL"]), [Pin::Setting]);
        assert_eq!(
            after(&["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"]),
            [Pin::AdvisoryLock]
        );
        assert_eq!(
            after(&["PREPARE p AS SELECT 1", "PREPARE q AS SELECT 1", "DEALLOCATE q"]),
            [Pin::PreparedStatement]
        );
        assert_eq!(after(&["LOAD 'x'", "DISCARD ALL"]), [Pin::Library]);
    }

    #[test]
    fn what_a_rollback_would_bring_back_is_not_released() {
        for (pinning, releasing) in [
            ("LISTEN a", "UNLISTEN *"),
            ("CREATE TEMP TABLE t (a int)", "DISCARD TEMP"),
            ("SET work_mem = '1MB'", "RESET work_mem"),
        ] {
            assert_eq!(after_in(Block::Inside, &[pinning, releasing]).len(), 1, "{releasing}");
        }
    }

    #[test]
    fn what_does_not_pin() {
        for text in [
            "SET LOCAL work_mem = '1MB'",
            "SET application_name = 'x'",
            "SELECT 1",
            "DECLARE c CURSOR FOR SELECT 1",
        ] {
            assert_eq!(after(&[text]), [], "{text}");
        }
    }
}
