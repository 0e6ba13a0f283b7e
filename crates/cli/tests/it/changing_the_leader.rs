//! `switchover` and `failover`.

use bellwether_api::control::SwitchoverOutcome;

use crate::{agent::Script, world::World};

#[tokio::test]
async fn a_switchover_asks_what_patronis_users_know() {
    let world = World::new().await;
    let ended = world.patronictl(&["switchover"], &["", "b", "", "y"]).await;
    assert_eq!(ended.status, 0, "{ended:?}");
    let out = &ended.out;
    assert!(out.starts_with("Current cluster topology\n+ Cluster: demo "), "{out}");
    assert!(
        out.contains("Primary [a]: Candidate ['b', 'c'] []: When should the switchover take place (e.g. "),
        "{out}"
    );
    assert!(
        out.contains(
            " )  [now]: Are you sure you want to switchover cluster demo, demoting current leader a? [y/N]: "
        ),
        "{out}"
    );
    assert!(out.contains(" Successfully switched over to \"b\"\n+ Cluster: demo "), "{out}");
    assert_eq!(world.asked(), ["a: Switchover from a to b by ann"]);
    assert_eq!(ended.err, "");
}

#[tokio::test]
async fn our_manner_verifies_and_keeps_standard_output_for_data() {
    let world = World::new().await;
    let ended = world.bellwether(&["switchover", "--candidate", "c", "--yes"], &[]).await;
    assert_eq!((ended.status, ended.out.as_str()), (0, ""), "{ended:?}");
    assert!(ended.err.ends_with("Verified: c leads on timeline 6\n"), "{}", ended.err);
    assert_eq!(world.cluster().await.leader_name().unwrap().as_str(), "c");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    for (words, answers, err) in [
        (&["switchover", "--leader", "b"][..], &[][..], "Member b is not the leader of cluster demo"),
        (
            &["switchover", "--candidate", "a", "--force"],
            &[],
            "Member a is already the leader of cluster demo",
        ),
        (
            &["switchover", "--candidate", "x", "--force"],
            &[],
            "Member x does not exist in cluster demo or is tagged as nofailover",
        ),
        (
            &["switchover", "--force", "--scheduled", "soon"],
            &[],
            "Unable to parse scheduled timestamp (soon). It should be in an unambiguous format (e.g. ISO 8601)",
        ),
        (&["switchover", "--scheduled", "now"], &["a", "b", "n"], "Aborting switchover"),
        (
            &["switchover", "--scheduled", "2030-01-01T00:00+00:00"],
            &["a", "b", "n"],
            "Aborting scheduled switchover",
        ),
        (&["failover", "--force"], &[], "Failover could be performed only to a specific candidate"),
        (&["failover", "--candidate", "b"], &["n"], "Aborting failover"),
    ] {
        let ended = world.patronictl(words, answers).await;
        assert_eq!((ended.status, ended.err), (1, format!("Error: {err}\n")), "{words:?}");
    }
    let ended = world.patronictl(&["switchover"], &["a"]).await;
    assert_eq!((ended.status, ended.err.as_str()), (1, "Aborted!\n"), "the input ended in a prompt");
    assert_eq!(world.asked(), [""; 0]);
    world.delete("leader").await;
    let ended = world.patronictl(&["switchover", "--force"], &[]).await;
    assert_eq!(ended.err, "Error: This cluster has no leader\n");
}

#[tokio::test]
async fn a_cluster_without_candidates_cannot_switch_over() {
    let world = World::new().await;
    for name in ["b", "c"] {
        world.change_member(name, serde_json::json!({"tags": {"nofailover": true}})).await;
    }
    let ended = world.patronictl(&["switchover", "--force"], &[]).await;
    assert_eq!((ended.status, ended.err.as_str()), (1, "Error: No candidates found to switchover to\n"));
}

