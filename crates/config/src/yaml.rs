//! YAML text to [`Node`]s with their lines.
//!
//! A parser of events and a small builder instead of serde: every value keeps its line and the characters that were written,
//! duplicate keys are a warning (PyYAML takes the last), and scalars mean what PyYAML makes of them (see `scalar.rs`).

use std::{collections::BTreeMap, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::Value;

use crate::{
    node::{Entry, Kind, Node},
    problem::{Origin, Problem},
    scalar,
};

/// More nodes than any configuration has; aliases of aliases could otherwise fill the memory.
const MAX_NODES: usize = 200_000;

/// Parses one document. An empty text is a null.
pub(crate) fn parse(text: &str, source: &Arc<str>) -> Result<(Node, Vec<Problem>), Box<Problem>> {
    let mut builder = Builder::new(source.clone());
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (event, span) = event.map_err(|error| {
            let origin = Origin { source: Some(source.clone()), line: Some(error.marker().line()) };
            let reason = format!("not valid YAML: {}", error.kind());
            Problem::new("", reason).at(&origin)
        })?;
        builder.take(event, span)?;
    }
    let root = builder.root.unwrap_or_else(|| {
        Node::scalar(Value::Null, "", Origin { source: Some(source.clone()), line: None })
    });
    Ok((root, builder.warnings))
}

/// Reads a YAML text as configuration files are read, without asking what its keys mean: for documents that people edit.
/// An empty text is a null; `source` names the text in problems. The last of duplicate keys counts.
pub fn parse_yaml(text: &str, source: &str) -> Result<Value, Box<Problem>> {
    parse(text, &source.into()).map(|(root, _)| root.to_value())
}

/// A collection that is not closed yet.
enum Open {
    List {
        items: Vec<Node>,
        origin: Origin,
        anchor: usize,
    },
    Map {
        entries: Vec<Entry>,
        /// A key that waits for its value.
        key: Option<(String, Origin)>,
        /// Values of `<<`.
        merges: Vec<Node>,
        origin: Origin,
        anchor: usize,
    },
}

struct Builder {
    source: Arc<str>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    warnings: Vec<Problem>,
}

impl Builder {
    fn new(source: Arc<str>) -> Self {
        Self {
            source,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            nodes: 0,
            warnings: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Problem>> {
        let origin = Origin { source: Some(self.source.clone()), line: Some(span.start.line()) };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref(), &origin)?;
                let plain = style == ScalarStyle::Plain;
                self.scalar(Node::scalar(value, text, origin), plain, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), &["seq"], &origin)?;
                self.open.push(Open::List { items: Vec::new(), origin, anchor });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), &["map"], &origin)?;
                let (entries, merges) = (Vec::new(), Vec::new());
                self.open.push(Open::Map { entries, key: None, merges, origin, anchor });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| {
                    Problem::new("", "an alias refers to a value that contains it").at(&origin)
                })?;
                self.value(node)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Problem::new("", "the file holds more than one YAML document")
                    .at(&origin)
                    .help("remove the `---` between them, or use a directory with one file for each")
                    .into())
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), Box<Problem>> {
        let (node, anchor) = match self.open.pop() {
            Some(Open::List { items, origin, anchor }) => (Node { kind: Kind::List(items), origin }, anchor),
            Some(Open::Map { mut entries, merges, origin, anchor, .. }) => {
                for merged in merges {
                    add_merged(&mut entries, merged)?;
                }
                (Node { kind: Kind::Map(entries), origin }, anchor)
            }
            None => return Ok(()),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.value(node)
    }

    /// A scalar is the next key of a map that has none waiting, or else a value.
    fn scalar(&mut self, node: Node, plain: bool, anchor: usize) -> Result<(), Box<Problem>> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        if let Some(Open::Map { key: key @ None, .. }) = self.open.last_mut()
            && let Kind::Scalar(scalar) = &node.kind
        {
            let text = if plain && scalar.written == "<<" { MERGE.to_owned() } else { key_text(scalar) };
            *key = Some((text, node.origin));
            return Ok(());
        }
        self.value(node)
    }

    fn value(&mut self, node: Node) -> Result<(), Box<Problem>> {
        self.nodes += node.size();
        if self.nodes > MAX_NODES {
            return Err(Problem::new("", format!("more than {MAX_NODES} values")).at(&node.origin).into());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, merges, .. }) => match key.take() {
                None => {
                    return Err(Problem::new("", "a key must be a single value").at(&node.origin).into());
                }
                Some((key, _)) if key == MERGE => merges.push(node),
                Some((key, origin)) => {
                    if let Some(earlier) = entries.iter().position(|entry| entry.key == key) {
                        let reason = match entries[earlier].origin.line {
                            Some(line) => format!("the key is given twice, first in line {line}"),
                            None => "the key is given twice".to_owned(),
                        };
                        let warning = Problem::new(key.as_str(), reason).at(&origin);
                        self.warnings.push(warning.help("the last one counts; remove the other"));
                        entries.remove(earlier);
                    }
                    entries.push(Entry { key, origin, node });
                }
            },
        }
        Ok(())
    }
}

