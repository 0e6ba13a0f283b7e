//! HAProxy with the configuration that Patroni's users have leads to the primary, and to the replicas on the other port, through a
//! switchover and the loss of the leader's host.

use std::collections::BTreeSet;

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, eventually, haproxy::HaProxy, sql::Session, wait::until,
};
use serde_json::json;

/// The PostgreSQL behind a port of HAProxy, by its own port, and whether it takes no writes.
async fn behind(port: u16) -> Result<(u16, bool), String> {
    let ask = async {
        let session = Session::at(port).await?;
        session.rows("SELECT inet_server_port(), pg_is_in_recovery()", &[]).await
    };
    let rows = ask.await.map_err(|error| error.to_string())?;
    let server: i32 = rows[0].get(0);
    Ok((u16::try_from(server).expect("a port"), rows[0].get(1)))
}

async fn leads_to(port: u16, primary: &Node) {
    eventually(format!("port {port} leads to {}", primary.name), PATIENCE, || async {
        match behind(port).await? {
            found if found == (primary.postgres_port, false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until several sessions in a row come to these replicas, to each of them, and to nobody else.
async fn leads_to_replicas(port: u16, replicas: &[&Node]) {
    let expected: BTreeSet<(u16, bool)> = replicas.iter().map(|node| (node.postgres_port, true)).collect();
    eventually(format!("port {port} leads to {expected:?}"), PATIENCE, || async {
        let mut found = BTreeSet::new();
        for _ in 0..4 {
            found.insert(behind(port).await?);
        }
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn leads_as_it_should(proxy: &HaProxy, cluster: &Cluster, primary: &Node, replicas: &[&Node]) {
    leads_to(proxy.primary, primary).await;
    leads_to(proxy.master, primary).await;
    leads_to_replicas(proxy.replicas, replicas).await;
    let leads = cluster.primary().await.expect("one primary");
    assert_eq!(leads.name, primary.name, "and nothing has changed meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_follows_the_leader() {
    let mut cluster = Cluster::start_with(Options::nodes(3)).await;
    let proxy = HaProxy::start(&mut cluster);
    let first = cluster.whole().await;
    leads_as_it_should(&proxy, &cluster, first, &cluster.others(first)).await;

    // A switchover closes the sessions that were with the old primary: it would refuse their writes.
    let session = Session::at(proxy.primary).await.expect("a session");
    let reply = first.api.post("/switchover", json!({"leader": first.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    until("the old session is closed", PATIENCE, || session.client.is_closed()).await;
    let second = cluster.whole().await;
    assert_ne!(second.name, first.name);
    leads_as_it_should(&proxy, &cluster, second, &cluster.others(second)).await;

    second.kill_tree();
    let third = cluster.successor_of(second).await;
    let left: Vec<&Node> =
        cluster.others(third).into_iter().filter(|node| node.name != second.name).collect();
    leads_as_it_should(&proxy, &cluster, third, &left).await;

    second.power_on();
    let leader = cluster.whole().await;
    leads_as_it_should(&proxy, &cluster, leader, &cluster.others(leader)).await;
}
