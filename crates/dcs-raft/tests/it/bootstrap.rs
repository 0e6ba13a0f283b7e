//! Founding, joining, and identities.

use std::time::Duration;

use bellwether_dcs_raft::{Config, RaftStore};
use tokio::time::sleep;

use crate::cluster::{Cluster, free_addresses, get, put, put_in_the_end, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_founds_a_store_of_its_own() {
    let cluster = Cluster::start(1).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    assert_eq!(get(&**cluster.nodes[0].store(), "a").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_founded_only_when_every_node_answers() {
    let mut cluster = Cluster::laid_out(3);
    cluster.nodes[0].start().await;
    cluster.nodes[1].start().await;
    let third = cluster.nodes[2].config.self_addr.clone();
    until("both say whom they wait for", || {
        cluster.running().all(|status| status.state == "waiting" && status.detail.is_some())
    })
    .await;
    sleep(Duration::from_secs(1)).await;
    for status in cluster.running() {
        assert_eq!(status.state, "waiting", "a majority is not enough: the third may have the data");
        let detail = status.detail.expect("it says why");
        assert!(detail.contains(&third), "{detail}");
    }
    cluster.nodes[2].start().await;
    cluster.until_founded().await;
    let stores: Vec<_> = cluster.running().map(|status| status.store).collect();
    assert!(stores.iter().all(|store| store.is_some() && *store == stores[0]), "{stores:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_comes_back_as_somebody_else_and_the_old_identity_is_gone() {
    let mut cluster = Cluster::start(3).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    let wiped = cluster.follower().await;
    let old = cluster.nodes[wiped].store().status().node;
    cluster.nodes[wiped].kill();
    cluster.nodes[wiped].wipe();
    cluster.nodes[wiped].start().await;
    let new = cluster.nodes[wiped].store().status().node;
    assert_ne!(new, old);
    cluster.until_founded().await;
    until("every node knows the new identity and not the old one", || {
        cluster.running().all(|status| {
            let ids: Vec<u64> = status.members.iter().map(|member| member.id).collect();
            ids.contains(&new) && !ids.contains(&old)
        })
    })
    .await;
    assert_eq!(get(&**cluster.nodes[wiped].store(), "a").await.as_deref(), Some("1"));

    // The newcomer's vote counts: with it alone there is a majority.
    let other = (0..3).find(|index| *index != wiped).expect("there are three");
    cluster.nodes[other].kill();
    put_in_the_end(&**cluster.nodes[wiped].store(), "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_founder_does_not_found_again() {
    let mut cluster = Cluster::start(3).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    let addresses = cluster.addresses();
    let founder = (0..3).min_by_key(|index| &addresses[*index]).expect("there are three");
    let store = cluster.nodes[founder].store().status().store;
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.nodes[founder].wipe();
    cluster.nodes[founder].start().await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.nodes[founder].store().status().state, "waiting", "the others do not answer yet");
    for index in (0..3).filter(|index| *index != founder) {
        cluster.nodes[index].start().await;
    }
    cluster.until_founded().await;
    assert_eq!(cluster.nodes[founder].store().status().store, store);
    assert_eq!(get(&**cluster.nodes[founder].store(), "a").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_settings_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_addresses(1).remove(0);
    let _taken = std::net::TcpListener::bind(&address).expect("the port is free");
    let error =
        RaftStore::start(Config::new("demo", &address, folder.path())).await.expect_err("the port is taken");
    assert!(error.to_string().contains(&address), "{error}");
    let error = RaftStore::start(Config::new("demo", "192.0.2.1:1", folder.path()))
        .await
        .expect_err("there is no password");
    assert!(error.to_string().contains("password"), "{error}");
}
