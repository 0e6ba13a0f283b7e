//! Which node leads the store, and how to make it another one.

use std::time::Duration;

use bellwether_dcs::Deadline;
use bellwether_dcs_raft::{ClientConfig, RaftClient, Secret};

use bellwether_types::chain;

use super::super::layout::{CLUSTER, Layout, Node};

/// For one question to the store.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

fn address(node: &Node) -> String {
    format!("127.0.0.1:{}", node.store_port)
}

async fn client(layout: &Layout) -> Result<RaftClient, String> {
    let config = ClientConfig {
        cluster: CLUSTER.to_owned(),
        addresses: layout.nodes.iter().map(address).collect(),
        password: Some(Secret::new(layout.passwords.store.clone())),
        tls: None,
        insecure: false,
    };
    RaftClient::new(config).await.map_err(|error| chain(&error))
}

/// The node whose agent leads the store now.
pub(super) async fn find(layout: &Layout) -> Result<String, String> {
    let asked = client(layout).await?;
    let status = asked.status(None, Deadline::after(ANSWERED_WITHIN)).await;
    let leader = status.map_err(|error| chain(&error))?.leader;
    let node = layout.nodes.iter().find(|node| leader.as_deref() == Some(address(node).as_str()));
    node.map(|node| node.name.clone()).ok_or_else(|| "nobody leads the store".to_owned())
}

/// Makes `name` lead the store. It moves on by itself within moments, if that node leads PostgreSQL.
pub(super) async fn make(layout: &Layout, name: &str) -> Result<(), String> {
    let node = layout.nodes.iter().find(|node| node.name == name).ok_or("there is no such node")?;
    let asked = client(layout).await?;
    let moved = asked.transfer_leadership(Some(&address(node)), Deadline::after(ANSWERED_WITHIN)).await;
    moved.map_err(|error| chain(&error))
}
