//! `show-config`, `edit-config`, `pause`, `resume`.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::{screen::Screen, world::World};

#[tokio::test]
async fn show_config_prints_yaml() {
    let world = World::new().await;
    let out = world.patronictl(&["show-config"], &[]).await.out;
    assert_eq!(out, "loop_wait: 10\npostgresql:\n  parameters:\n    work_mem: 4MB\nttl: 30\n\n");
}

#[tokio::test]
async fn edit_config_shows_the_difference_asks_and_writes() {
    let world = World::new().await;
    let ended = world.patronictl(&["edit-config", "-s", "ttl=20", "-p", "work_mem=8MB"], &["y"]).await;
    let expected = "\
--- 
+++ 
@@ -1,5 +1,5 @@
 loop_wait: 10
 postgresql:
   parameters:
-    work_mem: 4MB
-ttl: 30
+    work_mem: 8MB
+ttl: 20
Apply these changes? [y/N]: Configuration changed
";
    assert_eq!((ended.status, ended.out.as_str()), (0, expected));
    let stored = r#"{"ttl":20,"loop_wait":10,"postgresql":{"parameters":{"work_mem":"8MB"}}}"#;
    assert_eq!(world.get("config").await.unwrap(), stored);
    let ended = world.bellwether(&["edit-config", "-s", "ttl='20'"], &[]).await;
    assert_eq!(ended.out, "Not changed\n", "a value of another type with the same text is no change");
    world.patronictl(&["edit-config", "-s", "ttl=99"], &["n"]).await;
    assert_eq!(world.get("config").await.unwrap(), stored, "the answer was no");
}

#[tokio::test]
async fn files_and_standard_input_are_applied_or_replace_the_document() {
    let world = World::new().await;
    let file = world.dir.path().join("change.yml");
    std::fs::write(&file, "ttl: null\npostgresql:\n  use_pg_rewind: on\n").unwrap();
    let file = file.to_str().unwrap();
    let ended = world.patronictl(&["edit-config", "-q", "--force", "--apply", file], &[]).await;
    assert_eq!(ended.out, "Configuration changed\n");
    let stored = r#"{"loop_wait":10,"postgresql":{"parameters":{"work_mem":"4MB"},"use_pg_rewind":true}}"#;
    assert_eq!(world.get("config").await.unwrap(), stored);

    let ended =
        world.bellwether_at(&["edit-config", "--replace", "-"], Screen::with_input("ttl: 25\n")).await;
    assert!(ended.out.ends_with("Use --force option to apply changes\n"), "{}", ended.out);
    assert_eq!(world.get("config").await.unwrap(), stored);
    world.bellwether_at(&["edit-config", "--replace", "-", "--yes"], Screen::with_input("ttl: 25\n")).await;
    assert_eq!(world.get("config").await.unwrap(), r#"{"ttl":25}"#);
}

#[tokio::test]
async fn an_editor_changes_the_document() {
    let mut world = World::new().await;
    let editor = world.dir.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/^ttl: 30$/ttl: 40/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.set_env("EDITOR", editor.to_str().unwrap());
    let ended = world.patronictl(&["edit-config"], &["yes"]).await;
    assert!(ended.out.contains("-ttl: 30\n+ttl: 40\n"), "{ended:?}");
    assert!(world.get("config").await.unwrap().contains(r#""ttl":40"#));
    world.set_env("EDITOR", "exit 3;");
    let ended = world.patronictl(&["edit-config"], &[]).await;
    assert_eq!(ended.err, "Error: Editor exited with return code 3\n");
    world.set_env("EDITOR", "");
    let ended = world.patronictl(&["edit-config"], &[]).await;
    assert_eq!(ended.err, "Error: EDITOR environment variable is not set. editor or vi are not available\n");
}

#[tokio::test]
async fn a_document_that_no_agent_would_use_is_not_written_by_our_manner() {
    let world = World::new().await;
    let ended = world.bellwether(&["edit-config", "-s", "ttl=soon", "--yes"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("ttl") && ended.err.contains("  help: "), "{}", ended.err);
    assert!(world.get("config").await.unwrap().contains(r#""ttl":30"#));
    world.delete("config").await;
    let ended = world.patronictl(&["edit-config", "-s", "ttl=1"], &[]).await;
    assert_eq!(ended.err, "Error: The config key does not exist in the cluster demo\n");
    assert_eq!(world.patronictl(&["show-config"], &[]).await.out, "");
}

#[tokio::test]
async fn pause_and_resume_go_through_a_member() {
    let world = World::new().await;
    let ended = world.patronictl(&["pause"], &[]).await;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (0, "Success: cluster management is paused\n"),
        "{ended:?}"
    );
    assert_eq!(world.asked(), [r#"a: patch {"pause":true}"#]);
    assert_eq!(world.patronictl(&["pause"], &[]).await.err, "Error: Cluster is already paused\n");
    let ended = world.patronictl(&["resume", "--wait"], &[]).await;
    assert_eq!(
        ended.out,
        "'resume' request sent, waiting until it is recognized by all nodes\nSuccess: cluster management is resumed\n"
    );
    assert_eq!(world.patronictl(&["resume"], &[]).await.err, "Error: Cluster is not paused\n");
}

#[tokio::test]
async fn resume_refuses_while_a_running_primary_has_no_agent_that_saw_the_pause() {
    let world = World::new().await;
    world.bellwether(&["pause"], &[]).await;
    world.change_member("a", json!({"pause": false})).await;
    let ended = world.bellwether(&["resume"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("the agent of the running primary a has not seen the pause"), "{}", ended.err);
    assert_eq!(world.bellwether(&["resume", "--force"], &[]).await.status, 0);
}

#[tokio::test]
async fn without_any_member_there_is_nobody_to_pause() {
    let mut world = World::new().await;
    for name in ["a", "b", "c"] {
        world.stop(name).await;
    }
    let ended = world.patronictl(&["pause"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains(" - WARNING - Member c is not accessible\n"), "{}", ended.err);
    assert!(ended.err.ends_with("\nError: Can not find accessible cluster member\n"), "{}", ended.err);
}

#[tokio::test]
async fn members_are_taken_out_of_routing_and_brought_back() {
    let world = World::new().await;
    let ended = world.bellwether(&["drain", "b"], &[]).await;
    let success = "Success: b takes no new readers; those that are there may stay\n";
    assert_eq!((ended.status, ended.out.as_str()), (0, success), "{}", ended.err);
    assert_eq!(world.asked(), [r#"a: patch {"routing":{"b":"drain"}}"#]);
    let list = world.bellwether(&["list"], &[]).await.out;
    assert!(list.lines().any(|line| line.contains("| b ") && line.contains("routing: drain")), "{list}");
    world.bellwether(&["maint", "b"], &[]).await;
    assert!(world.get("config").await.unwrap().contains(r#""routing":{"b":"maint"}"#));

    // A leader keeps its clients.
    let ended = world.bellwether(&["maint", "a"], &[]).await;
    assert!(ended.status == 1 && ended.err.contains("a is the leader"), "{}", ended.err);
    assert_eq!(world.bellwether(&["maint", "a", "--force"], &[]).await.status, 0);
    let ended = world.bellwether(&["drain", "x"], &[]).await;
    assert!(ended.status == 1 && ended.err.contains("there is no member x"), "{}", ended.err);

    for member in ["a", "b"] {
        assert_eq!(world.bellwether(&["ready", member], &[]).await.status, 0);
    }
    assert!(!world.get("config").await.unwrap().contains("maint"));
    assert!(!world.bellwether(&["list"], &[]).await.out.contains("routing"));
}
