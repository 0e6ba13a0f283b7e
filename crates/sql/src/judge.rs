//! Whether a replica may have a text, by the catalogue of one database, and remembered.

use crate::catalogue::Catalogue;
use crate::facts::{Because, Class};
use crate::hint::Role;
use crate::memory::Memory;
use crate::pattern;
use crate::reader::{LONGEST, Reader};
use crate::token::Strings;
use std::sync::Arc;

/// What follows for a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: Class,
    /// What a comment in it wishes.
    pub hint: Option<Role>,
}

/// Judges the texts of one database. Texts that differ in nothing but the values of numbers and strings are judged once, and again
/// after the catalogue has changed.
#[derive(Debug)]
pub struct Judge {
    catalogue: Option<Arc<Catalogue>>,
    by_pattern: Memory<Arc<Verdict>>,
    /// Of texts in which a value might matter.
    by_text: Memory<Arc<Verdict>>,
    pattern: Vec<u8>,
}

impl Judge {
    /// Remembers up to about `most` bytes of texts.
    pub fn new(most: usize) -> Judge {
        Judge {
            catalogue: None,
            by_pattern: Memory::new(most / 2),
            by_text: Memory::new(most / 2),
            pattern: Vec::new(),
        }
    }

    /// What the database says of itself now; `None`: it does not say.
    pub fn learn(&mut self, catalogue: Option<Arc<Catalogue>>) {
        if self.catalogue != catalogue {
            self.by_pattern.forget_all();
            self.by_text.forget_all();
            self.catalogue = catalogue;
        }
    }

    /// What a text is. Strings are read as with `standard_conforming_strings = on`.
    pub fn verdict(&mut self, reader: &mut Reader, text: &[u8]) -> Arc<Verdict> {
        if text.len() > LONGEST || std::str::from_utf8(text).is_err() {
            return Arc::new(self.judge(reader, text).0);
        }
        let has_pattern = pattern::write(text, &mut self.pattern);
        if has_pattern && let Some(known) = self.by_pattern.recall(&self.pattern) {
            return known;
        }
        if let Some(known) = self.by_text.recall(text) {
            return known;
        }
        let (verdict, is_steady) = self.judge(reader, text);
        let verdict = Arc::new(verdict);
        match has_pattern && is_steady {
            true => self.by_pattern.remember(self.pattern.as_slice().into(), Arc::clone(&verdict)),
            false => self.by_text.remember(text.into(), Arc::clone(&verdict)),
        }
        verdict
    }

    /// A replica has refused a text that was taken for a read: texts of its pattern go to the primary until the catalogue changes.
    pub fn refused(&mut self, reader: &mut Reader, text: &[u8]) {
        if text.len() > LONGEST || std::str::from_utf8(text).is_err() {
            return;
        }
        let hint = self.verdict(reader, text).hint;
        let verdict = Arc::new(Verdict { class: Class::Primary(Because::RefusedByReplica), hint });
        match pattern::write(text, &mut self.pattern) {
            true => self.by_pattern.remember(self.pattern.as_slice().into(), verdict),
            false => self.by_text.remember(text.into(), verdict),
        }
    }

    fn judge(&self, reader: &mut Reader, text: &[u8]) -> (Verdict, bool) {
        let facts = reader.facts(text, Strings::Standard);
        (Verdict { class: facts.class(self.catalogue.as_deref()), hint: facts.hint }, facts.is_steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(functions: &[&str]) -> (Judge, Reader) {
        let mut judge = Judge::new(1 << 20);
        judge.learn(Some(catalogue(functions)));
        (judge, Reader::new(1 << 20))
    }

    fn catalogue(functions: &[&str]) -> Arc<Catalogue> {
        let rows = functions.iter().map(|name| ("safe_function", *name));
        Arc::new(Catalogue::from_rows(rows).unwrap())
    }

    #[test]
    fn texts_of_one_pattern_are_judged_once() {
        let (mut judge, mut reader) = judge(&["lower"]);
        let one = judge.verdict(&mut reader, b"SELECT lower(a)::text FROM t WHERE a = 'x' AND b = 1");
        let two = judge.verdict(&mut reader, b"SELECT lower(a)::text FROM t WHERE a = 'yy' AND b = 22");
        assert_eq!(one.class, Class::Read);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(reader.len(), 1, "the grammar was asked once");
    }

    #[test]
    fn where_a_value_decides_each_text_counts() {
        let (mut judge, mut reader) = judge(&[]);
        let mut class = |text: &str| judge.verdict(&mut reader, text.as_bytes()).class.clone();
        assert_eq!(class("COPY t TO STDOUT"), Class::Read);
        assert_eq!(class("COPY t TO ''"), Class::Read, "the grammar takes it for STDOUT");
        assert_eq!(class("COPY t TO 'file'"), Class::Primary(Because::Copies));
    }

    #[test]
    fn another_catalogue_is_another_verdict() {
        let (mut judge, mut reader) = judge(&[]);
        let text = b"SELECT f(1)";
        assert_eq!(judge.verdict(&mut reader, text).class, Class::Primary(Because::Calls("f".into())));
        judge.learn(Some(catalogue(&["f"])));
        assert_eq!(judge.verdict(&mut reader, text).class, Class::Read);
        judge.learn(None);
        assert_eq!(judge.verdict(&mut reader, text).class, Class::Primary(Because::NoCatalogue));
    }

    #[test]
    fn what_a_replica_has_refused_is_no_read_any_more() {
        let (mut judge, mut reader) = judge(&["hides_it"]);
        let refused = Class::Primary(Because::RefusedByReplica);
        for (first, second) in
            [("SELECT hides_it(1)", "SELECT hides_it(2)"), ("SELECT $$x$$", "SELECT $$x$$")]
        {
            assert_eq!(judge.verdict(&mut reader, first.as_bytes()).class, Class::Read);
            judge.refused(&mut reader, first.as_bytes());
            assert_eq!(judge.verdict(&mut reader, first.as_bytes()).class, refused);
            assert_eq!(judge.verdict(&mut reader, second.as_bytes()).class, refused);
        }
        assert_eq!(judge.verdict(&mut reader, b"SELECT 1").class, Class::Read);
        judge.learn(Some(catalogue(&["hides_it", "another"])));
        assert_eq!(
            judge.verdict(&mut reader, b"SELECT hides_it(1)").class,
            Class::Read,
            "it may be another one"
        );
    }

    #[test]
    fn wishes_belong_to_the_text() {
        let (mut judge, mut reader) = judge(&[]);
        let mut hint = |text: &str| judge.verdict(&mut reader, text.as_bytes()).hint;
        assert_eq!(hint("SELECT 1"), None);
        assert_eq!(hint("SELECT 1 /* bellwether: leader */"), Some(Role::Primary));
        assert_eq!(hint("SELECT 2 /* bellwether: replica */"), Some(Role::Replica));
        assert_eq!(hint("SELECT '/* bellwether: replica */'"), None);
        assert_eq!(hint("SELECT '/* bellwether: leader */'"), None);
    }
}