/// Stands for the key `<<` where it means a merge; no YAML text can produce it.
const MERGE: &str = "\u{0}<<";

/// Keys are text; a number as key has its canonical form, everything else is taken as written.
fn key_text(scalar: &crate::node::Scalar) -> String {
    match &scalar.value {
        Value::Number(number) => number.to_string(),
        _ => scalar.written.clone(),
    }
}

fn add_merged(entries: &mut Vec<Entry>, merged: Node) -> Result<(), Box<Problem>> {
    match merged.kind {
        Kind::Map(inherited) => {
            for entry in inherited {
                if !entries.iter().any(|present| present.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Kind::List(maps) => maps.into_iter().try_for_each(|map| add_merged(entries, map)),
        Kind::Scalar(_) => {
            Err(Problem::new("<<", "expects a map, or a list of maps, to merge").at(&merged.origin).into())
        }
    }
}

fn scalar_value(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    origin: &Origin,
) -> Result<Value, Box<Problem>> {
    known_tag(tag, &["str", "int", "float", "bool", "null", "timestamp"], origin)?;
    let is_text = match tag.and_then(Tag::core_suffix) {
        Some(kind) => matches!(kind, "str" | "timestamp"),
        None => style != ScalarStyle::Plain || tag.is_some(),
    };
    Ok(if is_text { Value::String(text.to_owned()) } else { scalar::resolve(text) })
}

fn known_tag(tag: Option<&Tag>, known: &[&str], origin: &Origin) -> Result<(), Box<Problem>> {
    match tag {
        None => Ok(()),
        // A lone `!` only says "as written".
        Some(tag) if tag.handle().is_empty() && matches!(tag.suffix(), "!" | "") => Ok(()),
        Some(tag) if tag.core_suffix().is_some_and(|suffix| known.contains(&suffix)) => Ok(()),
        Some(tag) => {
            let written = format!("{}{}", tag.original_handle(), tag.suffix());
            Err(Problem::new("", "the YAML tag is not supported here").at(origin).found(written).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text, &"t.yml".into()).unwrap().0.to_value()
    }

    #[test]
    fn documents_keep_order_lines_and_aliases() {
        let (node, warnings) = parse("b: 1\na:\n  - x\n  - {k: 'on', l: on}\n", &"t.yml".into()).unwrap();
        assert_eq!(
            serde_json::to_string(&node.to_value()).unwrap(),
            r#"{"b":1,"a":["x",{"k":"on","l":true}]}"#
        );
        assert_eq!(node.get("b").unwrap().origin.line, Some(1));
        assert_eq!(node.get("a").unwrap().origin.to_string(), "t.yml:3");
        assert!(warnings.is_empty());
        assert_eq!(
            value("base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n"),
            json!({"base": {"a": 1, "b": 2}, "mine": {"b": 3, "a": 1}})
        );
        assert_eq!(value("x: !!str 5\ny: ! 5\n0600: z\n"), json!({"x": "5", "y": "5", "384": "z"}));
        assert_eq!(value(""), Value::Null);
    }

    #[test]
    fn a_key_given_twice_is_a_warning_and_the_last_one_counts() {
        let (node, warnings) = parse("a: 1\nb: 2\na: 3\n", &"t.yml".into()).unwrap();
        assert_eq!(node.get("a").unwrap().to_value(), json!(3));
        assert_eq!(
            warnings[0].to_string(),
            "t.yml:3: a: the key is given twice, first in line 1\n  help: the last one counts; remove the other"
        );
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_line() {
        for (text, line) in [
            ("a: [1\nb: 2\n", 2),
            ("a: 1\n  b: 2\n", 2),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: !!python/object x\n", 1),
            ("a: *nobody\n", 1),
            ("? [a, b]\n: 1\n", 1),
        ] {
            let problem = parse(text, &"t.yml".into()).unwrap_err();
            assert_eq!(problem.origin.line, Some(line), "{text:?}: {problem}");
        }
    }

    #[test]
    fn aliases_cannot_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&text, &"t.yml".into()).unwrap_err().reason.starts_with("more than"));
    }
}
