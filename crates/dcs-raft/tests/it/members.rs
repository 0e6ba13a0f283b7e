//! Members at run time.

use bellwether_dcs::Store;
use bellwether_dcs_raft::{MemberRole, MembershipError};

use crate::cluster::{Cluster, get, put, put_in_the_end, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_added_and_removed_while_the_store_runs() {
    let mut cluster = Cluster::start(3).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    let added = cluster.lay_out_another();
    cluster.nodes[added].start().await;
    let address = cluster.nodes[added].config.self_addr.clone();
    until("it asks to be added", || {
        let detail = cluster.nodes[added].store().status().detail;
        detail.is_some_and(|detail| detail.contains(&format!("bellwether dcs add {address}")))
    })
    .await;
    assert_eq!(cluster.nodes[0].store().members().len(), 3, "nobody becomes a member by asking");

    let client = cluster.client().await;
    client.add_member(&address, soon()).await.expect("it is added");
    client.add_member(&address, soon()).await.expect("adding twice is no error");
    cluster.until_founded().await;
    assert_eq!(get(&**cluster.nodes[added].store(), "a").await.as_deref(), Some("1"));

    let gone =
        (0..3).find(|index| cluster.nodes[*index].store().status().state != "leader").expect("followers");
    let gone_address = cluster.nodes[gone].config.self_addr.clone();
    cluster.nodes[gone].kill();
    client.remove_member(&gone_address, soon()).await.expect("a dead member can be removed");
    until("it is gone everywhere", || {
        cluster.running().all(|status| {
            status.members.len() == 3 && status.members.iter().all(|member| member.addr != gone_address)
        })
    })
    .await;
    assert!(matches!(client.remove_member(&gone_address, soon()).await, Err(MembershipError::Refused(_))));
    // Three are left and know it: two of them are a majority.
    let another = (0..3).find(|index| cluster.nodes[*index].is_up()).expect("two of the first are up");
    cluster.nodes[another].kill();
    put_in_the_end(&**cluster.nodes[added].store(), "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_itself_can_be_removed() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let address = cluster.nodes[leader].config.self_addr.clone();
    let other = cluster.nodes[(leader + 1) % 3].store().clone();
    other.remove_member(&address, soon()).await.expect("it is removed");
    until("another leads", || {
        other.status().leader.is_some_and(|leader| leader != address) && other.members().len() == 2
    })
    .await;
    put_in_the_end(&*other, "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_and_strangers_cannot_be_removed_or_added() {
    let cluster = Cluster::start(1).await;
    let store = cluster.nodes[0].store();
    let own = cluster.nodes[0].config.self_addr.clone();
    for (case, result) in [
        ("last", store.remove_member(&own, soon()).await),
        ("stranger", store.remove_member("127.0.0.1:1", soon()).await),
        ("nobody there", store.add_member("127.0.0.1:1", soon()).await),
    ] {
        assert!(matches!(result, Err(MembershipError::Refused(_))), "{case}: {result:?}");
    }
    put(&**store, "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_votes_but_does_not_keep_the_leadership() {
    let mut cluster = Cluster::laid_out(3);
    cluster.nodes[1].config.witness = true;
    for node in &mut cluster.nodes {
        node.start().await;
    }
    cluster.until_founded().await;
    let witness = cluster.nodes[1].config.self_addr.clone();
    let members = cluster.nodes[0].store().members();
    let entry = members.iter().find(|member| member.addr == witness).expect("it is a member");
    assert!(entry.witness && entry.role == MemberRole::Voter);
    let store = cluster.nodes[0].store().clone();
    // Pushed onto it, the leadership comes back by itself.
    let _ = store.transfer_leadership(Some(&witness), soon()).await;
    until("a full member leads", || {
        cluster.running().any(|status| status.state == "leader" && status.addr != witness)
    })
    .await;
    // A member that leads PostgreSQL moves the store to the other full member, not to the witness.
    let leader = cluster.leader().await;
    cluster.nodes[leader].store().member_leads(true).await;
    let other = 2 - leader;
    until("the other full member leads", || cluster.nodes[other].store().status().state == "leader").await;
}
