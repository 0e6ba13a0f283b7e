//! Consul behind TLS with a certificate that is its own authority, as `openssl req -x509` makes it.

use std::{fs, path::PathBuf, time::Duration};

use bellwether_dcs::{CommitOutcome, Deadline, Store as _, Write};
use bellwether_dcs_consul::ConsulStore;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;

use crate::server::{Server, config};

fn own_authority(folder: &TempDir, name: &str, host: &str) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let path = |suffix: &str| folder.path().join(format!("{name}.{suffix}"));
    fs::write(path("crt"), certificate.pem()).expect("a file");
    fs::write(path("key"), key.serialize_pem()).expect("a file");
    (path("crt"), path("key"))
}

async fn writes(address: &str, cacert: Option<PathBuf>, verify: bool) -> bool {
    let mut config = config(address, "tls/");
    config.url = format!("https://{address}");
    (config.tls.cacert, config.tls.verify) = (cacert, verify);
    let store = ConsulStore::new(config).expect("a client");
    let by = Deadline::after(Duration::from_secs(5));
    matches!(store.commit(&[], &[Write::put("a", "1")], by).await, CommitOutcome::Applied(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_its_own_authority_is_trusted_where_it_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = own_authority(&folder, "ours", "127.0.0.1");
    let (foreign, _) = own_authority(&folder, "foreign", "127.0.0.1");
    let server = Server::start_with(Some((&cert, &key))).await;
    let address = server.by_tls.clone().expect("it has a certificate");
    assert!(writes(&address, Some(cert), true).await);
    assert!(!writes(&address, Some(foreign.clone()), true).await, "another one is none of it");
    assert!(writes(&address, Some(foreign), false).await, "nothing is checked");
    assert!(!writes(&address, None, true).await, "the system knows nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_such_a_certificate_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = own_authority(&folder, "elsewhere", "192.0.2.1");
    let server = Server::start_with(Some((&cert, &key))).await;
    let address = server.by_tls.clone().expect("it has a certificate");
    assert!(!writes(&address, Some(cert.clone()), true).await);
    assert!(writes(&address, Some(cert), false).await, "nothing else is wrong with it");
}
