//! The words of a text, as PostgreSQL's own scanner parts them.
//!
//! Only this much: where strings, comments and quoted names begin and end, so that nothing within them is taken for a word. What is
//! lexically wrong is an error here as it is in the server.

mod scanner;

use std::borrow::Cow;

use self::scanner::{Scanner, is_space};

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
