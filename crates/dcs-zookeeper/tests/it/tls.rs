//! Connections that are encrypted.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use bellwether_dcs::{Deadline, Store, StoreError};
use bellwether_dcs_zookeeper::{TlsFiles, ZooKeeperStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::server::{Ensemble, LOOK_AGAIN, SOON, config};

const PREFIX: &str = "/service/batman/";

/// A server that talks TLS alone, and to those alone who have a certificate.
fn start(dir: &Path) -> Ensemble {
    write_certificates(dir);
    let (server, authority) = (dir.join("server.pem"), dir.join("ca.pem"));
    let secure = |plain: &str| {
        let secure = plain
            .replace("clientPort=", "secureClientPort=")
            .replace("clientPortAddress", "secureClientPortAddress");
        format!(
            "{secure}serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.location={}\nssl.keyStore.type=PEM\nssl.trustStore.location={}\nssl.trustStore.type=PEM\n\
             ssl.clientAuth=need\nssl.hostnameVerification=false\n",
            server.display(),
            authority.display()
        )
    };
    Ensemble::begin(1, &secure)
}

fn write_certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, foreign) = (authority("ours"), authority("foreign"));
    let put = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    put("ca.pem", ours.pem());
    put("foreign.pem", foreign.pem());
    let issue = |names: Vec<String>, issuer: &CertifiedIssuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let (cert, key) = issue(vec![Ipv4Addr::LOCALHOST.to_string()], &ours);
    put("server.pem", format!("{key}{cert}"));
    let (cert, key) = issue(vec!["member".to_owned()], &ours);
    put("client.pem", format!("{cert}{key}"));
    let (cert, key) = issue(vec!["member".to_owned()], &foreign);
    put("stranger.pem", format!("{cert}{key}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_proves_both_sides() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let ensemble = start(dir.path());
    let file = |name: &str| Some(dir.path().join(name));
    let client = |hosts: &[String], tls: TlsFiles| {
        let mut config = config(hosts, PREFIX);
        config.tls = Some(tls);
        ZooKeeperStore::new(config)
    };
    let good = TlsFiles {
        cacert: file("ca.pem"),
        cert: file("client.pem"),
        check_hostname: true,
        ..TlsFiles::default()
    };
    let store = client(&ensemble.addresses(), good.clone()).unwrap();
    answers(&store).await;

    let by_name = ensemble.addresses()[0].replace("127.0.0.1", "localhost");
    let without_check = TlsFiles { check_hostname: false, ..good.clone() };
    answers(&client(std::slice::from_ref(&by_name), without_check).unwrap()).await;

    for (case, hosts, tls) in [
        ("by a name that is not in the certificate", vec![by_name], good.clone()),
        ("without a certificate of ours", ensemble.addresses(), TlsFiles { cert: None, ..good.clone() }),
        (
            "with one of a stranger",
            ensemble.addresses(),
            TlsFiles { cert: file("stranger.pem"), ..good.clone() },
        ),
        (
            "with an authority that did not sign",
            ensemble.addresses(),
            TlsFiles { cacert: file("foreign.pem"), check_hostname: false, ..good.clone() },
        ),
    ] {
        let read = client(&hosts, tls).unwrap().snapshot(Deadline::after(Duration::from_millis(1500))).await;
        assert!(matches!(read, Err(StoreError::Unreachable(_) | StoreError::TimedOut)), "{case}: {read:?}");
    }
    let in_clear_text = ZooKeeperStore::new(config(&ensemble.addresses(), PREFIX)).unwrap();
    let read = in_clear_text.snapshot(Deadline::after(Duration::from_millis(1500))).await;
    assert!(read.is_err(), "{read:?}");
    answers(&store).await;
}

#[test]
fn files_that_cannot_be_used_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let refusal = |tls: TlsFiles| {
        let mut config = config(&["127.0.0.1:1".to_owned()], PREFIX);
        config.tls = Some(tls);
        ZooKeeperStore::new(config).unwrap_err().to_string()
    };
    let file = |name: &str| Some(dir.path().join(name));
    let told = refusal(TlsFiles { cacert: file("nowhere.pem"), ..TlsFiles::default() });
    assert!(told.contains("nowhere.pem") && told.contains("could not read"), "{told}");
    fs::write(dir.path().join("empty.pem"), "").unwrap();
    let told = refusal(TlsFiles { cacert: file("empty.pem"), ..TlsFiles::default() });
    assert!(told.contains("no usable certificate authority"), "{told}");
    let told = refusal(TlsFiles { cacert: file("ca.pem"), cert: file("ca.pem"), ..TlsFiles::default() });
    assert!(told.contains("ca.pem") && told.contains("key"), "{told}");
}

async fn answers(store: &ZooKeeperStore) {
    let limit = std::time::Instant::now() + SOON;
    while let Err(error) = store.snapshot(Deadline::after(Duration::from_secs(2))).await {
        assert!(std::time::Instant::now() < limit, "it does not answer: {error:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
