//! JSON in the exact spelling that Patroni's clients know: `, ` and `: ` between items, everything but ASCII escaped.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Renders a value. Maps keep the order in which they were filled.
pub(crate) fn render(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Spelling);
    value.serialize(&mut serializer).expect("values with text keys always serialize into memory");
    String::from_utf8(text).expect("the formatter writes ASCII only")
}

struct Spelling;

impl Formatter for Spelling {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            if c.is_ascii() {
                writer.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spelling_is_that_of_the_reference() {
        let value = json!({"b": [1, 2, {}], "a": {"x": null, "y": "é\u{1F418}\n\"\u{1}"}, "e": []});
        assert_eq!(
            render(&value),
            r#"{"b": [1, 2, {}], "a": {"x": null, "y": "\u00e9\ud83d\udc18\n\"\u0001"}, "e": []}"#
        );
    }
}
