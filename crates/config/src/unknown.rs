//! Keys that nobody reads: most often a slip of the keyboard.

use crate::{
    keys::{Applies, Form, Key, ROOT},
    node::{Entry, Kind, Node},
    problem::Problem,
};

/// A warning per key that is unknown, or known to have no effect where it stands.
pub(crate) fn warnings(root: &Node) -> Vec<Problem> {
    let mut warnings = Vec::new();
    walk(root, ROOT, "", &free_names(root), &mut warnings);
    warnings
}

/// Paths of sections that the document itself names: custom ways to bootstrap and to create replicas.
fn free_names(root: &Node) -> Vec<String> {
    let named = |section: &str, key: &str| -> Vec<String> {
        let Some(node) = root.get(section).and_then(|node| node.get(key)) else { return Vec::new() };
        let texts: Vec<&str> = match &node.kind {
            Kind::Scalar(scalar) => scalar.written.split(',').collect(),
            Kind::List(items) => items.iter().filter_map(written).collect(),
            Kind::Map(_) => Vec::new(),
        };
        texts.iter().map(|name| format!("{section}.{}", name.trim())).collect()
    };
    [
        named("bootstrap", "method"),
        named("postgresql", "create_replica_methods"),
        named("postgresql", "create_replica_method"),
    ]
    .concat()
}

fn written(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(&scalar.written),
        _ => None,
    }
}

fn walk(node: &Node, keys: &[Key], path: &str, free: &[String], warnings: &mut Vec<Problem>) {
    for entry in node.entries() {
        let full = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        if free.contains(&full) {
            continue;
        }
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) if key.applies == Applies::Never => {
                let warning =
                    Problem::new(full, "has no effect in a local file: it is set for the whole cluster");
                warnings.push(warning.at(&entry.origin).help(
                    "put it into `bootstrap.dcs` for a new cluster, or run `bellwether edit-config` for a running one",
                ));
            }
            Some(Key { form: Form::Section(inner) | Form::Open(inner), .. }) => {
                walk(&entry.node, inner, &full, free, warnings);
            }
            Some(Key { form: Form::Named(inner, each), .. }) => {
                walk_named(&entry.node, inner, each, &full, free, warnings);
            }
            Some(_) => {}
            // Any name is a tag.
            None if path == "tags" => {}
            // Container platforms make variables for anything called `patroni-...`.
            None if path.is_empty() && entry.origin.line.is_none() => {}
            None => warnings.push(unknown(entry, full, keys)),
        }
    }
}

/// A map is a section under a name of its own; anything else is a setting.
fn walk_named(
    node: &Node,
    keys: &[Key],
    each: &[Key],
    path: &str,
    free: &[String],
    warnings: &mut Vec<Problem>,
) {
    for entry in node.entries() {
        let full = format!("{path}.{}", entry.key);
        match keys.iter().find(|key| key.name == entry.key) {
            Some(Key { form: Form::Section(inner), .. }) => walk(&entry.node, inner, &full, free, warnings),
            Some(_) => {}
            None if entry.node.is_map() => walk(&entry.node, each, &full, free, warnings),
            None => warnings.push(unknown(entry, full, keys)),
        }
    }
}

fn unknown(entry: &Entry, path: String, keys: &[Key]) -> Problem {
    let warning = Problem::new(path, "is not a setting that is known here").at(&entry.origin);
    let names = keys.iter().map(|key| key.name);
    match nearest(&entry.key, names) {
        Some(name) => warning.help(format!("did you mean `{name}`?")),
        None => warning.help("remove it, or check the indentation"),
    }
}

/// The name that a slip of the keyboard most likely meant.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (distance(&written.to_ascii_lowercase(), name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two texts: insert, delete, replace, or swap two neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replace = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn texts(yaml: &str) -> Vec<String> {
        let (node, _) = yaml::parse(yaml, &"t.yml".into()).unwrap();
        warnings(&node).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_name() {
        for (yaml, expected) in [
            (
                "restapi:\n  lisetn: x\n",
                "t.yml:2: restapi.lisetn: is not a setting that is known here\n  help: did you mean `listen`?",
            ),
            (
                "postgrseql: {}\n",
                "t.yml:1: postgrseql: is not a setting that is known here\n  help: did you mean `postgresql`?",
            ),
            (
                "postgresql:\n  authentication:\n    superuser:\n      passwrd: x\n",
                "t.yml:4: postgresql.authentication.superuser.passwrd: is not a setting that is known here\n  help: did you mean `password`?",
            ),
            (
                "raft:\n  zzz: 1\n",
                "t.yml:2: raft.zzz: is not a setting that is known here\n  help: remove it, or check the indentation",
            ),
            (
                "scope: x\nttl: 30\n",
                "t.yml:2: ttl: has no effect in a local file: it is set for the whole cluster\n  help: put it into `bootstrap.dcs` for a new cluster, or run `bellwether edit-config` for a running one",
            ),
        ] {
            assert_eq!(texts(yaml), [expected], "{yaml}");
        }
    }

    #[test]
    fn names_that_the_document_gives_are_known() {
        let known = "tags: {rack: 7}\nbootstrap:\n  method: restore\n  restore: {command: x}\npostgresql:\n  \
                     create_replica_methods: [wal_g, basebackup]\n  wal_g: {command: y}\n";
        assert_eq!(texts(known), Vec::<String>::new());
    }
}
