//! Taking secrets out: by the names of their keys, by their values, and inside connection strings.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_config::redacted;
use bellwether_types::secret::REDACTED;
use serde_json::Value;

/// Shorter secrets would tear words apart; they still vanish where a key names them.
const SHORTEST: usize = 4;

/// The secrets that are known.
#[derive(Debug)]
pub(super) struct Redaction {
    /// Longest first, so that one that contains another goes whole.
    values: Vec<String>,
}

impl Redaction {
    /// Learns the secrets of a configuration and of the environment.
    pub(super) fn new(document: &Value, env: &BTreeMap<String, String>) -> Self {
        let mut values = BTreeSet::new();
        differences(document, &redacted(document), &mut values);
        let secret_variables =
            env.iter().filter(|(name, _)| name.contains("PASSWORD") || name.contains("TOKEN"));
        values.extend(secret_variables.map(|(_, value)| value.clone()));
        let mut values: Vec<String> =
            values.into_iter().filter(|value| value.chars().count() >= SHORTEST).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// A value without secrets: by key, then each text.
    pub(super) fn value(&self, value: &Value) -> Value {
        self.texts(&redacted(value))
    }

    fn texts(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.texts(item)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, value)| (key.clone(), self.texts(value))).collect())
            }
            other => other.clone(),
        }
    }

    pub(super) fn text(&self, text: &str) -> String {
        let known = self.values.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
        without_url_passwords(&without_assignments(&known))
    }
}

/// The texts that stand where the other document says `[redacted]`.
fn differences(plain: &Value, redacted: &Value, found: &mut BTreeSet<String>) {
    match (plain, redacted) {
        (Value::Object(plain), Value::Object(redacted)) => {
            for (key, value) in plain {
                differences(value, redacted.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(plain), Value::Array(redacted)) => {
            plain.iter().zip(redacted).for_each(|(plain, redacted)| differences(plain, redacted, found));
        }
        (plain, redacted) if plain != redacted => leaves(plain, found),
        _ => {}
    }
}

fn leaves(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| leaves(value, found)),
        Value::Array(items) => items.iter().for_each(|value| leaves(value, found)),
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Null | Value::Bool(_) => {}
        number => drop(found.insert(number.to_string())),
    }
}

/// `password=...` and its kin, as in connection strings and commands.
fn without_assignments(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let lower = rest.to_ascii_lowercase();
        let found = ["password=", "passwd=", "token="]
            .iter()
            .filter_map(|name| lower.find(name).map(|at| at + name.len()))
            .min();
        let Some(end_of_name) = found else { return result + rest };
        result.push_str(&rest[..end_of_name]);
        rest = &rest[end_of_name..];
        let length = secret_length(rest);
        if length > 0 {
            result.push_str(REDACTED);
        }
        rest = &rest[length..];
    }
}

/// How much of a text that begins with a secret is the secret: quoted, or up to a blank.
fn secret_length(text: &str) -> usize {
    // Inside JSON a quote has a backslash before it.
    let (offset, quote) = match text.as_bytes() {
        [quote @ (b'\'' | b'"'), ..] => (1, char::from(*quote)),
        [b'\\', quote @ (b'\'' | b'"'), ..] => (2, char::from(*quote)),
        _ => {
            let is_end = |character: char| character.is_whitespace() || "\"'&,;}".contains(character);
            return text.find(is_end).unwrap_or(text.len());
        }
    };
    text[offset..].find(quote).map_or(text.len(), |end| offset + end + 1)
}

/// `scheme://user:password@host`.
fn without_url_passwords(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        result.push_str(before);
        let end = after
            .find(|character: char| character.is_whitespace() || "/\"'?,".contains(character))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
            Some((user, host)) => result.push_str(&format!("{user}:{REDACTED}@{host}")),
            None => result.push_str(authority),
        }
        rest = tail;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_vanish_wherever_they_occur() {
        let document = json!({"restapi": {"authentication": {"username": "admin", "password": "s3cret-word"}},
                              "consul": {"token": 4711}});
        let env = BTreeMap::from([("PGPASSWORD".to_owned(), "from-the-environment".to_owned())]);
        let redaction = Redaction::new(&document, &env);
        for (text, expected) in [
            ("the word s3cret-word", "the word [redacted]"),
            ("from-the-environment!", "[redacted]!"),
            ("id 4711", "id [redacted]"),
            ("host=a password=xyz user=b", "host=a password=[redacted] user=b"),
            ("host=a password='x y' user=b", "host=a password=[redacted] user=b"),
            ("PASSWORD=xyz", "PASSWORD=[redacted]"),
            ("postgres://u:p@h:5432/db", "postgres://u:[redacted]@h:5432/db"),
            ("http://10.0.0.1:8008/patroni", "http://10.0.0.1:8008/patroni"),
            ("password: is asked", "password: is asked"),
        ] {
            assert_eq!(redaction.text(text), expected);
        }
        let value = redaction.value(&json!({"password": "x", "list": ["s3cret-word"], "n": 1}));
        assert_eq!(value, json!({"password": "[redacted]", "list": ["[redacted]"], "n": 1}));
    }
}
