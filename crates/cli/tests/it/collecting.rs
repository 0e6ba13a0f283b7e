//! `support-bundle`.

use std::{os::unix::fs::PermissionsExt, process::Command};

use serde_json::json;

use crate::{
    agent::Script,
    world::{API_PASSWORD, STORE_PASSWORD, World},
};

#[tokio::test]
async fn a_bundle_has_everything_but_the_secrets() {
    let mut world = World::new().await;
    world
        .put("config", &json!({"ttl": 30, "postgresql": {"parameters": {"primary_conninfo": "host=x password=hidden-one"}}, "note": STORE_PASSWORD}).to_string())
        .await;
    let record = json!({"time": "2026-11-22T10:00:00Z", "member": "a", "kind": "configuration",
                        "document": {"password": "hidden-two", "url": format!("http://u:hidden-three@h/{API_PASSWORD}")}});
    world.script("a", Script { journal: vec![record], ..Script::default() });
    world.stop("c").await;
    let path = world.dir.path().join("bundle.tar");
    let ended = world.bellwether(&["support-bundle", "-o", path.to_str().unwrap()], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert_eq!(ended.out, format!("{}\n", path.display()));
    assert!(ended.err.contains("[redacted]") && ended.err.contains("missing: c: "), "{}", ended.err);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for secret in [STORE_PASSWORD, API_PASSWORD, "hidden-one", "hidden-two", "hidden-three"] {
        assert!(!text.contains(secret), "{secret} is in the bundle");
    }
    let listed = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in [
        "README.txt",
        "version.txt",
        "configuration.yml",
        "cluster.txt",
        "store.json",
        "members/a/status.json",
        "members/a/journal.jsonl",
        "members/b/metrics.txt",
        "problems.txt",
    ] {
        assert!(names.lines().any(|line| line == name), "{name} in\n{names}");
    }
    assert!(text.contains("host=x password=[redacted]"), "what is no secret stays readable");

    let again = world.bellwether(&["support-bundle", "-o", path.to_str().unwrap()], &[]).await;
    assert_eq!(again.status, 1, "an existing file is not overwritten");
}

#[tokio::test]
async fn a_bundle_is_made_without_a_store_too() {
    let world = World::new().await;
    let path = world.dir.path().join("bundle.tar");
    let ended = world.bellwether(&["support-bundle", "down", "-o", path.to_str().unwrap()], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.err.contains("missing: the store could not be read"), "{}", ended.err);
}
