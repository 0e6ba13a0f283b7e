//! `restart`, `reload`, `reinit`, `flush`.

use bellwether_api::control::{ReinitOutcome, RestartOutcome};
use serde_json::json;

use crate::{agent::Script, world::World};

fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

#[tokio::test]
async fn restart_asks_and_tells_each_result() {
    let world = World::new().await;
    world.script("c", Script { restart: Some(RestartOutcome::Failed), ..Script::default() });
    let ended = world.patronictl(&["restart", "demo", "a", "c"], &["now", "y", ""]).await;
    assert_eq!(ended.status, 0);
    let out = &ended.out;
    assert!(out.contains("When should the restart take place (e.g. "), "{out}");
    assert!(out.contains("Are you sure you want to restart members a, c? [y/N]: "), "{out}");
    assert!(
        out.ends_with(
            "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)  []: Success: restart on member a\n\
             Failed: restart for member c, status code=503, (restart failed)\n"
        ),
        "{out}"
    );
    assert_eq!(world.asked(), ["a: restart {}", "c: restart {}"]);
    assert_eq!(
        world.bellwether(&["restart", "c", "--yes"], &[]).await.status,
        1,
        "the cluster may be left out"
    );
}

#[tokio::test]
async fn our_manner_looks_whether_postgresql_runs_again() {
    let world = World::new().await;
    let ended = world.bellwether(&["restart", "b", "--yes"], &[]).await;
    assert_eq!((ended.status, ended.out.as_str()), (0, "Success: restart on member b\n"));
    let verified = "Verified: PostgreSQL on b runs since 2026-11-21 09:30:00.250000+00:00\n";
    assert!(ended.err.ends_with(verified), "{}", ended.err);
}

