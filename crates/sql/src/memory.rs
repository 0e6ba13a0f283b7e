//! What was found out about texts, as long as it is asked for.

use std::collections::HashMap;

/// What one entry costs besides its text, roughly.
const ENTRY: usize = 512;

/// Remembers by text. Two generations: what was not asked for since the young one began is forgotten when that is full.
#[derive(Debug)]
pub(crate) struct Memory<V> {
    /// Bytes that each of the two generations may take.
    most: usize,
    young: Generation<V>,
    old: Generation<V>,
}

#[derive(Debug)]
struct Generation<V> {
    bytes: usize,
    known: HashMap<Box<[u8]>, V>,
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        Self { bytes: 0, known: HashMap::new() }
    }
}

impl<V: Clone> Memory<V> {
    /// Takes up to about `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most / 2, young: Generation::default(), old: Generation::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.young.known.len() + self.old.known.len()
    }

    pub(crate) fn recall(&mut self, text: &[u8]) -> Option<V> {
        if let Some(known) = self.young.known.get(text) {
            return Some(known.clone());
        }
        let (text, known) = self.old.known.remove_entry(text)?;
        self.remember(text, known.clone());
        Some(known)
    }

    pub(crate) fn remember(&mut self, text: Box<[u8]>, value: V) {
        let bytes = text.len() + ENTRY;
        if bytes > self.most {
            return;
        }
        if self.young.bytes + bytes > self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.known.insert(text, value);
    }

    pub(crate) fn forget_all(&mut self) {
        self.young = Generation::default();
        self.old = Generation::default();
    }
}
