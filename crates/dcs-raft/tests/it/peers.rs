//! Who is let in.

use std::{net::TcpStream, time::Duration};

use bellwether_dcs::{Deadline, Store, StoreError};
use bellwether_dcs_raft::{ClientConfig, Config, RaftClient, RaftStore, Secret};
use tokio::time::sleep;

use crate::cluster::{Cluster, get, put, until};

pub(crate) async fn refused(config: ClientConfig) -> StoreError {
    let client = RaftClient::new(config).await.expect("a client");
    client.snapshot(Deadline::after(Duration::from_secs(1))).await.expect_err("it is not let in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_another_cluster_are_refused() {
    let cluster = Cluster::start(1).await;
    let right = cluster.client_config();
    let cases = [
        ("wrong password", ClientConfig { password: Some(Secret::new("wrong")), ..right.clone() }),
        ("no password", ClientConfig { password: None, ..right.clone() }),
        ("another cluster, same password", ClientConfig { cluster: "other".to_owned(), ..right.clone() }),
    ];
    for (case, config) in cases {
        let error = refused(config).await;
        assert!(matches!(error, StoreError::Unauthorized(_)), "{case}: {error:?}");
    }
    put(&cluster.client().await, "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wrong_password_neither_joins_nor_founds() {
    let mut cluster = Cluster::start(1).await;
    let stranger = cluster.lay_out_another();
    cluster.nodes[stranger].config.password = Some(Secret::new("wrong"));
    cluster.nodes[stranger].start().await;
    until("it says why it waits", || {
        let detail = cluster.nodes[stranger].store().status().detail;
        detail.is_some_and(|detail| detail.contains("credentials"))
    })
    .await;
    assert_eq!(cluster.nodes[0].store().members().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_that_share_a_port_list_never_mix() {
    let mut cluster = Cluster::start(3).await;
    let wiped = cluster.follower().await;
    cluster.nodes[wiped].kill();
    let config = cluster.nodes[wiped].config.clone();
    let moved = Config { cluster: "other".to_owned(), ..config.clone() };
    let error = RaftStore::start(moved.clone()).await.expect_err("the directory belongs to another cluster");
    assert!(chain(&error).contains("cluster `demo`"), "{}", chain(&error));
    cluster.nodes[wiped].wipe();
    let other = crate::cluster::start(&moved).await.expect("it starts");
    sleep(Duration::from_millis(700)).await;
    assert_eq!(other.status().state, "waiting");
    put(&**cluster.nodes[(wiped + 1) % 3].store(), "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_on_the_port_do_no_harm() {
    use std::io::Write as _;
    let cluster = Cluster::start(1).await;
    let address = &cluster.nodes[0].config.self_addr;
    let mut visitors = Vec::new();
    for number in 0..50 {
        let mut visitor = TcpStream::connect(address).expect("it accepts");
        if number % 2 == 0 {
            visitor.write_all(&[0xff; 4096]).expect("it reads");
        }
        visitors.push(visitor);
    }
    put(&**cluster.nodes[0].store(), "a", "1").await;
    assert_eq!(get(&cluster.client().await, "a").await.as_deref(), Some("1"));
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
