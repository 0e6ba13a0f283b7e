//! `explain`.

use serde_json::{Value, json};

use crate::{agent::Script, world::World};

fn records(member: &str) -> Vec<Value> {
    let record = |second: &str, kind: &str, fields: Value| {
        let mut record =
            json!({"v": 1, "time": format!("2026-11-22T10:00:{second}Z"), "member": member, "kind": kind});
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        record
    };
    match member {
        "b" => vec![
            record(
                "04.520",
                "decision",
                json!({"reason": "acquiring_lock", "sentence": "trying to acquire the leader lock",
                                                 "also": [], "actions": ["AcquireLease"], "seen": {"lsn": "0/3000000", "timeline": 5}}),
            ),
            record(
                "04.605",
                "failover",
                json!({"event": "takeover", "old_leader": "a", "detect_ms": 4500, "total_ms": 4605}),
            ),
        ],
        _ => vec![record(
            "04.510",
            "decision",
            json!({"reason": "peer_ahead", "sentence": "Wal position of b is ahead of my wal position",
                                                       "also": [], "actions": []}),
        )],
    }
}

async fn world() -> World {
    let world = World::new().await;
    for name in ["b", "c"] {
        world.script(name, Script { journal: records(name), ..Script::default() });
    }
    world
}

#[tokio::test]
async fn the_journals_of_all_members_make_one_story() {
    let mut world = world().await;
    world.stop("a").await;
    let ended = world.bellwether(&["explain"], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    for part in [
        "b took over from a, writable again after 4.605 s",
        "    detect     4500 ms  ",
        "    c  Wal position of b is ahead of my wal position",
        "acquiring_lock: trying to acquire the leader lock -> AcquireLease",
    ] {
        assert!(ended.out.contains(part), "{part} in\n{}", ended.out);
    }
    assert!(ended.err.contains("the journal of a is missing in this story: "), "{}", ended.err);
}

#[tokio::test]
async fn a_dead_member_tells_its_last_changes_of_role_from_the_store() {
    let mut world = world().await;
    let left = |member: &str, reason: &str| {
        let record = json!({
            "v": 1, "time": "2026-11-22T09:59:00Z", "member": member, "kind": "decision", "reason": reason,
            "sentence": format!("sentence of {member}"), "actions": ["Promote"],
        });
        json!({"v": 1, "records": [record]}).to_string()
    };
    for (name, reason) in [("a", "promoted_having_lock"), ("b", "bootstrap_started"), ("gone", "handed_over")]
    {
        world.put(&format!("bellwether/journal/{name}"), &left(name, reason)).await;
    }
    world.put("bellwether/journal/future", r#"{"v":2,"records":[]}"#).await;
    world.stop("a").await;
    let ended = world.bellwether(&["explain"], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("sentence of a") && ended.out.contains("sentence of gone"), "{}", ended.out);
    assert!(!ended.out.contains("sentence of b"), "b has told more itself:\n{}", ended.out);
    assert!(ended.err.contains("of the journal of a only the last changes of role"), "{}", ended.err);
    assert!(!ended.err.contains("future"), "{}", ended.err);

    let ended = world.bellwether(&["explain", "-f", "json", "--member", "a"], &[]).await;
    let story: Value = serde_json::from_str(&ended.out).unwrap();
    let sources = story["sources"].as_array().unwrap();
    assert_eq!((sources.len(), &sources[0]["from"], &sources[0]["records"]), (1, &json!("store"), &json!(1)));
}

#[tokio::test]
async fn json_has_a_version_and_names_its_sources() {
    let world = world().await;
    let ended = world.bellwether(&["explain", "-f", "json", "--last", "1"], &[]).await;
    let story: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(story["version"], 1);
    assert_eq!(story["sources"][1], json!({"name": "b", "records": 2}));
    assert_eq!(story["events"][0]["new_leader"], "b");
    assert_eq!(story["events"][0]["budget"], json!({"detect_ms": 4500, "total_ms": 4605}));
}

#[tokio::test]
async fn members_and_times_narrow_the_story() {
    let world = world().await;
    let only_c = world.bellwether(&["explain", "--member", "c"], &[]).await;
    assert!(!only_c.out.contains("took over") && only_c.out.contains("peer_ahead"), "{}", only_c.out);
    let later = world.bellwether(&["explain", "--since", "2026-11-22T10:00:05Z"], &[]).await;
    assert_eq!((later.status, later.out.as_str()), (0, ""));
    assert!(later.err.contains("Nothing to tell"), "{}", later.err);
}

#[tokio::test]
async fn files_serve_when_nobody_answers() {
    let world = World::new().await;
    let dir = world.dir.path().join("journal");
    std::fs::create_dir(&dir).unwrap();
    let lines = |records: &[Value]| records.iter().map(|record| format!("{record}\n")).collect::<String>();
    let all = records("b");
    std::fs::write(dir.join("journal.1.jsonl"), lines(&all[..1])).unwrap();
    std::fs::write(dir.join("journal.jsonl"), lines(&all[1..]) + "{\"kind\": \"torn").unwrap();
    let ended = world.bellwether(&["explain", "down", "--dir", dir.to_str().unwrap()], &[]).await;
    assert!(ended.out.contains("b took over from a") && ended.out.contains("acquiring_lock"), "{ended:?}");
    let ended = world.bellwether(&["explain", "--dir", "/nowhere"], &[]).await;
    assert_eq!(ended.status, 1);
    let ended = world.bellwether(&["explain", "down"], &[]).await;
    assert!(ended.err.contains("explain --dir DIR"), "{}", ended.err);
}
