//! Words and statements in SQL, as far as quotes, comments and semicolons go.

/// The statements of a text. Those that are empty are left out.
#[derive(Clone, Debug)]
pub(super) struct Statements<'a> {
    rest: &'a [u8],
}

impl<'a> Statements<'a> {
    pub(super) fn of(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let end = end_of_statement(self.rest);
            let statement = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
            if !skip_blank(statement).is_empty() {
                return Some(statement);
            }
        }
    }
}

/// Where the first statement's semicolon is, or the end of the text.
fn end_of_statement(sql: &[u8]) -> usize {
    let mut at = 0;
    while at < sql.len() {
        at += match sql[at] {
            b';' => return at,
            b'\'' => quoted(&sql[at..], b'\'', at > 0 && is_escape_prefix(sql, at)),
            b'"' => quoted(&sql[at..], b'"', false),
            b'$' if at == 0 || !is_word_byte(sql[at - 1]) => dollar_quoted(&sql[at..]),
            b'-' | b'/' => comment(&sql[at..]).max(1),
            _ => 1,
        };
    }
    sql.len()
}

/// `E'...'`, in which a backslash escapes.
fn is_escape_prefix(sql: &[u8], quote: usize) -> bool {
    matches!(sql[quote - 1], b'e' | b'E') && (quote < 2 || !is_word_byte(sql[quote - 2]))
}

fn quoted(text: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' if escapes => at += 1,
            byte if byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn dollar_quoted(text: &[u8]) -> usize {
    let tag = text[1..].iter().position(|byte| *byte == b'$' || !is_word_byte(*byte));
    let Some(end) = tag.filter(|end| text[end + 1] == b'$') else { return 1 };
    if text[1].is_ascii_digit() {
        return 1;
    }
    let delimiter = &text[..end + 2];
    let body = &text[delimiter.len()..];
    match body.windows(delimiter.len()).position(|window| window == delimiter) {
        Some(at) => at + 2 * delimiter.len(),
        None => text.len(),
    }
}

/// The length of a comment that the text begins with; zero if there is none.
fn comment(text: &[u8]) -> usize {
    if text.starts_with(b"--") {
        return text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    }
    if !text.starts_with(b"/*") {
        return 0;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// What comes after spaces and comments.
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        let blank = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
        let comment = comment(&text[blank..]);
        text = &text[blank + comment..];
        if comment == 0 {
            return text;
        }
    }
}

pub(super) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A statement, word by word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(super) fn of(statement: &'a [u8]) -> Self {
        // Also `(SELECT ...)`.
        let mut rest = skip_blank(statement);
        while let [b'(', after @ ..] = rest {
            rest = skip_blank(after);
        }
        Self { rest }
    }

    fn word(&mut self) -> &'a [u8] {
        let text = skip_blank(self.rest);
        let end = text.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(text.len());
        self.rest = &text[end..];
        &text[..end]
    }

    /// The next word in lower case; empty if there is none, or a longer one than keywords are.
    pub(super) fn next_lower<'b>(&mut self, room: &'b mut [u8; 16]) -> &'b [u8] {
        let word = self.word();
        let Some(room) = room.get_mut(..word.len()) else { return &[] };
        for (to, from) in room.iter_mut().zip(word) {
            *to = from.to_ascii_lowercase();
        }
        room
    }

    /// Takes the next word; whether it is this one.
    pub(super) fn next_is(&mut self, word: &[u8]) -> bool {
        self.word().eq_ignore_ascii_case(word)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        skip_blank(self.rest)
    }
}

/// Whether these words stand in the text one after the other.
pub(super) fn has_words(text: &[u8], words: &[&[u8]]) -> bool {
    let mut found = 0;
    for word in text.split(|byte| !is_word_byte(*byte)).filter(|word| !word.is_empty()) {
        found = if word.eq_ignore_ascii_case(words[found]) {
            found + 1
        } else {
            usize::from(word.eq_ignore_ascii_case(words[0]))
        };
        if found == words.len() {
            return true;
        }
    }
    false
}

pub(super) fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

pub(super) fn ends_with(text: &[u8], suffix: &[u8]) -> bool {
    text.len().checked_sub(suffix.len()).is_some_and(|at| text[at..].eq_ignore_ascii_case(suffix))
}

/// A name of a setting, quoted or not, perhaps with dots, in lower case; and what comes after it.
pub(super) fn name(text: &[u8]) -> Option<(String, &[u8])> {
    let mut name = String::new();
    let mut rest = skip_blank(text);
    loop {
        let length = match rest.first()? {
            b'"' => quoted(rest, b'"', false),
            _ => rest.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(rest.len()),
        };
        let part = std::str::from_utf8(rest.get(..length)?).ok()?.trim_matches('"');
        if part.is_empty() {
            return None;
        }
        name.push_str(&part.to_ascii_lowercase());
        rest = &rest[length..];
        match rest.first() {
            Some(b'.') => {
                name.push('.');
                rest = &rest[1..];
            }
            _ => return Some((name, skip_blank(rest))),
        }
    }
}

/// `name = value` or `name TO value`.
pub(super) fn assignment(text: &[u8]) -> Option<(String, &[u8])> {
    let (name, rest) = name(text)?;
    let value = match rest {
        [b'=', after @ ..] => after,
        _ => {
            let mut words = Words { rest };
            if !words.next_is(b"to") {
                return None;
            }
            words.rest
        }
    };
    let value = value.trim_ascii();
    (!value.is_empty()).then_some((name, value))
}

/// As it may be written in SQL.
pub(super) fn written_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(|part| format!("\"{part}\"")).collect();
    parts.join(".")
}
