//! The words of a text, as PostgreSQL's own scanner parts them.
//!
//! Only this much: where strings, comments and quoted names begin and end, so that nothing within them is taken for a word. What is
//! lexically wrong is an error here as it is in the server.

use std::borrow::Cow;

/// PostgreSQL cuts names off after so many bytes.
const LONGEST_NAME: usize = 63;

/// How the session reads plain strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strings {
    /// `standard_conforming_strings = on`.
    #[default]
    Standard,
    /// `standard_conforming_strings = off`: a backslash escapes in every string.
    Escaped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name without quotation marks.
    Word,
    /// A name in quotation marks.
    Quoted,
    /// A string of any kind.
    Text,
    Number,
    Parameter,
    Operator,
    /// One of `( ) [ ] , ; .` or `:` `::` `:=` `..`.
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    /// As it was written.
    pub raw: &'a str,
}

impl<'a> Token<'a> {
    /// Whether it is this keyword, given in small letters.
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.raw.eq_ignore_ascii_case(keyword)
    }

    pub fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    pub fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.raw == mark
    }

    /// The name that it stands for, if it may be one.
    pub fn name(&self) -> Option<Cow<'a, str>> {
        let name = match self.kind {
            Kind::Word if self.raw.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(self.raw.to_ascii_lowercase())
            }
            Kind::Word => Cow::Borrowed(self.raw),
            Kind::Quoted => {
                let inside = self.raw.strip_prefix('"')?.strip_suffix('"')?;
                if inside.contains('"') {
                    Cow::Owned(inside.replace("\"\"", "\""))
                } else {
                    Cow::Borrowed(inside)
                }
            }
            _ => return None,
        };
        Some(cut_off(name))
    }

    /// The content of a plain string without escapes.
    pub fn plain_text(&self) -> Option<Cow<'a, str>> {
        if self.kind != Kind::Text {
            return None;
        }
        let inside = self.raw.strip_prefix('\'')?.strip_suffix('\'')?;
        (!inside.contains('\\')).then(|| match inside.contains('\'') {
            true => Cow::Owned(inside.replace("''", "'")),
            false => Cow::Borrowed(inside),
        })
    }
}

fn cut_off(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let end = (0..=LONGEST_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(name[..end].to_owned())
}

/// What a text consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    pub tokens: Vec<Token<'a>>,
    /// The contents of its comments.
    pub comments: Vec<&'a str>,
}

impl<'a> Scan<'a> {
    /// The statements of the text: what stands between semicolons. Inside of a function's body (`BEGIN ATOMIC`) it parts more than
    /// there is, which does no harm: no statement in there changes a session.
    pub fn statements(&self) -> impl Iterator<Item = &[Token<'a>]> {
        self.tokens.split(|token| token.is_mark(";")).filter(|statement| !statement.is_empty())
    }
}

/// The text is lexically wrong, or one of the rare forms that servers of different versions read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lexically wrong at byte {at}: {what}")]
pub struct ScanError {
    pub at: usize,
    pub what: &'static str,
    /// A server may take it nevertheless.
    pub doubtful: bool,
}

/// Parts a text.
pub fn scan(text: &str, strings: Strings) -> Result<Scan<'_>, ScanError> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0, strings };
    let mut scan = Scan::default();
    while let Some(byte) = scanner.peek(0) {
        let start = scanner.at;
        if byte == 0 {
            return Err(scanner.wrong("a zero byte"));
        }
        if is_space(byte) {
            scanner.at += 1;
        } else if scanner.starts_with("--") {
            scanner.line_comment();
            scan.comments.push(&text[start + 2..scanner.at]);
        } else if scanner.starts_with("/*") {
            scanner.block_comment()?;
            scan.comments.push(&text[start + 2..scanner.at - 2]);
        } else {
            let kind = scanner.token(byte)?;
            scan.tokens.push(Token { kind, raw: &text[start..scanner.at] });
        }
    }
    Ok(scan)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    strings: Strings,
}

