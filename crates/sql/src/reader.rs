//! Reads texts, and remembers what the grammar has said of them.

use crate::effect;
use crate::facts::{Because, Facts};
use crate::token::{Strings, scan};
use crate::{fast, grammar, hint};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of the longest text that the grammar is asked about. Longer ones carry data, and take long to read.
pub const LONGEST: usize = 32 * 1024;

/// What one entry costs besides its text, roughly.
const ENTRY: usize = 512;

/// Reads texts. Not shared between threads: each has its own, or locks.
#[derive(Debug)]
pub struct Reader {
    /// Bytes that each of the two generations may take.
    most: usize,
    young: Generation,
    /// What was not asked for since the young ones began is forgotten with the next change.
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    bytes: usize,
    facts: HashMap<Box<[u8]>, Arc<Facts>>,
}

impl Reader {
    /// Remembers texts and what they are up to about `most` bytes.
    pub fn new(most: usize) -> Reader {
        Reader { most: most / 2, young: Generation::default(), old: Generation::default() }
    }

    /// What is known of a text. What is no UTF-8 is not understood: servers would read it by the client's encoding.
    pub fn facts(&mut self, text: &[u8], strings: Strings) -> Arc<Facts> {
        // Few sessions read strings in the old way, and theirs must not be taken for the others'.
        if strings == Strings::Escaped {
            return Arc::new(read(text, strings).0);
        }
        if let Some(known) = self.recall(text) {
            return known;
        }
        let (facts, effort) = read(text, strings);
        let facts = Arc::new(facts);
        if effort == Effort::Grammar {
            self.remember(text.into(), Arc::clone(&facts));
        }
        facts
    }

    /// How many texts are remembered.
    pub fn len(&self) -> usize {
        self.young.facts.len() + self.old.facts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn recall(&mut self, text: &[u8]) -> Option<Arc<Facts>> {
        if let Some(facts) = self.young.facts.get(text) {
            return Some(Arc::clone(facts));
        }
        let (text, facts) = self.old.facts.remove_entry(text)?;
        self.remember(text, Arc::clone(&facts));
        Some(facts)
    }

    fn remember(&mut self, text: Box<[u8]>, facts: Arc<Facts>) {
        let bytes = text.len() + ENTRY;
        if bytes > self.most {
            return;
        }
        if self.young.bytes + bytes > self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.facts.insert(text, facts);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As quick as a look into the memory.
    Little,
    Grammar,
}

fn read(text: &[u8], strings: Strings) -> (Facts, Effort) {
    let Ok(text) = std::str::from_utf8(text) else {
        let mut facts = Facts::primary(Because::NotUnderstood);
        facts.effects.push(effect::Effect::Unknown);
        return (facts, Effort::Little);
    };
    let Ok(scan) = scan(text, strings) else {
        let mut facts = Facts::primary(Because::NotUnderstood);
        facts.effects = effect::effects(text, strings);
        return (facts, Effort::Little);
    };
    let (hint, effects) = (hint::in_comments(&scan), effect::effects_of(&scan));
    let (answer, effort) = match fast::read(&scan) {
        Some(answer) => (answer, Effort::Little),
        None if text.len() > LONGEST => (too_long(), Effort::Little),
        None => (grammar::read(text, strings), Effort::Grammar),
    };
    (Facts { shape: answer.0, names: answer.1, hint, effects }, effort)
}

fn too_long() -> (crate::facts::Shape, crate::facts::Names) {
    let facts = Facts::primary(Because::TooLong);
    (facts.shape, facts.names)
}
