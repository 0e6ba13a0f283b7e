//! The text of `synchronous_standby_names`: reading what PostgreSQL shows, and writing what we want.
//!
//! Reading follows PostgreSQL's own grammar, because the text may be somebody else's. What cannot be read counts as off, as
//! PostgreSQL refuses it and so cannot be following it.

use std::{collections::BTreeSet, iter::Peekable, str::Chars};

use bellwether_types::PLACEHOLDER;
use serde::{Deserialize, Serialize};

/// How acknowledgements are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Method {
    /// The first `count` connected standbys in the order of the list.
    #[default]
    First,
    /// Any `count` of the list.
    Any,
}

/// A value of `synchronous_standby_names`. Nobody listed: either off or, with the placeholder, everything waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SyncNames {
    pub method: Method,
    /// As written; may exceed the number of names.
    pub count: usize,
    /// As written. `*` reads as the placeholder alone, so that it equals no real name and gets replaced.
    pub names: BTreeSet<String>,
}

impl SyncNames {
    pub fn any(count: usize, names: BTreeSet<String>) -> Self {
        Self { method: Method::Any, count, names }
    }

    /// Every one of these.
    pub fn all(names: BTreeSet<String>) -> Self {
        Self { method: Method::First, count: names.len(), names }
    }

    /// How many of the listed names acknowledge each commit.
    pub fn acknowledging(&self) -> usize {
        self.count.min(self.names.len())
    }

    /// Reads a value; one that PostgreSQL would refuse reads as off.
    pub fn parse(text: &str) -> Self {
        tokens(text).and_then(|tokens| parse(&tokens)).unwrap_or_default()
    }

    /// The text for a server of this version (150018; 0 = unknown). Nobody listed, or nobody to wait for: empty.
    pub fn to_text(&self, server_version: u32) -> String {
        let quoted: Vec<String> = self.names.iter().map(|name| quote(name)).collect();
        if quoted.is_empty() || self.count == 0 {
            return String::new();
        }
        let list = quoted.join(",");
        match self.method {
            Method::First if quoted.len() == 1 && self.count == 1 => list,
            Method::Any if has_any(server_version) => format!("ANY {} ({list})", self.count),
            _ => format!("{} ({list})", self.count),
        }
    }
}

/// `ANY` is understood since PostgreSQL 10.
pub fn has_any(server_version: u32) -> bool {
    server_version == 0 || server_version >= 100_000
}

/// The value at which every commit waits: nobody bears this name.
pub fn placeholder(method: Method, server_version: u32) -> String {
    SyncNames { method, count: 1, names: BTreeSet::from([PLACEHOLDER.to_owned()]) }.to_text(server_version)
}

fn quote(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let is_keyword = ["first", "any"].iter().any(|word| name.eq_ignore_ascii_case(word));
    if is_plain && !is_keyword { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Any,
    First,
    Number(String),
    Name(String),
    Sign(char),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        let token = match c {
            ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => {
                chars.next();
                continue;
            }
            ',' | '(' | ')' => {
                chars.next();
                Token::Sign(c)
            }
            '*' => {
                chars.next();
                Token::Name("*".to_owned())
            }
            '"' => Token::Name(quoted(&mut chars)?),
            '0'..='9' => Token::Number(run(&mut chars, |c| c.is_ascii_digit())),
            c if starts_name(c) => {
                let word = run(&mut chars, |c| starts_name(c) || c.is_ascii_digit() || c == '$');
                match word.to_ascii_lowercase().as_str() {
                    "any" => Token::Any,
                    "first" => Token::First,
                    _ => Token::Name(word),
                }
            }
            _ => return None,
        };
        tokens.push(token);
    }
    Some(tokens)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn run(chars: &mut Peekable<Chars>, belongs: impl Fn(char) -> bool) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|&c| belongs(c)) {
        text.push(c);
    }
    text
}

/// From the opening quote to behind the closing one; `None` if there is no end.
fn quoted(chars: &mut Peekable<Chars>) -> Option<String> {
    chars.next();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' if chars.next_if_eq(&'"').is_some() => text.push('"'),
            '"' => return Some(text),
            c => text.push(c),
        }
    }
}

