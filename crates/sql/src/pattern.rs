//! What texts have in common that differ only in the values of plain numbers and strings.
//!
//! One pass over the bytes, without knowledge of words: clients that send each value in the text send ever new texts, and parting
//! each into its words is what costs.

/// Writes the pattern of a text: each plain number becomes `0`, and each plain string `''`. `false`: it has none, since something in
/// it is not as simple as that.
///
/// Two texts of one pattern have the same words in the same places, and the same comments, names and operators.
pub(crate) fn write(text: &[u8], pattern: &mut Vec<u8>) -> bool {
    pattern.clear();
    let mut maker = Maker { text, at: 0, pattern };
    while let Some(byte) = maker.peek(0) {
        let goes_on = match KINDS[usize::from(byte)] {
            Kind::Plain => maker.copy(1),
            Kind::Name => maker.name(),
            Kind::Digit => maker.number(),
            Kind::Quote => maker.string(),
            Kind::DoubleQuote => maker.through_quotation_mark(),
            Kind::Dollar => maker.parameter(),
            Kind::Minus if maker.peek(1) == Some(b'-') => maker.line_comment(),
            Kind::Slash if maker.peek(1) == Some(b'*') => maker.block_comment(),
            Kind::Minus | Kind::Slash => maker.copy(1),
            Kind::Strange => false,
        };
        if !goes_on {
            return false;
        }
    }
    true
}

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// It begins a name, or goes on with one.
    Name,
    Digit,
    Quote,
    DoubleQuote,
    Dollar,
    Minus,
    Slash,
    Strange,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Plain; 256];
    let mut at = 0_u8;
    loop {
        kinds[at as usize] = match at {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Kind::Name,
            b'0'..=b'9' => Kind::Digit,
            b'\'' => Kind::Quote,
            b'"' => Kind::DoubleQuote,
            b'$' => Kind::Dollar,
            b'-' => Kind::Minus,
            b'/' => Kind::Slash,
            0 | b'\\' => Kind::Strange,
            _ => Kind::Plain,
        };
        if at == u8::MAX {
            break;
        }
        at += 1;
    }
    kinds
};

struct Maker<'a> {
    text: &'a [u8],
    at: usize,
    pattern: &'a mut Vec<u8>,
}

impl Maker<'_> {
    #[inline]
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn before(&self) -> Option<u8> {
        self.at.checked_sub(1).map(|at| self.text[at])
    }

    fn is_name(byte: Option<u8>) -> bool {
        byte.is_some_and(|byte| matches!(KINDS[usize::from(byte)], Kind::Name | Kind::Digit | Kind::Dollar))
    }

    #[inline]
    fn copy(&mut self, count: usize) -> bool {
        self.pattern.extend_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        true
    }

    /// Bytes from here on that `accept` takes.
    #[inline]
    fn run(&self, accept: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text[self.at..];
        rest.iter().position(|byte| !accept(*byte)).unwrap_or(rest.len())
    }

    fn name(&mut self) -> bool {
        let count = self.run(|byte| Self::is_name(Some(byte)));
        self.copy(count)
    }

    /// Digits, with a point between them or not.
    fn number(&mut self) -> bool {
        // `a[1:2]` and `1..2` are rare, and `.5` is no number that begins here.
        if matches!(self.before(), Some(b'.' | b':')) {
            return false;
        }
        self.at += self.run(|byte| byte.is_ascii_digit());
        if self.peek(0) == Some(b'.') && self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
            self.at += self.run(|byte| byte.is_ascii_digit());
        }
        if self.peek(0) == Some(b'.') || Self::is_name(self.peek(0)) {
            return false;
        }
        self.pattern.push(b'0');
        true
    }

    fn string(&mut self) -> bool {
        // Before it may stand what makes it another kind of string.
        if self.before().is_some_and(|before| before == b'&') || Self::is_name(self.before()) {
            return false;
        }
        self.at += 1;
        loop {
            self.at += self.run(|byte| !matches!(byte, b'\'' | b'\\' | 0));
            match (self.peek(0), self.peek(1)) {
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => break,
                _ => return false,
            }
        }
        self.at += 1;
        self.pattern.extend_from_slice(b"''");
        true
    }

    /// A name in quotation marks. A doubled one within it ends here, and the rest begins at once.
    fn through_quotation_mark(&mut self) -> bool {
        let inside = self.text[self.at + 1..].iter().position(|byte| *byte == b'"');
        inside.is_some_and(|count| self.copy(count + 2))
    }

    /// `$1`. Strings between dollars are left alone.
    fn parameter(&mut self) -> bool {
        self.copy(1);
        let digits = self.run(|byte| byte.is_ascii_digit());
        self.copy(digits);
        digits > 0 && !Self::is_name(self.peek(0))
    }

    fn line_comment(&mut self) -> bool {
        let count = self.run(|byte| !matches!(byte, b'\n' | b'\r'));
        self.copy(count)
    }

    fn block_comment(&mut self) -> bool {
        let rest = &self.text[self.at + 2..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"*/") else { return false };
        let is_nested = rest[..end].windows(2).any(|pair| pair == b"/*");
        // `/*/` is both.
        !is_nested && self.copy(end + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        let mut pattern = Vec::new();
        write(text.as_bytes(), &mut pattern).then(|| String::from_utf8(pattern).unwrap())
    }

    #[test]
    fn values_are_taken_out() {
        for (text, pattern) in [
            (
                "SELECT a FROM t1 WHERE b=12 AND c = 'it''s' LIMIT 3;",
                "SELECT a FROM t1 WHERE b=0 AND c = '' LIMIT 0;",
            ),
            (
                "select \"a 1\".\"b\"\"2\" from t where x < -1.5",
                "select \"a 1\".\"b\"\"2\" from t where x < -0",
            ),
            ("select $1, 'ü', ü1", "select $1, '', ü1"),
            ("select 1 -- 2\n, 3 /* '4 */", "select 0 -- 2\n, 0 /* '4 */"),
            ("select 'a'\n'b'", "select ''\n''"),
        ] {
            assert_eq!(of(text).as_deref(), Some(pattern), "{text}");
        }
    }

    #[test]
    fn what_is_not_simple_has_no_pattern() {
        for text in [
            "select E'a'",
            "select U&'a'",
            "select n'a'",
            "select 'a\\'",
            "select 'open",
            "select \"open",
            "select $$a$$",
            "select $1a",
            "select 1e5",
            "select 0x1f",
            "select 1_000",
            "select 1..2",
            "select 1.",
            "select .5",
            "select a[1:2]",
            "/* open",
            "/* a /* b */ c */ select 1",
            "select 1 \0",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
