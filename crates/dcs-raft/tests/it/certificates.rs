//! Certificates instead of a password, and their replacement while the nodes run.

use std::path::Path;

use bellwether_dcs::StoreError;
use bellwether_dcs_raft::{ClientConfig, Config, CredentialsError, RaftClient, RaftStore, Secret, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::{
    cluster::{Cluster, free_addresses, get, put},
    peers::{chain, refused},
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    fn issue(&self, folder: &Path, name: &str) -> TlsFiles {
        self.issue_from(folder, name, CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name"))
    }

    fn issue_from(&self, folder: &Path, name: &str, params: CertificateParams) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &*self.0).expect("a certificate");
        let write = |suffix: &str, pem: String| {
            let path = folder.join(format!("{name}.{suffix}"));
            std::fs::write(&path, pem).expect("a file");
            path
        };
        TlsFiles {
            cert: write("crt", certificate.pem()),
            key: write("key", key.serialize_pem()),
            ca: write("ca", self.0.pem()),
        }
    }
}

/// A cluster whose nodes have certificates of `authority`, in files named after them.
async fn cluster_of(authority: &Authority, folder: &Path) -> Cluster {
    let mut cluster = Cluster::laid_out(3);
    for (index, node) in cluster.nodes.iter_mut().enumerate() {
        node.config.password = None;
        node.config.tls = Some(authority.issue(folder, &format!("node{index}")));
        node.start().await;
    }
    cluster.until_founded().await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_own_authority_are_let_in_and_others_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cluster = cluster_of(&ours, folder.path()).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    let plain = ClientConfig { password: None, ..cluster.client_config() };
    let ours_too = ClientConfig { tls: Some(ours.issue(folder.path(), "client")), ..plain.clone() };
    let client = RaftClient::new(ours_too).await.expect("a client");
    assert_eq!(get(&client, "a").await.as_deref(), Some("1"));
    let mut mixed = theirs.issue(folder.path(), "stranger");
    mixed.ca = folder.path().join("client.ca");
    let cases = [
        ("no certificate", plain.clone()),
        ("another authority's certificate", ClientConfig { tls: Some(mixed), ..plain.clone() }),
        (
            "a password instead",
            ClientConfig { password: Some(Secret::new("correct horse")), ..plain.clone() },
        ),
    ];
    for (case, config) in cases {
        let error = refused(config).await;
        assert!(matches!(error, StoreError::Unauthorized(_)), "{case}: {error:?}");
    }
}

