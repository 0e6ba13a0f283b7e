//! Text in a buffer of fixed size, for a process that must not allocate.

use std::{ffi::CStr, fmt, fmt::Write as _};

/// Up to `N` bytes of text on the stack. What does not fit is cut off.
#[derive(Debug)]
pub(crate) struct Scratch<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Scratch<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(crate) fn format(text: fmt::Arguments<'_>) -> Self {
        let mut scratch = Self::new();
        // The only failure is a text that does not fit, and that one is cut.
        let _ = scratch.write_fmt(text);
        scratch
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The text up to its first NUL byte, which the caller has to have written.
    pub(crate) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.as_bytes()).ok()
    }
}

impl<const N: usize> fmt::Write for Scratch<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = N - self.length;
        let taken = text.len().min(room);
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        if taken < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut() {
        let short = Scratch::<8>::format(format_args!("{}", 1234));
        assert_eq!(short.as_bytes(), b"1234");
        let long = Scratch::<8>::format(format_args!("{}-{}", 1234, 56789));
        assert_eq!(long.as_bytes(), b"1234-567");
        assert_eq!(long.as_c_str(), None, "no terminator, no path");
    }
}