fn parse(tokens: &[Token]) -> Option<SyncNames> {
    use Token::{Any, First, Number, Sign};
    let (method, count, list) = match tokens {
        [Any, Number(count), Sign('('), list @ .., Sign(')')] => (Method::Any, count.parse().ok()?, list),
        [First, Number(count), Sign('('), list @ .., Sign(')')]
        | [Number(count), Sign('('), list @ .., Sign(')')] => (Method::First, count.parse().ok()?, list),
        list => (Method::First, 1, list),
    };
    if count == 0 {
        return None;
    }
    let mut names = BTreeSet::new();
    for (index, token) in list.iter().enumerate() {
        match token {
            Token::Name(name) | Number(name) if index % 2 == 0 => names.insert(name.clone()),
            Sign(',') if index % 2 == 1 => continue,
            _ => return None,
        };
    }
    if list.len() % 2 == 0 {
        return None;
    }
    if names.contains("*") {
        names = BTreeSet::from([PLACEHOLDER.to_owned()]);
    } else {
        names.remove(PLACEHOLDER);
    }
    Some(SyncNames { method, count, names })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn reads_every_form_that_postgresql_knows() {
        for (text, method, count, names) in [
            ("a", Method::First, 1, &["a"] as &[&str]),
            ("a, b", Method::First, 1, &["a", "b"]),
            ("2 (a,b)", Method::First, 2, &["a", "b"]),
            ("FIRST 2 (a,b)", Method::First, 2, &["a", "b"]),
            ("first 1(\"a\" , b)", Method::First, 1, &["a", "b"]),
            ("ANY 1 (a,b)", Method::Any, 1, &["a", "b"]),
            ("any 3 (a,b)", Method::Any, 3, &["a", "b"]),
            ("\"pg-1\",\"say \"\"hi\"\"\",\"any\"", Method::First, 1, &["any", "pg-1", "say \"hi\""]),
            ("1", Method::First, 1, &["1"]),
            ("2 (1,ü$)", Method::First, 2, &["1", "ü$"]),
            ("*", Method::First, 1, &[PLACEHOLDER]),
            ("ANY 2 (a,*)", Method::Any, 2, &[PLACEHOLDER]),
            (PLACEHOLDER, Method::First, 1, &[]),
            ("ANY 1 (__patroni_strict_sync_replica_placeholder__)", Method::Any, 1, &[]),
        ] {
            assert_eq!(SyncNames::parse(text), SyncNames { method, count, names: set(names) }, "{text}");
        }
    }

    #[test]
    fn what_postgresql_refuses_counts_as_off() {
        for text in [
            "", "  ", "any", "first, a", "ANY (a)", "ANY 1 a", "0 (a)", "a b", "a,", "2 (a", "\"a", "pg-1",
            "()",
        ] {
            assert_eq!(SyncNames::parse(text), SyncNames::default(), "{text:?}");
        }
    }

    #[test]
    fn f5_names_are_quoted_where_postgresql_would_misread_them() {
        for (name, text) in [
            ("a", "a"),
            ("A_1$", "A_1$"),
            ("pg-1", "\"pg-1\""),
            ("1st", "\"1st\""),
            ("Any", "\"Any\""),
            ("FIRST", "\"FIRST\""),
            ("a\"b", "\"a\"\"b\""),
            ("ü", "\"ü\""),
        ] {
            assert_eq!(SyncNames::all(set(&[name])).to_text(150_000), text, "{name}");
        }
    }

    #[test]
    fn the_form_depends_on_the_mode_and_the_version() {
        let both = set(&["b", "a"]);
        assert_eq!(SyncNames::all(both.clone()).to_text(150_000), "2 (a,b)");
        assert_eq!(SyncNames::any(1, both.clone()).to_text(150_000), "ANY 1 (a,b)");
        assert_eq!(SyncNames::any(1, set(&["a"])).to_text(100_000), "ANY 1 (a)");
        assert_eq!(SyncNames::any(1, both).to_text(90_600), "1 (a,b)");
        assert_eq!(SyncNames::any(0, set(&[])).to_text(0), "");
        assert_eq!(placeholder(Method::First, 150_000), PLACEHOLDER);
        assert_eq!(placeholder(Method::Any, 150_000), format!("ANY 1 ({PLACEHOLDER})"));
    }

    proptest! {
        #[test]
        fn what_was_written_reads_the_same(
            names in proptest::collection::btree_set("[a-zA-Z0-9_ü$\"' ,()-]{1,6}|any|First", 1..5),
            count in 1_usize..6,
            is_any: bool,
        ) {
            let method = if is_any { Method::Any } else { Method::First };
            let written = SyncNames { method, count, names };
            prop_assert_eq!(SyncNames::parse(&written.to_text(150_000)), written);
        }
    }
}
