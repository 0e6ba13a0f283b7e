//! Old spellings, rewritten into today's before anything is read.

use crate::node::{Kind, Node};

const ROLES: [(&str, &str); 3] =
    [("superuser", "superuser"), ("replication", "replication"), ("pg_rewind", "rewind")];

/// Rewrites the layouts that Patroni still accepts.
pub(crate) fn modernise(root: &mut Node) {
    modernise_restapi(root);
    modernise_postgresql(root);
    if let Some(exhibitor) = child_mut(root, "zookeeper").and_then(|zookeeper| zookeeper.remove("exhibitor"))
        && root.get("exhibitor").is_none()
    {
        root.insert("exhibitor", exhibitor);
        root.remove("zookeeper");
    }
}

/// `restapi.auth: user:password`.
fn modernise_restapi(root: &mut Node) {
    let Some(restapi) = child_mut(root, "restapi") else { return };
    let Some(auth) = restapi.remove("auth") else { return };
    let Kind::Scalar(scalar) = &auth.kind else { return };
    if let Some((username, password)) = scalar.written.split_once(':')
        && restapi.get("authentication").is_none()
    {
        restapi.insert_at(&["authentication", "username"], Node::text(username, auth.origin.clone()));
        restapi.insert_at(&["authentication", "password"], Node::text(password, auth.origin.clone()));
    }
}

/// Roles beside `authentication` instead of in it, and `postgresql.name`.
fn modernise_postgresql(root: &mut Node) {
    let Some(postgresql) = child_mut(root, "postgresql") else { return };
    if postgresql.get("authentication").is_none() {
        let rewinds = postgresql.get("pg_rewind").cloned();
        for (old, new) in ROLES {
            if let Some(role) = postgresql.remove(old) {
                postgresql.insert_at(&["authentication", new], role);
            }
        }
        if let Some(rewind) = rewinds
            && postgresql.get("use_pg_rewind").is_none()
        {
            postgresql.insert("use_pg_rewind", Node::scalar(true.into(), "true", rewind.origin));
        }
    }
    let name = postgresql.remove("name");
    if let Some(name) = name
        && root.get("name").is_none()
    {
        root.insert("name", name);
    }
}

fn child_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Kind::Map(entries) = &mut node.kind else { return None };
    let entry = entries.iter_mut().find(|entry| entry.key == key)?;
    entry.node.is_map().then_some(&mut entry.node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml;

    #[test]
    fn old_layouts_become_new_ones() {
        for (old, new) in [
            (
                "restapi: {auth: 'a:b:c'}",
                json!({"restapi": {"authentication": {"username": "a", "password": "b:c"}}}),
            ),
            ("postgresql: {name: x}", json!({"postgresql": {}, "name": "x"})),
            ("{name: y, postgresql: {name: x}}", json!({"name": "y", "postgresql": {}})),
            (
                "postgresql: {superuser: {username: s}, replication: {username: r}, pg_rewind: {username: w}}",
                json!({"postgresql": {
                    "authentication": {"superuser": {"username": "s"}, "replication": {"username": "r"}, "rewind": {"username": "w"}},
                    "use_pg_rewind": true
                }}),
            ),
            ("zookeeper: {exhibitor: {port: 1}}", json!({"exhibitor": {"port": 1}})),
        ] {
            let (mut node, _) = yaml::parse(old, &"t.yml".into()).unwrap();
            modernise(&mut node);
            assert_eq!(node.to_value(), new, "{old}");
        }
    }
}
