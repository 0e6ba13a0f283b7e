//! `what-if` and `timing`.

use serde_json::{Value, json};

use crate::{agent::Script, world::World};

async fn outlook(world: &World, words: &[&str]) -> Value {
    let ended = world.bellwether(&[&["what-if", "-f", "json"], words].concat(), &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

#[tokio::test]
async fn the_election_after_the_loss_of_the_leader_is_foretold() {
    let mut world = World::new().await;
    let record = json!({
        "v": 1, "time": "2026-11-22T10:00:04Z", "member": "b", "kind": "failover", "event": "takeover",
        "old_leader": "a", "detect_ms": 20_000, "total_ms": 23_500,
    });
    world.script("b", Script { journal: vec![record], ..Script::default() });
    let told = outlook(&world, &[]).await;
    assert_eq!((&told["lost"], &told["verdict"]), (&json!("a"), &json!("elected")));
    assert_eq!(told["candidates"], json!(["b", "c"]));
    assert_eq!(told["risk"]["bytes_behind"], 0);
    assert_eq!(told["seconds"]["takeover"]["min"], 3.5, "as it was the last time");
    assert_eq!(told["seconds"]["past_takeovers"], 1);

    world.stop("b").await;
    let told = outlook(&world, &["a"]).await;
    assert_eq!(told["candidates"], json!(["c"]));
    assert_eq!(told["members"]["b"]["reasons"][0]["reason"], "member_unreachable");
    let text = world.bellwether(&["what-if"], &[]).await.out;
    for part in [
        "If a were lost now",
        "  leader    c\n",
        "asynchronous",
        "  b  is passed over\n",
        "  c  takes the lock\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[tokio::test]
async fn the_loss_of_a_replica_changes_no_leader() {
    let world = World::new().await;
    let told = outlook(&world, &["b"]).await;
    assert_eq!((&told["verdict"], &told["leader"]), (&json!("leader_stays"), &json!("a")));
    assert_eq!(told["seconds"], Value::Null);
    let text = world.bellwether(&["what-if", "b"], &[]).await.out;
    assert!(text.contains("  leader    a stays\n  commits   go on\n"), "{text}");
}

#[tokio::test]
async fn in_an_embedded_store_of_two_voters_nobody_is_elected() {
    let world = World::new().await;
    let file = world.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("raft:\n", "raft:\n  self_addr: 127.0.0.1:2\n  data_dir: /nowhere\n");
    std::fs::write(&file, text).unwrap();
    let told = outlook(&world, &[]).await;
    assert_eq!((&told["verdict"], &told["store_voters"]), (&json!("nobody"), &json!(2)));
    let text = world.bellwether(&["what-if"], &[]).await.out;
    assert!(text.contains("2 voters"), "{text}");
}

#[tokio::test]
async fn a_member_that_is_not_there_is_refused() {
    let world = World::new().await;
    let ended = world.bellwether(&["what-if", "zz"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.err.contains("no member zz") && ended.err.contains("its members are a, b, c"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn the_measured_speed_tells_which_ttl_is_safe() {
    let mut world = World::new().await;
    world.stop("c").await;
    let ended = world.bellwether(&["timing", "-f", "json"], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&told["ttl"], &told["verdict"]), (&json!(30.0), &json!("fits")), "{told}");
    assert_eq!(told["smallest_ttl"], 6, "a worst answer of 0.36 s, three times: {told}");
    assert_eq!(told["members"][0]["store"]["worst_ms"], 360.0);
    assert!(told["members"][2]["error"].is_string(), "{told}");

    world.put("config", r#"{"ttl":5,"loop_wait":1,"retry_timeout":2}"#).await;
    for name in ["a", "b", "c"] {
        world.change_member(name, json!({"bellwether": {"version": "0.1.0", "level": 1}})).await;
    }
    let text = world.bellwether(&["timing"], &[]).await.out;
    assert!(
        text.contains("ttl 5 is too tight") && text.contains("bellwether edit-config -s ttl=6"),
        "{text}"
    );
}