fn is_space(byte: u8) -> bool {
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
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        self.bytes[self.at..].starts_with(text.as_bytes())
    }

    fn wrong(&self, what: &'static str) -> ScanError {
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

    fn line_comment(&mut self) {
        self.skip(|byte| byte != b'\n' && byte != b'\r');
    }

    fn block_comment(&mut self) -> Result<(), ScanError> {
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

    fn token(&mut self, first: u8) -> Result<Kind, ScanError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn raws(text: &str) -> Vec<&str> {
        scan(text, Strings::Standard).unwrap().tokens.iter().map(|token| token.raw).collect()
    }

    #[test]
    fn words_strings_and_comments_are_told_apart() {
        let text = "SELECT \"a\"\"b\", 'it''s; --', $x$;$y$;$x$, $1 -- ; gone\n /* a /* b; */ c */ FROM t;";
        let scan = scan(text, Strings::Standard).unwrap();
        let raws: Vec<&str> = scan.tokens.iter().map(|token| token.raw).collect();
        assert_eq!(
            raws,
            ["SELECT", "\"a\"\"b\"", ",", "'it''s; --'", ",", "$x$;$y$;$x$", ",", "$1", "FROM", "t", ";"]
        );
        assert_eq!(scan.comments, [" ; gone", " a /* b; */ c "]);
        assert_eq!(scan.tokens[1].name().unwrap(), "a\"b");
        assert_eq!(scan.tokens[3].plain_text().unwrap(), "it's; --");
    }

    #[test]
    fn a_backslash_escapes_where_the_session_says_so() {
        let text = r"'a\' ; LISTEN x; --'";
        assert_eq!(scan(text, Strings::Standard).unwrap().statements().count(), 2);
        assert_eq!(scan(text, Strings::Escaped).unwrap().statements().count(), 1);
        assert_eq!(raws(r"E'a\';b'"), [r"E'a\';b'"]);
    }

    #[test]
    fn a_string_goes_on_behind_a_line_break_in_its_own_way() {
        assert_eq!(raws("E'a' -- c\n '\\';x'").len(), 1);
        assert_eq!(raws("'a' 'b'").len(), 2);
        assert_eq!(raws("'a'\n'b'").len(), 1);
    }

    #[test]
    fn operators_end_where_postgresql_ends_them() {
        assert_eq!(raws("a=-1"), ["a", "=", "-", "1"]);
        assert_eq!(raws("a@-1"), ["a", "@-", "1"]);
        assert_eq!(raws("a->>'b'"), ["a", "->>", "'b'"]);
        assert_eq!(raws("a-/*c*/1"), ["a", "-", "1"]);
        assert_eq!(raws("a--1"), ["a"]);
        assert_eq!(raws("x::int[1:2]"), ["x", "::", "int", "[", "1", ":", "2", "]"]);
    }

    #[test]
    fn numbers_end_clearly() {
        assert_eq!(raws("1.5e-3+.5"), ["1.5e-3", "+", ".5"]);
        assert_eq!(raws("1..2"), ["1", "..", "2"]);
        assert_eq!(raws("0x1f+1_000"), ["0x1f", "+", "1_000"]);
        for doubtful in ["1e'a'", "0x'1'", "1u&'a'"] {
            assert!(scan(doubtful, Strings::Standard).is_err_and(|error| error.doubtful), "{doubtful}");
        }
    }

    #[test]
    fn what_is_open_at_the_end_is_wrong() {
        for open in ["'a", "\"a", "/* a", "$$ a", "$a b", "E'\\'", "a\0b", "U&\"a\""] {
            assert!(scan(open, Strings::Standard).is_err(), "{open}");
        }
    }

    #[test]
    fn a_long_name_is_cut_off_as_in_postgresql() {
        let long = format!("{}é", "a".repeat(62));
        assert_eq!(Token { kind: Kind::Word, raw: &long }.name().unwrap(), "a".repeat(62));
    }
}
