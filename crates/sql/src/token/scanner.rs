//! Where a token ends, character by character.

use super::{Kind, ScanError, Strings};

/// A text, and how far it has been read.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) strings: Strings,
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c | 0x0b)
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn goes_on_in_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

impl Scanner<'_> {
    pub(super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    pub(super) fn starts_with(&self, text: &str) -> bool {
        self.bytes[self.at..].starts_with(text.as_bytes())
    }

    pub(super) fn wrong(&self, what: &'static str) -> ScanError {
        ScanError { at: self.at, what, doubtful: false }
    }

    fn doubtful(&self, what: &'static str) -> ScanError {
        ScanError { at: self.at, what, doubtful: true }
    }

    fn skip(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&accept) {
            self.at += 1;
        }
    }

    pub(super) fn line_comment(&mut self) {
        self.skip(|byte| byte != b'\n' && byte != b'\r');
    }

    pub(super) fn block_comment(&mut self) -> Result<(), ScanError> {
        let mut depth = 0_usize;
        loop {
            if self.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else if self.peek(0).is_none() {
                return Err(self.wrong("a comment is not closed"));
            } else {
                self.at += 1;
            }
        }
    }

    pub(super) fn token(&mut self, first: u8) -> Result<Kind, ScanError> {
        let next = self.peek(1);
        match first {
            b'\'' => self.string(self.strings).map(|()| Kind::Text),
            b'"' => self.quoted_name(),
            b'e' | b'E' if next == Some(b'\'') => {
                self.at += 1;
                self.string(Strings::Escaped).map(|()| Kind::Text)
            }
            b'b' | b'B' | b'x' | b'X' if next == Some(b'\'') => {
                self.at += 1;
                self.string(Strings::Standard).map(|()| Kind::Text)
            }
            b'n' | b'N' if next == Some(b'\'') => {
                self.at += 1;
                self.string(self.strings).map(|()| Kind::Text)
            }
            b'u' | b'U' if next == Some(b'&') && matches!(self.peek(2), Some(b'\'' | b'"')) => {
                // Such a name has escapes that nobody here resolves.
                match self.peek(2) {
                    Some(b'"') => Err(self.doubtful("a name with Unicode escapes")),
                    _ => {
                        self.at += 2;
                        self.string(Strings::Standard).map(|()| Kind::Text)
                    }
                }
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            _ if begins_name(first) => {
                self.skip(goes_on_in_name);
                Ok(Kind::Word)
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' => {
                self.at += 1;
                Ok(Kind::Mark)
            }
            b'.' | b':' => {
                let pair = self.starts_with("..") || self.starts_with("::") || self.starts_with(":=");
                self.at += if pair { 2 } else { 1 };
                Ok(Kind::Mark)
            }
            _ if is_operator(first) => {
                self.operator();
                Ok(Kind::Operator)
            }
            _ => Err(self.wrong("a character that begins nothing")),
        }
    }

    /// From the quotation mark on, with what continues it on later lines.
    fn string(&mut self, strings: Strings) -> Result<(), ScanError> {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return Err(self.wrong("a string is not closed")),
                Some(b'\'') if self.peek(1) == Some(b'\'') => self.at += 2,
                Some(b'\'') => {
                    self.at += 1;
                    match self.continuation() {
                        Some(at) => self.at = at,
                        None => return Ok(()),
                    }
                }
                Some(b'\\') if strings == Strings::Escaped => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
    }

    /// Behind the quotation mark that continues the string which has just ended: on a later line, with nothing but space and
    /// comments of lines between.
    fn continuation(&self) -> Option<usize> {
        let mut at = self.at;
        let mut new_line = false;
        loop {
            match self.bytes.get(at)? {
                b'\n' | b'\r' => {
                    new_line = true;
                    at += 1;
                }
                byte if is_space(*byte) => at += 1,
                b'-' if self.bytes.get(at + 1) == Some(&b'-') => {
                    while !matches!(self.bytes.get(at)?, b'\n' | b'\r') {
                        at += 1;
                    }
                }
                b'\'' if new_line => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn quoted_name(&mut self) -> Result<Kind, ScanError> {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return Err(self.wrong("a quoted name is not closed")),
                Some(b'"') if self.peek(1) == Some(b'"') => self.at += 2,
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Kind::Quoted);
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn dollar(&mut self) -> Result<Kind, ScanError> {
        if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
            self.skip(|byte| byte.is_ascii_digit());
            return self.ends_clearly(Kind::Parameter);
        }
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(begins_name) {
            self.skip(|byte| begins_name(byte) || byte.is_ascii_digit());
        }
        if self.peek(0) != Some(b'$') {
            return Err(self.wrong("a dollar sign that begins nothing"));
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        match self.text[self.at..].find(tag) {
            Some(length) => {
                self.at += length + tag.len();
                Ok(Kind::Text)
            }
            None => Err(self.wrong("a string is not closed")),
        }
    }

    fn number(&mut self) -> Result<Kind, ScanError> {
        self.skip(|byte| byte.is_ascii_digit());
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.skip(|byte| byte.is_ascii_digit());
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1 + sign;
                self.skip(|byte| byte.is_ascii_digit());
            }
        }
        self.ends_clearly(Kind::Number)
    }

    /// `0x1f` and `1_000` are numbers since PostgreSQL 16, before they were a number and a name; either way they end here. Not so if
    /// the letters could begin a string.
    fn ends_clearly(&mut self, kind: Kind) -> Result<Kind, ScanError> {
        self.skip(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match self.peek(0) {
            Some(b'\'' | b'"' | b'&' | b'$' | 0x80..) => Err(self.doubtful("letters right behind a number")),
            _ => Ok(kind),
        }
    }

    fn operator(&mut self) {
        let start = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(is_operator) && !self.starts_with("--") && !self.starts_with("/*") {
            self.at += 1;
        }
        // `a=-1` is `a = -1`: a sign at the end belongs to what follows, unless the operator could not be one of the standard's.
        let special = self.bytes[start..self.at].iter().any(|byte| b"~!@#^&|`?%".contains(byte));
        while !special && self.at - start > 1 && matches!(self.bytes[self.at - 1], b'+' | b'-') {
            self.at -= 1;
        }
    }
}
