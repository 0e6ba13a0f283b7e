//! `remove`.

use crate::world::World;

#[tokio::test]
async fn a_cluster_is_removed_only_after_every_question() {
    let world = World::new().await;
    for (answers, err) in [
        (&["other"][..], "Error: Cluster names specified do not match\n"),
        (&["demo", "yes"], "Error: You did not exactly type \"Yes I am aware\"\n"),
        (&["demo", "Yes I am aware", "b"], "Error: You did not specify the current leader of the cluster\n"),
        (&["demo", "Yes I am aware"], "Aborted!\n"),
    ] {
        let ended = world.patronictl(&["remove", "demo"], answers).await;
        assert_eq!((ended.status, ended.err.as_str()), (1, err), "{answers:?}");
        assert!(world.get("leader").await.is_some());
    }
    let ended = world.patronictl(&["remove", "demo"], &["demo", "Yes I am aware", "a"]).await;
    assert_eq!(ended.status, 0, "{ended:?}");
    let prompts = "Please confirm the cluster name to remove: You are about to remove all information in DCS for demo, \
                   please type: \"Yes I am aware\": This cluster currently is healthy. Please specify the leader name to \
                   continue: ";
    assert!(ended.out.ends_with(prompts), "{}", ended.out);
    for key in ["leader", "initialize", "config", "members/a"] {
        assert_eq!(world.get(key).await, None, "{key}");
    }
}