/// Moves a running store to another authority, as an operator would: first everybody trusts both, then the certificates
/// change, then the old authority is taken away.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_while_the_nodes_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Authority::new(), Authority::new());
    let cluster = cluster_of(&old, folder.path()).await;
    let files = |index: usize| cluster.nodes[index].config.tls.clone().expect("it has certificates");
    let renew_all = async || {
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.store().renew_certificates(files(index)).await.expect("the others accept it");
            put(&**node.store(), "a", "1").await;
        }
    };
    let client = |name: &str, authority: &Authority| ClientConfig {
        password: None,
        tls: Some(authority.issue(folder.path(), name)),
        ..cluster.client_config()
    };
    let (early, late) = (client("early", &old), client("late", &new));
    let standing = RaftClient::new(early.clone()).await.expect("a client");
    put(&standing, "a", "1").await;
    assert!(matches!(refused(late.clone()).await, StoreError::Unauthorized(_)), "not trusted yet");

    for index in 0..3 {
        std::fs::write(files(index).ca, old.0.pem() + &new.0.pem()).expect("a file");
    }
    renew_all().await;
    for index in 0..3 {
        new.issue(folder.path(), &format!("node{index}"));
        std::fs::write(files(index).ca, old.0.pem() + &new.0.pem()).expect("a file");
    }
    renew_all().await;
    let latecomer = RaftClient::new(late).await.expect("a client");
    put(&latecomer, "b", "2").await;
    for index in 0..3 {
        std::fs::write(files(index).ca, new.0.pem()).expect("a file");
    }
    renew_all().await;

    assert_eq!(get(&standing, "b").await.as_deref(), Some("2"), "a connection that stands goes on");
    assert!(matches!(refused(early).await, StoreError::Unauthorized(_)), "a new one is not let in");
    put(&latecomer, "c", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_others_would_refuse_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new();
    let cluster = cluster_of(&ours, folder.path()).await;
    let node = cluster.nodes[0].store();
    let good = cluster.nodes[0].config.tls.clone().expect("it has certificates");
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let mut expired = named("127.0.0.1");
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let foreign = Authority::new().issue(folder.path(), "foreign");
    let cases = [
        ("another host", ours.issue_from(folder.path(), "elsewhere", named("192.0.2.1")), "elsewhere.crt"),
        ("expired", ours.issue_from(folder.path(), "expired", expired), "expired.crt"),
        ("another authority", TlsFiles { ca: good.ca.clone(), ..foreign.clone() }, "foreign.crt"),
        ("another key", TlsFiles { key: foreign.key, ..good.clone() }, "TLS files"),
        ("no file", TlsFiles { cert: folder.path().join("none.crt"), ..good.clone() }, "none.crt"),
    ];
    for (case, files, named) in cases {
        let error = node.renew_certificates(files).await.expect_err(case);
        assert!(chain(&error).contains(named), "{case}: {}", chain(&error));
    }
    let again = ClientConfig { password: None, tls: Some(good), ..cluster.client_config() };
    put(&RaftClient::new(again).await.expect("a client"), "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_replaced_by_certificates_while_the_node_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(1).await;
    let files = Authority::new().issue(folder.path(), "node");
    let error = cluster.nodes[0].store().renew_certificates(files).await.expect_err("it needs a restart");
    assert!(matches!(error, CredentialsError::OtherKind), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_certificates_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "nothing").expect("a file");
    let mut config = Config::new("demo", free_addresses(1).remove(0), folder.path().join("data"));
    config.tls = Some(TlsFiles { cert: file.clone(), key: file.clone(), ca: file.clone() });
    let error = RaftStore::start(config).await.expect_err("there is no certificate");
    assert!(chain(&error).contains("empty.pem"), "{}", chain(&error));
}

/// `openssl req -x509` for each node: three certificates that are their own authorities, in one file that all nodes trust.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_their_own_authorities_are_let_in_where_they_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = |name: &str| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let (cert, key_file) =
            (folder.path().join(format!("{name}.crt")), folder.path().join(format!("{name}.key")));
        std::fs::write(&cert, &certificate).expect("a file");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file");
        (certificate, TlsFiles { cert, key: key_file, ca: folder.path().join("all.crt") })
    };
    let nodes = ["n0", "n1", "n2"].map(own);
    let all: String = nodes.iter().map(|(certificate, _)| certificate.as_str()).collect();
    std::fs::write(folder.path().join("all.crt"), all).expect("a file");

    let mut cluster = Cluster::laid_out(3);
    for (node, (_, files)) in cluster.nodes.iter_mut().zip(&nodes) {
        node.config.password = None;
        node.config.tls = Some(files.clone());
        node.start().await;
    }
    cluster.until_founded().await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    cluster.nodes[0].store().renew_certificates(nodes[0].1.clone()).await.expect("the others accept it");

    let plain = ClientConfig { password: None, ..cluster.client_config() };
    let named = ClientConfig { tls: Some(nodes[1].1.clone()), ..plain.clone() };
    assert_eq!(get(&RaftClient::new(named).await.expect("a client"), "a").await.as_deref(), Some("1"));
    let (_, stranger) = own("stranger");
    let stranger = ClientConfig { tls: Some(stranger), ..plain };
    assert!(matches!(refused(stranger).await, StoreError::Unauthorized(_)), "nobody names it");
}