#[tokio::test]
async fn in_pause_nothing_can_be_scheduled() {
    let world = World::new().await;
    world.put("config", r#"{"pause":true}"#).await;
    let ended =
        world.patronictl(&["switchover", "--force", "--scheduled", "2030-01-01T00:00+00:00"], &[]).await;
    assert_eq!(
        (ended.status, ended.err.as_str()),
        (1, "Error: Can't schedule switchover in the paused state\n")
    );
}

#[tokio::test]
async fn a_refusal_is_reported_and_only_our_manner_fails() {
    let world = World::new().await;
    let refusal = || Script { switchover: Some(SwitchoverOutcome::Failed), ..Script::default() };
    world.script("a", refusal());
    let ended = world.patronictl(&["switchover", "--force"], &[]).await;
    assert_eq!(ended.status, 0);
    assert!(ended.out.ends_with("+\nSwitchover failed, details: 503, Switchover failed\n"), "{}", ended.out);
    assert_eq!(world.bellwether(&["switchover", "--yes"], &[]).await.status, 1);

    world.script(
        "a",
        Script { switchover: Some(SwitchoverOutcome::Unknown { after_secs: 20 }), ..Script::default() },
    );
    let ended = world.bellwether(&["switchover", "--yes"], &[]).await;
    assert_eq!(ended.status, 3, "sent, outcome not confirmed");
    assert!(ended.err.contains("Switchover result unknown, details: 503, "), "{}", ended.err);
}

#[tokio::test]
async fn without_an_api_the_request_goes_into_the_store() {
    let mut world = World::new().await;
    world.stop("a").await;
    let ended = world.patronictl(&["switchover", "--candidate", "b", "--force"], &[]).await;
    assert_eq!(ended.status, 0);
    assert!(
        ended.out.contains(" Could not switchover using Patroni api, falling back to DCS\n+ Cluster"),
        "{}",
        ended.out
    );
    assert_eq!(world.get("failover").await.unwrap(), r#"{"leader":"a","member":"b"}"#);
    assert_eq!(world.asked(), [""; 0]);
    let ended = world.bellwether(&["failover", "--candidate", "c", "--yes"], &[]).await;
    assert_eq!(ended.status, 3, "nobody has confirmed it");
    assert_eq!(world.get("failover").await.unwrap(), r#"{"member":"c"}"#);
}

#[tokio::test]
async fn a_failover_without_a_leader_goes_to_the_candidate() {
    let world = World::new().await;
    world.delete("leader").await;
    let ended = world.patronictl(&["failover", "--candidate", "c"], &["y"]).await;
    assert!(ended.out.contains("Are you sure you want to failover cluster demo? [y/N]: "), "{}", ended.out);
    assert_eq!(world.asked(), ["c: Failover from nobody to c by ann"]);
}

#[tokio::test]
async fn a_failover_to_an_asynchronous_node_asks_once_more() {
    let world = World::new().await;
    world.put("config", r#"{"synchronous_mode":true}"#).await;
    world.put("sync", r#"{"leader":"a","quorum":0,"sync_standby":"b"}"#).await;
    let question = "Are you sure you want to failover to the asynchronous node c? [y/N]: ";
    let ended = world.patronictl(&["failover", "--candidate", "c"], &["n"]).await;
    assert!(ended.out.ends_with(question), "{}", ended.out);
    assert_eq!(ended.err, "Error: Aborting failover\n");
    let ended = world.patronictl(&["failover", "--candidate", "b"], &["n"]).await;
    assert!(!ended.out.contains("asynchronous"), "{}", ended.out);
}

#[tokio::test]
async fn a_scheduled_switchover_says_so() {
    let world = World::new().await;
    let words = ["switchover", "--candidate", "b", "--scheduled", "2036-01-01T00:00:00+00:00"];
    let ended = world.patronictl(&words, &["a", "y"]).await;
    let question = "Are you sure you want to schedule switchover of cluster demo at 2036-01-01T00:00:00+00:00, \
                    demoting current leader a? [y/N]: ";
    assert!(ended.out.contains(question), "{}", ended.out);
    assert!(ended.out.contains(" Switchover scheduled\n"), "{}", ended.out);
}
