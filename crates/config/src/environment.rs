//! `PATRONI_*` environment variables: which key each one sets, and how its text is read.

mod names;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use self::names::{FIXED, Form, SUFFIXES};
use crate::{
    node::{Kind, Node},
    problem::{Origin, Problem},
    value::{int_with_unit, lenient_bool},
    yaml,
};

/// The part of the configuration that comes from the environment, as a map; and what could not be read.
pub(crate) fn read(env: &BTreeMap<String, String>) -> (Node, Vec<Problem>) {
    let mut root = Node::empty_map(Origin { source: Some("environment".into()), line: None });
    let mut problems = Vec::new();
    let mut set = |path: &[&str], name: &str, text: &str, form: Form| {
        let origin = Origin { source: Some(format!("environment variable {name}").into()), line: None };
        match convert(text, form, &origin) {
            Ok(Some(node)) => root.insert_at(path, node),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    };
    for (prefix, parents, names) in FIXED {
        for (suffix, key, form) in *names {
            let name = format!("{prefix}{suffix}");
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                set(&[parents, &[*key][..]].concat(), &name, text, *form);
            }
        }
    }
    for (name, text) in env {
        if let Some((section, key, form)) = pattern(name) {
            set(&[&section, &key], name, text, form);
        }
    }
    for section in ["ETCD", "ETCD3"] {
        let lower = section.to_ascii_lowercase();
        if !env.keys().any(|name| pattern(name).is_some_and(|(of, ..)| of == lower)) {
            continue;
        }
        for key in ["username", "password", "password_file"] {
            let name = format!("PATRONI_{section}_{}", key.to_ascii_uppercase());
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                set(&[&lower, key], &name, text, Form::Text);
            }
        }
    }
    (root, problems)
}

/// Whether a variable is one of those that the daemon takes out of its own environment at the start.
pub fn is_recognised(name: &str) -> bool {
    name == "PATRONI_CONFIGURATION"
        || is_fixed(name)
        || pattern(name).is_some()
        || ["PATRONI_ETCD_", "PATRONI_ETCD3_"]
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|rest| matches!(rest, "USERNAME" | "PASSWORD" | "PASSWORD_FILE"))
}

fn is_fixed(name: &str) -> bool {
    FIXED.iter().any(|(prefix, _, names)| {
        name.strip_prefix(prefix).is_some_and(|rest| names.iter().any(|(suffix, ..)| *suffix == rest))
    })
}

fn pattern(name: &str) -> Option<(String, String, Form)> {
    if is_fixed(name) {
        return None;
    }
    let (section, suffix) = name.strip_prefix("PATRONI_")?.split_once('_')?;
    let (_, form) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
    let form = match (section, suffix) {
        ("", _) => return None,
        ("CITUS", "GROUP") => Form::Int,
        ("CITUS", "DATABASE") => Form::Text,
        ("CITUS", _) | (_, "GROUP" | "DATABASE") => return None,
        _ => *form,
    };
    Some((section.to_ascii_lowercase(), suffix.to_ascii_lowercase(), form))
}

/// `Ok(None)`: not set. A port or flag that cannot be read counts as not set, as it does in Patroni: container platforms
/// make variables of this form on their own.
fn convert(text: &str, form: Form, origin: &Origin) -> Result<Option<Node>, Box<Problem>> {
    Ok(match form {
        Form::Text => Some(Node::text(text, origin.clone())),
        Form::LogFormat if text.contains("%(") => Some(Node::text(text, origin.clone())),
        Form::LogFormat | Form::List => Some(yaml_part(text, ('[', ']'), "list", origin)?),
        Form::Map => Some(yaml_part(text, ('{', '}'), "map", origin)?),
        Form::Int => int_with_unit(&Value::String(text.to_owned()), None)
            .map(|number| Node::scalar(number.into(), text, origin.clone())),
        Form::Flag => lenient_bool(&Value::String(text.to_owned()))
            .map(|flag| Node::scalar(flag.into(), text, origin.clone())),
    })
}

fn yaml_part(
    text: &str,
    (open, close): (char, char),
    what: &str,
    origin: &Origin,
) -> Result<Node, Box<Problem>> {
    let trimmed = text.trim();
    let block = open == '[' && trimmed.starts_with('-');
    let wrapped = if block || trimmed.starts_with(open) {
        trimmed.to_owned()
    } else {
        format!("{open}{trimmed}{close}")
    };
    let source: Arc<str> = origin.source.clone().unwrap_or_else(|| "environment".into());
    let problem = |reason: String| {
        Box::new(
            Problem::new("", reason)
                .at(origin)
                .help(format!("write a YAML {what}; put items with special characters into quotes")),
        )
    };
    let (mut node, _) = yaml::parse(&wrapped, &source).map_err(|error| problem(error.reason))?;
    if matches!((&node.kind, open), (Kind::List(_), '[') | (Kind::Map(_), '{')) {
        forget_lines(&mut node);
        Ok(node)
    } else {
        Err(problem(format!("is not a YAML {what}")))
    }
}

/// Lines inside a variable tell nobody anything.
fn forget_lines(node: &mut Node) {
    node.origin.line = None;
    match &mut node.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => items.iter_mut().for_each(forget_lines),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.origin.line = None;
            forget_lines(&mut entry.node);
        }),
    }
}
