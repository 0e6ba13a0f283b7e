//! A configuration document that remembers where each value was written.

use serde_json::{Map, Value};

use crate::problem::Origin;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; each key once.
    Map(Vec<Entry>),
}

/// `key: node` in a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) origin: Origin,
    pub(crate) node: Node,
}

/// A value without parts: what it means, and the characters that were written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) value: Value,
    pub(crate) written: String,
}

impl Node {
    pub(crate) fn scalar(value: Value, written: impl Into<String>, origin: Origin) -> Self {
        Self { kind: Kind::Scalar(Scalar { value, written: written.into() }), origin }
    }

    pub(crate) fn text(text: impl Into<String>, origin: Origin) -> Self {
        let text = text.into();
        Self::scalar(Value::String(text.clone()), text, origin)
    }

    pub(crate) fn empty_map(origin: Origin) -> Self {
        Self { kind: Kind::Map(Vec::new()), origin }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.value.is_null())
    }

    /// The value below `key`; a null is as good as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// As [`Self::get`], with the place of the key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key && !entry.node.is_null())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        let position = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(position).node)
    }

    /// Sets `key` in a map; anything else becomes a map first.
    pub(crate) fn insert(&mut self, key: &str, node: Node) {
        if !self.is_map() {
            self.kind = Kind::Map(Vec::new());
        }
        let Kind::Map(entries) = &mut self.kind else { return };
        match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.origin = node.origin.clone();
                entry.node = node;
            }
            None => entries.push(Entry { key: key.to_owned(), origin: node.origin.clone(), node }),
        }
    }

    /// Sets a value at a path of keys, making the maps on the way.
    pub(crate) fn insert_at(&mut self, path: &[&str], node: Node) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut target = self;
        for key in parents {
            if !target.get(key).is_some_and(Node::is_map) {
                target.insert(key, Node::empty_map(node.origin.clone()));
            }
            let Kind::Map(entries) = &mut target.kind else { return };
            let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) else { return };
            target = &mut entry.node;
        }
        target.insert(last, node);
    }

    /// Puts `later` over this one: maps merge at every depth, a null deletes, anything else replaces.
    pub(crate) fn merge(&mut self, later: Node) {
        let (Kind::Map(entries), Kind::Map(changes)) = (&mut self.kind, &later.kind) else {
            *self = later;
            return;
        };
        for change in changes {
            let present = entries.iter().position(|entry| entry.key == change.key);
            match (present, change.node.is_null()) {
                (Some(at), true) => {
                    entries.remove(at);
                }
                (None, true) => {}
                (Some(at), false) => {
                    let entry = &mut entries[at];
                    entry.origin = change.origin.clone();
                    entry.node.merge(change.node.clone());
                }
                (None, false) => entries.push(change.clone()),
            }
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.value.clone(),
            Kind::List(items) => items.iter().map(Node::to_value).collect(),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_value()))
                    .collect::<Map<String, Value>>(),
            ),
        }
    }

    /// How many nodes hang here, this one included.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum(),
        }
    }
}
