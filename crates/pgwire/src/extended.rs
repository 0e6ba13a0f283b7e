//! The extended protocol's messages that name prepared statements.

use crate::{
    frame::c_string,
    message::{put, put_str},
};

/// A Parse message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    pub name: &'a [u8],
    /// The query with its zero byte, and the types of its parameters: all that makes two statements the same.
    pub definition: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of the message.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (name, definition) = c_string(body)?;
        c_string(definition)?;
        Some(Self { name, definition })
    }

    /// The query's text.
    pub fn sql(&self) -> &'a [u8] {
        c_string(self.definition).map_or(&[][..], |(sql, _)| sql)
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, b'P', |out| {
            put_str(out, self.name);
            out.extend_from_slice(self.definition);
        });
    }
}

/// A Bind message: which statement it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body of the message.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = c_string(body)?;
        let (statement, rest) = c_string(rest)?;
        Some(Self { portal, statement, rest })
    }

    /// Appends the message for the same portal and another statement.
    pub fn write_renamed(&self, statement: &[u8], out: &mut Vec<u8>) {
        put(out, b'B', |out| {
            put_str(out, self.portal);
            put_str(out, statement);
            out.extend_from_slice(self.rest);
        });
    }
}

/// What a Describe or Close message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Reads the body of the message.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let (name, _) = c_string(rest)?;
        match kind {
            b'S' => Some(Self::Statement(name)),
            b'P' => Some(Self::Portal(name)),
            _ => None,
        }
    }

    /// Appends the message with `tag` (`D` or `C`) for a statement.
    pub fn write_statement(tag: u8, name: &[u8], out: &mut Vec<u8>) {
        put(out, tag, |out| {
            out.push(b'S');
            put_str(out, name);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_is_read_and_written() {
        let body = b"s1\0select $1\0\0\x01\0\0\0\x17";
        let parse = Parse::read(body).unwrap();
        assert_eq!((parse.name, parse.sql()), (&b"s1"[..], &b"select $1"[..]));
        let mut out = Vec::new();
        parse.write(&mut out);
        assert_eq!(&out[5..], body);
        assert_eq!(Parse::read(b"s1\0select"), None, "a query ends with a zero");
    }

    #[test]
    fn a_bind_keeps_its_parameters_under_another_name() {
        let bind = Bind::read(b"p\0s1\0\0\0\0\0\0\0").unwrap();
        let mut out = Vec::new();
        bind.write_renamed(b"other", &mut out);
        assert_eq!(&out[5..], b"p\0other\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_target_is_a_statement_or_a_portal() {
        assert_eq!(Target::read(b"Sx\0"), Some(Target::Statement(b"x")));
        assert_eq!(Target::read(b"P\0"), Some(Target::Portal(b"")));
        assert_eq!(Target::read(b"Q\0"), None);
    }
}