#[tokio::test]
async fn a_restart_can_be_scheduled_with_conditions() {
    let world = World::new().await;
    world
        .change_member(
            "b",
            serde_json::json!({"scheduled_restart": {"schedule": "2035-01-01T00:00:00+00:00"}}),
        )
        .await;
    let words = [
        "restart",
        "demo",
        "-r",
        "replica",
        "--scheduled",
        "2036-01-01T00:00+00:00",
        "--pg-version",
        "16.1",
        "--force",
    ];
    let ended = world.patronictl(&words, &[]).await;
    assert_eq!(
        last_lines(&ended.out, 2),
        ["Success: restart scheduled on member b", "Success: restart scheduled on member c"]
    );
    let asked = world.asked();
    assert_eq!(asked[0], "b: delete restart", "an old schedule is replaced");
    assert!(
        asked[1].contains(r#""postgres_version":"16.1""#) && asked[1].contains("2036-01-01T00:00:00"),
        "{asked:?}"
    );
    world.script("b", Script { restart: Some(RestartOutcome::AlreadyScheduled), ..Script::default() });
    let ended = world
        .patronictl(&["restart", "demo", "b", "--scheduled", "2036-01-01T00:00+00:00"], &["y", ""])
        .await;
    let last = "[]: Failed: another restart is already scheduled on member b\n";
    assert!(ended.out.ends_with(last), "{}", ended.out);
}

#[tokio::test]
async fn who_is_not_meant_is_not_restarted() {
    let world = World::new().await;
    for (words, answers, err) in [
        (&["restart", "demo", "x", "--force"][..], &[][..], "No 'any' among provided members"),
        (&["restart", "demo", "a", "-r", "replica", "--force"], &[], "No 'replica' among provided members"),
        (&["reinit", "demo", "a", "--force"], &[], "No replica among provided members"),
        (&["restart", "empty", "--force"], &[], "empty cluster doesn't have any members"),
        (
            &["restart", "demo", "--pg-version", "16", "--force"],
            &[],
            "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 16",
        ),
        (&["restart", "demo"], &["now", "n"], "Aborted restart"),
        (&["restart", "demo", "--scheduled", "2036-01-01T00:00Z"], &["n"], "Aborted scheduled restart"),
    ] {
        let ended = world.patronictl(words, answers).await;
        assert_eq!((ended.status, ended.err), (1, format!("Error: {err}\n")), "{words:?}");
    }
    assert_eq!(world.asked(), [""; 0]);
}

#[tokio::test]
async fn any_restarts_exactly_one() {
    let world = World::new().await;
    world.patronictl(&["restart", "demo", "--any", "--force"], &[]).await;
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn reload_tells_when_it_happens() {
    let mut world = World::new().await;
    world.stop("c").await;
    let ended = world.patronictl(&["reload", "demo"], &["y"]).await;
    let lines = last_lines(&ended.out, 3);
    assert!(lines[0].ends_with("Are you sure you want to reload members a, b, c? [y/N]: Reload request received for member a and will be processed within 10 seconds"), "{lines:?}");
    assert!(lines[2].starts_with("Failed: reload for member c, "), "{lines:?}");
    assert_eq!(ended.status, 1, "as where Patroni's tool breaks off");
    assert_eq!(world.bellwether(&["reload", "--yes"], &[]).await.status, 1);
}

#[tokio::test]
async fn reinit_asks_for_a_member_and_can_cancel_what_runs() {
    let world = World::new().await;
    world.script(
        "b",
        Script {
            reinit: Some(ReinitOutcome::Refused { why: "reinitialize already in progress".to_owned() }),
            ..Script::default()
        },
    );
    let ended = world.patronictl(&["reinit", "demo"], &["b", "y", "y"]).await;
    let out = &ended.out;
    assert!(out.contains("Which member do you want to reinitialize [b, c]? []: "), "{out}");
    assert!(out.contains("Are you sure you want to reinitialize members b? [y/N]: "), "{out}");
    assert!(
        out.ends_with(
            "Failed: reinitialize for member b, status code=503, (reinitialize already in progress)\n\
         Do you want to cancel it and reinitialize anyway? [y/N]: Success: reinitialize for member b\n"
        ),
        "{out}"
    );
    assert_eq!(
        world.asked(),
        ["b: reinitialize force=false from_leader=false", "b: reinitialize force=true from_leader=false"]
    );
    let ended = world.patronictl(&["reinit", "demo"], &["a"]).await;
    assert_eq!(ended.err, "Error: a is not a member of cluster\n");
    let ended = world.patronictl(&["reinit", "demo", "--force"], &[]).await;
    assert_eq!((ended.status, world.asked().len()), (0, 2), "nobody was named, nothing is done");
}

#[tokio::test]
async fn flush_discards_what_is_scheduled() {
    let mut world = World::new().await;
    assert_eq!(
        world.patronictl(&["flush", "demo", "switchover"], &[]).await.out,
        "No pending scheduled switchover\n"
    );
    let scheduled = r#"{"leader":"a","member":"b","scheduled_at":"2036-01-01T00:00:00+00:00"}"#;
    world.put("failover", scheduled).await;
    let ended = world.patronictl(&["flush", "demo", "switchover"], &[]).await;
    assert_eq!(ended.out, "Success: scheduled switchover deleted\n");
    assert_eq!(world.get("failover").await.unwrap(), "{}");

    world.change_member("b", json!({"scheduled_restart": {"schedule": "2036-01-01T00:00:00+00:00"}})).await;
    let ended = world.patronictl(&["flush", "demo", "a", "b", "restart", "--force"], &[]).await;
    assert_eq!(
        last_lines(&ended.out, 2),
        ["No scheduled restart for member a", "Success: flush scheduled restart for member b"]
    );

    world.put("failover", scheduled).await;
    for name in ["a", "b", "c"] {
        world.stop(name).await;
    }
    let ended = world.patronictl(&["flush", "demo", "switchover"], &[]).await;
    assert!(ended.out.ends_with(" Could not find any accessible member of cluster demo\n"), "{}", ended.out);
    assert_eq!(world.get("failover").await.unwrap(), "{}", "the key is cleared directly");
}
