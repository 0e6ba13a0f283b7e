//! Users, tokens that end, and TLS.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use bellwether_dcs::{CommitOutcome, Deadline, Renewal, Store, StoreError, WatchEvent, Write};
use bellwether_dcs_etcd::{Credentials, EtcdConfig, EtcdStore, StartError, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    servers::{PREFIX, Servers},
    wait::until,
};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// etcd with logins, and a user who may do what a member does and no more.
async fn with_users(extra: &[&str]) -> Servers {
    let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
    let servers = Servers::start_with(1, |_, _| extra, false).await;
    for (path, body) in [
        ("auth/user/add", json!({"name": "root", "password": "root-secret"})),
        ("auth/role/add", json!({"name": "root"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/role/add", json!({"name": "cluster"})),
        // Reads and writes from `/service/test/` to `/service/test0`.
        (
            "auth/role/grant",
            json!({"name": "cluster", "perm": {"permType": "READWRITE", "key": "L3NlcnZpY2UvdGVzdC8=", "range_end": "L3NlcnZpY2UvdGVzdDA="}}),
        ),
        ("auth/user/add", json!({"name": "bellwether", "password": "secret"})),
        ("auth/user/grant", json!({"user": "bellwether", "role": "cluster"})),
        ("auth/enable", json!({})),
    ] {
        let answer = servers.ask(0, path, body).await;
        assert!(answer["header"].is_object(), "{path}: {answer}");
    }
    servers
}

fn config(servers: &Servers, password: &str) -> EtcdConfig {
    let mut config = EtcdConfig::new(PREFIX, servers.endpoints());
    config.credentials = Some(Credentials { username: "bellwether".into(), password: password.into() });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_renewed_unnoticed() {
    let servers = with_users(&["--auth-token-ttl", "1"]).await;
    let store = EtcdStore::start(config(&servers, "secret")).await.unwrap();
    let lease = store.grant_lease(Duration::from_secs(20), soon()).await.unwrap();
    let key = "leader".into();
    let written = store.commit(&[], &[Write::put_leased("leader", "a", lease)], soon()).await;
    let CommitOutcome::Applied(mut start) = written else { panic!("{written:?}") };
    for round in 0..3 {
        // Tokens that nobody uses end after a second.
        sleep(Duration::from_millis(2500)).await;
        match round {
            0 => match store.commit(&[], &[Write::put("a", "1")], soon()).await {
                CommitOutcome::Applied(revision) => start = revision,
                other => panic!("{other:?}"),
            },
            1 => {
                let renewal = store.keep_alive(lease, Some(&key), soon()).await;
                assert!(matches!(renewal, Renewal::Valid { .. }), "{renewal:?}");
            }
            _ => {
                let mut watch = store.watch(start).await.unwrap();
                let event = timeout(Duration::from_secs(5), watch.events.recv()).await;
                assert!(matches!(event, Ok(Some(WatchEvent::Alive { .. }))), "{event:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_logins_are_told_apart_from_absent_servers() {
    let mut servers = with_users(&[]).await;
    let wrong = EtcdStore::start(config(&servers, "wrong")).await;
    assert!(matches!(wrong, Err(StartError::Login(_))), "{wrong:?}");
    let nobody = EtcdStore::start(EtcdConfig::new(PREFIX, servers.endpoints())).await.unwrap();
    let read = nobody.snapshot(Deadline::after(Duration::from_secs(1))).await;
    assert!(matches!(read, Err(StoreError::Unauthorized(_))), "{read:?}");
    let mut foreign = config(&servers, "secret");
    foreign.prefix = "/service/other/".to_owned();
    let foreign = EtcdStore::start(foreign).await;
    assert!(matches!(foreign, Err(StartError::Login(_))), "no rights below that prefix: {foreign:?}");

    servers.members[0].kill();
    let store = EtcdStore::start(config(&servers, "secret")).await.expect("etcd may come later");
    servers.members[0].start();
    until("etcd came later", || async { store.snapshot(soon()).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_used_without_a_new_client() {
    let servers = with_users(&[]).await;
    let store = EtcdStore::start(config(&servers, "secret")).await.unwrap();
    let lease = store.grant_lease(Duration::from_secs(20), soon()).await.unwrap();
    assert!(!store.renew_login(config(&servers, "secret").credentials).await, "nothing new");
    assert!(store.renew_login(config(&servers, "wrong").credentials).await);
    let read = store.snapshot(Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(read, Err(StoreError::Unauthorized(_))), "{read:?}");
    assert!(store.renew_login(config(&servers, "secret").credentials).await);
    store.snapshot(soon()).await.unwrap();
    let renewal = store.keep_alive(lease, None, soon()).await;
    assert!(matches!(renewal, Renewal::Valid { .. }), "the lease goes on: {renewal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_nobody_asks_for_does_no_harm() {
    let servers = Servers::start(1).await;
    let store = EtcdStore::start(config(&servers, "secret")).await.unwrap();
    store.snapshot(soon()).await.unwrap();
}

/// An authority, a certificate of the server, one of a client, and an authority of somebody else.
fn write_certificates(dir: &Path, host: Ipv4Addr) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join(name), issuer.pem()).unwrap();
        issuer
    };
    let ours = authority("ca.crt");
    authority("foreign.crt");
    for (name, host) in [("server", host.to_string()), ("client", "client".to_owned())] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host]).unwrap().signed_by(&key, &ours).unwrap();
        fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_proves_both_sides() {
    let extra = |dir: &TempDir, host: Ipv4Addr| {
        write_certificates(dir.path(), host);
        let file = |name: &str| dir.path().join(name).display().to_string();
        vec![
            "--cert-file".to_owned(),
            file("server.crt"),
            "--key-file".to_owned(),
            file("server.key"),
            "--trusted-ca-file".to_owned(),
            file("ca.crt"),
            "--client-cert-auth".to_owned(),
        ]
    };
    let servers = Servers::start_with(1, extra, true).await;
    let file = |name: &str| Some(servers.dir.path().join(name));
    let good = TlsFiles { cacert: file("ca.crt"), cert: file("client.crt"), key: file("client.key") };
    let client = async |tls: TlsFiles| {
        let mut config = EtcdConfig::new(PREFIX, servers.endpoints());
        config.tls = tls;
        EtcdStore::start(config).await
    };
    let store = client(good.clone()).await.unwrap();
    until("etcd answers over TLS", || async { store.snapshot(soon()).await.ok() }).await;
    let short = || Deadline::after(Duration::from_millis(700));
    for (case, tls) in [
        ("without a certificate of ours", TlsFiles { cert: None, key: None, ..good.clone() }),
        ("with an authority that did not sign", TlsFiles { cacert: file("foreign.crt"), ..good.clone() }),
        ("with the system's authorities", TlsFiles { cacert: None, ..good.clone() }),
    ] {
        let Ok(store) = client(tls).await else { continue };
        let read = store.snapshot(short()).await;
        assert!(matches!(read, Err(StoreError::Unreachable(_))), "{case}: {read:?}");
    }
    let missing = client(TlsFiles { cacert: file("nowhere.crt"), ..good }).await;
    assert!(matches!(missing, Err(StartError::Tls(_))), "{missing:?}");
}
