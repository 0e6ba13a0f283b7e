//! Reads texts, and remembers what the grammar has said of them.

use crate::effect;
use crate::facts::{Because, Facts, Names, Shape};
use crate::memory::Memory;
use crate::token::{Scan, Strings, scan};
use crate::{fast, grammar, hint};
use std::sync::Arc;

/// Bytes of the longest text that the grammar is asked about. Longer ones carry data, and take long to read.
pub const LONGEST: usize = 32 * 1024;

/// Reads texts. Not shared between threads: each has its own, or locks.
#[derive(Debug)]
pub struct Reader {
    known: Memory<Arc<Facts>>,
}

impl Reader {
    /// Remembers texts and what they are up to about `most` bytes.
    pub fn new(most: usize) -> Reader {
        Reader { known: Memory::new(most) }
    }

    /// What is known of a text. What is no UTF-8 is not understood: servers would read it by the client's encoding.
    pub fn facts(&mut self, text: &[u8], strings: Strings) -> Arc<Facts> {
        // Few sessions read strings in the old way, and theirs must not be taken for the others'.
        if strings == Strings::Escaped {
            return Arc::new(read(text, strings).0);
        }
        if let Some(known) = self.known.recall(text) {
            return known;
        }
        let (facts, effort) = read(text, strings);
        let facts = Arc::new(facts);
        if effort == Effort::Grammar {
            self.known.remember(text.into(), Arc::clone(&facts));
        }
        facts
    }

    /// How many texts are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    let (shape, names, is_steady, effort) = match fast::read(&scan) {
        Some((shape, names)) => (shape, names, true, Effort::Little),
        None if text.len() > LONGEST => {
            (Shape::Primary(Because::TooLong), Names::default(), false, Effort::Little)
        }
        None => {
            let (shape, names) = grammar::read(text, strings);
            // Some values, a precision for example, are an error.
            let is_steady = queries(&scan) && shape != Shape::Primary(Because::NotUnderstood);
            (shape, names, is_steady, Effort::Grammar)
        }
    };
    (Facts { shape, names, hint, effects, is_steady }, effort)
}

/// Whether it is a query by its first word: to others a value may be an option, or a file's name.
fn queries(scan: &Scan<'_>) -> bool {
    let first = scan.tokens.first();
    first.is_some_and(|first| first.is_any(&["select", "with", "values", "table"]) || first.is_mark("("))
}
