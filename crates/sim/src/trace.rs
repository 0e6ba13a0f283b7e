//! What happened, as a hash that proves two runs equal and, when asked for, as lines for people.

use std::collections::VecDeque;

use crate::schedule::{Nanos, SECONDS};

/// How many lines are kept for the report of a violation.
const TAIL: usize = 400;

/// The record of a run. Lines cost time, so they are written only when somebody will read them; the hash is the same either way.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    live: bool,
}

/// Whether a run writes lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// The hash only.
    Hash,
    /// The last lines are kept.
    Tail,
    /// Every line is kept.
    Everything,
}

impl Trace {
    pub fn new(verbosity: Verbosity) -> Self {
        let lines = (verbosity != Verbosity::Hash).then(VecDeque::new);
        Self { hash: 0xCBF2_9CE4_8422_2325, lines, live: verbosity == Verbosity::Everything }
    }

    /// Mixes `words` into the hash.
    pub fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        }
    }

    /// Mixes a text into the hash.
    pub fn mix_text(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(&[u64::from_le_bytes(word)]);
        }
    }

    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes a line if lines are wanted.
    pub fn line(&mut self, now: Nanos, who: &str, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if !self.live && lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(format!("{:>5}.{:06} {who:<6} {}", now / SECONDS, now % SECONDS / 1000, text()));
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.map(Vec::from).unwrap_or_default()
    }
}
