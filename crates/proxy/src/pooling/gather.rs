//! What goes on to the other side: mostly one piece of what was read, untouched and not copied.

use std::ops::Range;

/// Collects output. As long as all of it is one run of the input, nothing is copied.
#[derive(Debug)]
pub(crate) struct Gather<'a> {
    input: &'a [u8],
    run: Range<usize>,
    scratch: &'a mut Vec<u8>,
}

impl<'a> Gather<'a> {
    /// `scratch` is emptied; it is kept by the caller so that its memory is used again.
    pub(crate) fn new(input: &'a [u8], scratch: &'a mut Vec<u8>) -> Self {
        scratch.clear();
        Self { input, run: 0..0, scratch }
    }

    /// Passes a part of the input on.
    #[inline]
    pub(crate) fn pass(&mut self, part: Range<usize>) {
        if self.run.end == part.start && !self.run.is_empty() {
            self.run.end = part.end;
        } else {
            self.flush();
            self.run = part;
        }
    }

    /// Adds what the input does not have.
    pub(crate) fn insert(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.flush();
        write(self.scratch);
    }

    fn flush(&mut self) {
        if !self.run.is_empty() {
            self.scratch.extend_from_slice(&self.input[self.run.clone()]);
            self.run = 0..0;
        }
    }

    /// All of it.
    pub(crate) fn finish(mut self) -> &'a [u8] {
        if self.scratch.is_empty() {
            return &self.input[self.run];
        }
        self.flush();
        self.scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_is_not_copied() {
        let mut scratch = Vec::new();
        let mut gather = Gather::new(b"abcdef", &mut scratch);
        gather.pass(1..3);
        gather.pass(3..5);
        assert_eq!(gather.finish(), b"bcde");
        assert!(scratch.is_empty());
    }

    #[test]
    fn pieces_keep_their_order() {
        let mut scratch = b"old".to_vec();
        let mut gather = Gather::new(b"abcdef", &mut scratch);
        gather.pass(0..2);
        gather.insert(|out| out.extend_from_slice(b"-"));
        gather.pass(3..4);
        gather.pass(5..6);
        assert_eq!(gather.finish(), b"ab-df");
    }
}
