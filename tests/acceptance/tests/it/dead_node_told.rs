//! A node is gone for good, files and all: the store still tells what it did last, and which level the cluster has. Who would take its
//! place was foretold.

use std::time::Duration;

use bellwether_acceptance::{
    Cluster, Node, PATIENCE, binary, eventually,
    run::{Ended, to_the_end},
};
use serde_json::Value;

fn bellwether(node: &Node, words: &[&str]) -> Ended {
    let mut command = binary::bellwether(node.account);
    command.arg("-c").arg(node.configuration()).args(words).current_dir(&node.dir);
    to_the_end(command, Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_leader_did_last_is_told_from_the_store() {
    let cluster = Cluster::start(3).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let key = format!("bellwether/journal/{}", old.name);
    eventually("the leader has left its changes of role in the store", PATIENCE, || async {
        let ended = bellwether(old, &["dcs", "get", &key]);
        if ended.text.contains("\"Bootstrap\"") { Ok(()) } else { Err(ended.text) }
    })
    .await;
    eventually("the leader has left the level of all members in the store", PATIENCE, || async {
        let ended = bellwether(old, &["dcs", "status"]);
        let told = ended.text.contains("feature level that all members understand: 1");
        if told { Ok(()) } else { Err(ended.text) }
    })
    .await;

    let foretold = eventually("what-if knows two members that could lead", PATIENCE, || async {
        let ended = bellwether(old, &["what-if", "-f", "json"]);
        let outlook: Value = serde_json::from_str(ended.text.lines().next().unwrap_or_default())
            .map_err(|error| format!("{error}: {}", ended.text))?;
        // The last records may still be on their way to one of them.
        let is_settled = outlook["candidates"].as_array().is_some_and(|candidates| candidates.len() == 2);
        if is_settled { Ok(outlook) } else { Err(ended.text) }
    })
    .await;
    assert_eq!(foretold["lost"], old.name.as_str());
    assert_eq!(foretold["risk"]["acknowledged_commits_are_safe"], true, "{foretold}");

    old.kill_tree();
    let new = cluster.successor_of(old).await;
    let candidates = foretold["candidates"].as_array().expect("a list");
    assert!(candidates.contains(&new.name.as_str().into()), "{} was not foretold: {foretold}", new.name);
    let story = eventually("the story is told without the dead node", PATIENCE, || async {
        let ended = bellwether(new, &["explain"]);
        let took_over = format!("{} took over from {}", new.name, old.name);
        if ended.text.contains(&took_over) { Ok(ended) } else { Err(ended.text) }
    })
    .await;
    story.says(&format!("of the journal of {} only the last changes of role", old.name));
    story.says("trying to bootstrap a new cluster");
}
