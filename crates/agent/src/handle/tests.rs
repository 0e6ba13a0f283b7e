use bellwether_api_client::ClientConfig;
use bellwether_config::Config;
use bellwether_dcs::MemoryStore;
use bellwether_types::settings::Settings;
use serde_json::json;

use super::*;
use crate::publish::first_status;

/// A member whose directories lie, or would lie, below `dir`.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    let file = dir.join("b.yml");
    let credentials = |name: &str| json!({"username": name, "password": "x"});
    let document = json!({
        "scope": "demo",
        "name": "b",
        "restapi": {"listen": "127.0.0.1:8008"},
        "postgresql": {
            "listen": "127.0.0.1:5432",
            "data_dir": dir.join("data"),
            "authentication": {"superuser": credentials("postgres"), "replication": credentials("replicator")},
        },
        "raft": {"self_addr": "127.0.0.1:2380", "data_dir": dir.join("raft")},
    });
    std::fs::write(&file, document.to_string()).unwrap();
    bellwether_config::load(Some(&file), &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}")).config
}

/// An agent as its API sees it, with this status.
struct Agent {
    handle: AgentHandle,
    store: MemoryStore,
    _events: mpsc::Receiver<Event>,
    _dir: tempfile::TempDir,
}

fn agent(change: impl FnOnce(&mut NodeStatus)) -> Agent {
    // Needed by the client for other members, which is asked nothing here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut status = first_status(&config, &Settings { failsafe_mode: true, ..Settings::default() });
    change(&mut status);
    let (events, received) = mpsc::channel(8);
    let store = MemoryStore::new();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let topology = crate::start::first_topology(&config);
    let handle = AgentHandle::new(
        config.name.clone(),
        shared.clone(),
        Mirror::new(shared, Duration::from_secs(60)),
        ApiClient::new(ClientConfig::default()).unwrap(),
        Journal::open(dir.path(), config.scope.clone(), config.name.clone()).unwrap(),
        FailsafeBook::open(dir.path()),
        PromiseBook::open(dir.path()).unwrap(),
        watch::channel(Arc::new(status)).1,
        watch::channel(Arc::new(topology)).1,
        Looks::new(events.clone()),
        events,
        CitusPart::None,
    );
    Agent { handle, store, _events: received, _dir: dir }
}

fn heartbeat_of(leader: &str) -> FailsafeRequest {
    FailsafeRequest {
        name: MemberName::new(leader).unwrap(),
        conn_url: "postgres://a/postgres".into(),
        api_url: "http://a/patroni".into(),
        slots: None,
        rely_on_ms: None,
    }
}

#[tokio::test]
async fn who_leads_or_may_lead_promises_nothing_to_another_leader() {
    let running =
        |role| move |status: &mut NodeStatus| (status.state, status.role) = (PostgresState::Running, role);
    let replica = agent(running(Role::Replica));
    let answer = replica.handle.failsafe(heartbeat_of("a")).await;
    assert!(matches!(answer, FailsafeAnswer::Accepted { .. }), "{answer:?}");
    assert!(replica.handle.failsafe.present().is_some());

    let primary = agent(running(Role::Primary));
    let elected = agent(|status| {
        running(Role::Replica)(status);
        status.lease_until = Some(clock::now() + Duration::from_secs(60));
    });
    for (case, agent) in [("a running primary", primary), ("a replica with the lock", elected)] {
        let answer = agent.handle.failsafe(heartbeat_of("a")).await;
        assert!(matches!(answer, FailsafeAnswer::RunningAsLeader), "{case}: {answer:?}");
        assert_eq!(agent.handle.failsafe.present(), None, "{case}");
        let own = agent.handle.failsafe(heartbeat_of("b")).await;
        assert!(matches!(own, FailsafeAnswer::Accepted { .. }), "{case}, asked by itself: {own:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_not_patched() {
    let agent = agent(|_| ());
    let change = || json!({"ttl": 40}).as_object().unwrap().clone();
    let by = || Deadline::after(Duration::from_secs(5));
    assert_eq!(agent.handle.patch_config(change()).await, ConfigEnd::NoConfig);
    assert!(agent.store.snapshot(by()).await.unwrap().entries.is_empty(), "nothing was written");

    let written = bellwether_dcs::Write::put(keys::CONFIG, r#"{"ttl": 30, "loop_wait": 10}"#);
    agent.store.commit(&[], &[written], by()).await;
    let patched = agent.handle.patch_config(change()).await;
    assert_eq!(patched, ConfigEnd::Stored(json!({"ttl": 40, "loop_wait": 10})));
}
