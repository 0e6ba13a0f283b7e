//! Our own client against our own server: what peers and operators' commands rely on.

use std::{collections::BTreeMap, time::Duration};

use bellwether_api::BasicAuth;
use bellwether_api_client::{ApiClient, ClientConfig, ClientError, FailsafeReply, Method, PeerWal};
use bellwether_types::{
    Lsn, PostgresState, ReplicationState, Role, TimelineId, failsafe::FailsafeRequest, settings::SyncMode,
};
use serde_json::json;

use crate::{
    harness::{Agent, PROMISED, config, serve},
    situations::*,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn client(authentication: Option<(&str, &str)>) -> ApiClient {
    let authentication = authentication.map(|(username, password)| bellwether_api_client::BasicAuth {
        username: username.to_owned(),
        password: password.to_owned().into(),
    });
    ApiClient::new(ClientConfig { authentication, ..ClientConfig::default() }.for_peers()).unwrap()
}

#[tokio::test]
async fn a_peer_reads_what_a_member_publishes() {
    let mut status = sync_voter(tagged(replica(), json!({"nofailover": true})), SyncMode::Quorum);
    status.watchdog_failed = true;
    let server = serve(Agent::new(status), config()).await;
    let url = format!("http://{}/patroni", server.address);
    let peer = client(None).get_status(&url, TIMEOUT).await.unwrap();
    assert_eq!(peer.name, Some(name("b")));
    assert_eq!((peer.state, peer.role), (Some(PostgresState::Running), Some(Role::Replica)));
    assert_eq!(peer.wal, Some(PeerWal::Standby { received: Lsn(TIP), replayed: Lsn(TIP - 0x100) }));
    assert_eq!((peer.position(), peer.timeline), (Some(Lsn(TIP)), Some(TimelineId(3))));
    assert_eq!(peer.replication_state, Some(ReplicationState::Streaming));
    assert_eq!(peer.system_id, replica().system_id);
    assert!(
        peer.quorum_standby && peer.tags.nofailover() && peer.watchdog_failed && !peer.is_running_primary()
    );

    assert!(peer.observed.is_some_and(|observed| observed.since_asked), "{:?}", peer.observed);

    let hangs = Agent { looks_again: false, ..Agent::new(replica()) };
    let server = serve(hangs, config()).await;
    let url = format!("http://{}/patroni", server.address);
    let observed = client(None).get_status(&url, TIMEOUT).await.unwrap().observed.unwrap();
    assert_eq!((observed.since_asked, observed.ago), (false, Duration::from_secs(1)));

    let server = serve(Agent::new(leader()), config()).await;
    let url = format!("http://{}/patroni", server.address);
    assert!(client(None).get_status(&url, TIMEOUT).await.unwrap().is_running_primary());
}

#[tokio::test]
async fn heartbeats_carry_slots_and_bring_the_position_back() {
    let server = serve(Agent::new(replica()), config()).await;
    let url = format!("http://{}/patroni", server.address);
    let heartbeat = FailsafeRequest {
        name: name("a"),
        conn_url: "postgres://127.0.0.1:5432/postgres".to_owned(),
        api_url: "http://127.0.0.1:8008/patroni".to_owned(),
        slots: Some(BTreeMap::from([("b".to_owned(), Lsn(17))])),
        rely_on_ms: Some(4_000),
    };
    let reply = client(None).post_failsafe(&url, &heartbeat, TIMEOUT).await.unwrap();
    assert_eq!(reply, FailsafeReply::Accepted { lsn: Some(Lsn(4711)), promised: Some(PROMISED) });
    assert_eq!(server.agent.asked(), ["failsafe a Some({\"b\": 0/11}) Some(4000)"]);
}

#[tokio::test]
async fn commands_authenticate() {
    let mut config = config();
    config.authentication =
        Some(BasicAuth { username: "admin".to_owned(), password: "secret".to_owned().into() });
    let server = serve(Agent::new(replica()), config).await;
    let url = format!("http://{}/patroni", server.address);
    let body = json!({"leader": "a"});
    for (authentication, status) in
        [(Some(("admin", "secret")), 200), (Some(("admin", "Secret")), 401), (None, 401)]
    {
        let client = client(authentication);
        let answer = client.call(Method::POST, &url, "switchover", Some(&body), TIMEOUT).await.unwrap();
        assert_eq!(answer.status, status, "{authentication:?}: {}", answer.body);
        let answer = client.call(Method::GET, &url, "/cluster", None, TIMEOUT).await.unwrap();
        assert_eq!(answer.json().unwrap()["scope"], "demo");
    }
}

#[tokio::test]
async fn a_server_that_stopped_refuses() {
    let mut server = serve(Agent::new(replica()), config()).await;
    let url = format!("http://{}/patroni", server.address);
    let client = client(None);
    client.get_status(&url, TIMEOUT).await.unwrap();
    server.stop.cancel();
    tokio::time::timeout(TIMEOUT, &mut server.task).await.unwrap().unwrap();
    let error = client.get_status(&url, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "the warm connection must not hide it: {error:?}");
}
