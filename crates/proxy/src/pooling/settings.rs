//! What a client has set in its session, so that its next server can be given the same.

use std::sync::Arc;

use super::effects::Change;

/// One thing that differs from a fresh session, in the order in which it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// In lower case.
    pub(crate) name: String,
    /// The statement that brings it about.
    pub(crate) apply: String,
    /// The statement that takes it back.
    pub(crate) reset: String,
}

/// Everything that differs.
pub(crate) type Set = Arc<Vec<Setting>>;

impl Setting {
    /// `SET name TO 'value'`.
    pub(crate) fn quoted(name: &str, value: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let apply = format!("SET {} TO '{}'", ident(&name), value.replace('\'', "''"));
        let reset = format!("RESET {}", ident(&name));
        Self { name, apply, reset }
    }
}

/// Names with dots are two identifiers.
fn ident(name: &str) -> String {
    let parts: Vec<String> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// What a client has set, and what it has set since but may yet lose.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// As the client asked for when it connected.
    base: Set,
    current: Set,
    /// Set by a statement that has not ended yet.
    staged: Vec<Change>,
    /// Set within a transaction that has not ended yet.
    pending: Vec<Change>,
    /// What the client began with and has reset: the server has gone back to its own value instead.
    bare: Vec<String>,
}

impl Session {
    pub(crate) fn starting_with(base: Vec<Setting>) -> Self {
        let base = Arc::new(base);
        Self { current: base.clone(), base, staged: vec![], pending: vec![], bare: vec![] }
    }

    /// What a server must have before the client's next transaction.
    pub(crate) fn current(&self) -> &Set {
        &self.current
    }

    pub(crate) fn stage(&mut self, changes: &[Change]) {
        self.staged.extend_from_slice(changes);
    }

    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.staged.is_empty() && self.pending.is_empty()
    }

    /// Whether changes within the transaction would be lost with it.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The statement has failed.
    pub(crate) fn failed(&mut self) {
        self.staged.clear();
    }

    /// The statement has ended; `open` is whether a transaction is.
    pub(crate) fn settled(&mut self, open: bool, rolled_back: bool) {
        if self.is_quiet() {
            return;
        }
        if rolled_back {
            self.pending.clear();
        }
        let staged = std::mem::take(&mut self.staged);
        if open {
            self.pending.extend(staged);
            return;
        }
        for change in std::mem::take(&mut self.pending).into_iter().chain(staged) {
            self.apply(change);
        }
    }

    /// What the server has, if that is not what the client is to have.
    pub(crate) fn take_bare(&mut self) -> Option<Set> {
        if self.bare.is_empty() {
            return None;
        }
        let bare = std::mem::take(&mut self.bare);
        Some(Arc::new(self.current.iter().filter(|setting| !bare.contains(&setting.name)).cloned().collect()))
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(setting) => {
                self.bare.retain(|name| *name != setting.name);
                let current = Arc::make_mut(&mut self.current);
                current.retain(|known| known.name != setting.name);
                current.push(setting);
            }
            Change::Reset(name) => {
                let first = self.base.iter().find(|known| known.name == name).cloned();
                let current = Arc::make_mut(&mut self.current);
                current.retain(|known| known.name != name);
                if first.is_some() {
                    self.bare.push(name);
                }
                current.extend(first);
            }
            Change::ResetAll => {
                self.bare = self.base.iter().map(|setting| setting.name.clone()).collect();
                self.current = self.base.clone();
            }
        }
    }
}

/// The statements that bring a server from what it has to what is wanted; empty if that is the same.
pub(crate) fn difference(has: &Set, wanted: &Set) -> String {
    if Arc::ptr_eq(has, wanted) || has == wanted {
        return String::new();
    }
    let mut statements = Vec::new();
    for setting in has.iter().rev() {
        if wanted.iter().all(|other| other.name != setting.name) {
            statements.push(setting.reset.as_str());
        }
    }
    for setting in wanted.iter() {
        if !has.contains(setting) {
            statements.push(setting.apply.as_str());
        }
    }
    if statements.is_empty() {
        // The same in another order: whose effect depends on the order is a role, which is always last.
        return String::new();
    }
    // A comment at the end of one must not swallow the next.
    statements.join("\n; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Change {
        Change::Set(Setting::quoted(name, value))
    }

    fn applied(session: &Session) -> Vec<&str> {
        session.current().iter().map(|setting| setting.apply.as_str()).collect()
    }

    #[test]
    fn a_setting_counts_when_its_statement_has_succeeded() {
        let mut session = Session::default();
        session.stage(&[set("work_mem", "1MB")]);
        session.failed();
        session.settled(false, false);
        assert!(session.current().is_empty());
        session.stage(&[set("work_mem", "2MB")]);
        session.settled(false, false);
        assert_eq!(applied(&session), [r#"SET "work_mem" TO '2MB'"#]);
    }

    #[test]
    fn a_setting_within_a_transaction_shares_its_fate() {
        let mut session = Session::default();
        session.stage(&[set("a", "1")]);
        session.settled(true, false);
        assert!(session.current().is_empty() && session.has_pending());
        session.settled(false, true);
        assert!(session.current().is_empty(), "rolled back");
        session.stage(&[set("a", "1")]);
        session.settled(true, false);
        session.settled(false, false);
        assert_eq!(session.current().len(), 1, "committed");
    }

    #[test]
    fn reset_goes_back_to_what_the_client_began_with() {
        let mut session = Session::starting_with(vec![Setting::quoted("TimeZone", "UTC")]);
        session.stage(&[set("timezone", "CET"), set("x.y", "it's")]);
        session.settled(false, false);
        assert_eq!(applied(&session), [r#"SET "timezone" TO 'CET'"#, r#"SET "x"."y" TO 'it''s'"#]);
        session.stage(&[Change::Reset("timezone".into())]);
        session.settled(false, false);
        assert!(applied(&session).contains(&r#"SET "timezone" TO 'UTC'"#));
        let has = session.take_bare().expect("the server went back to its own");
        assert_eq!(difference(&has, session.current()), r#"SET "timezone" TO 'UTC'"#);
        session.stage(&[Change::ResetAll]);
        session.settled(false, false);
        assert_eq!(applied(&session), [r#"SET "timezone" TO 'UTC'"#]);
        assert_eq!(session.take_bare(), Some(Set::default()));
        assert_eq!(session.take_bare(), None);
    }

    #[test]
    fn a_server_is_given_what_differs() {
        let one: Set = Arc::new(vec![Setting::quoted("a", "1"), Setting::quoted("b", "1")]);
        let other: Set = Arc::new(vec![Setting::quoted("a", "2")]);
        assert_eq!(difference(&one, &one.clone()), "");
        assert_eq!(difference(&one, &other), "RESET \"b\"\n; SET \"a\" TO '2'");
        assert_eq!(difference(&other, &Set::default()), r#"RESET "a""#);
    }
}
