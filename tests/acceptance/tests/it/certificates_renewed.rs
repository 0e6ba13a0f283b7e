//! Certificates change on disk: a reload takes them into use without a restart, and one that cannot be used changes nothing.

use std::{fs, path::PathBuf};

use bellwether_acceptance::{Cluster, Options, PATIENCE, eventually, processes, wait::until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

/// An authority, and the files that the node reads.
struct Pki {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), issuer: authority() }
    }

    /// Writes authority, certificate and key, of an authority that nobody has heard of yet.
    fn renew(&mut self, cluster: &Cluster) {
        self.issuer = authority();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(cluster, "ca", &self.issuer.pem());
        self.write(cluster, "crt", &certificate.pem());
        self.write(cluster, "key", &key.serialize_pem());
    }

    fn write(&self, cluster: &Cluster, name: &str, pem: &str) {
        cluster.account.own(self.folder.path(), 0o700);
        cluster.account.write(&self.path(name), pem);
    }

    /// Whether the API at this port shows a certificate of the present authority.
    async fn is_shown_at(&self, port: u16) -> Result<(), String> {
        let ca = Certificate::from_pem(self.issuer.pem().as_bytes()).expect("a certificate");
        let client = Client::builder().no_proxy().tls_certs_only([ca]).build().expect("a client");
        let answer = client.get(format!("https://127.0.0.1:{port}/liveness")).send().await;
        answer.map(drop).map_err(|error| format!("{error:?}"))
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_taken_into_use_by_a_reload() {
    let mut pki = Pki::new();
    let files = json!({"cafile": pki.path("ca"), "certfile": pki.path("crt"), "keyfile": pki.path("key")});
    let store = json!({"raft": {"password": null}});
    let options = Options::nodes(1).with(store).with(json!({"raft": files}));
    let mut cluster = Cluster::prepare(&options).await;
    pki.renew(&cluster);
    cluster.nodes[0].start();
    cluster.whole().await;
    let node = &cluster.nodes[0];
    let starts = node.supervisor().starts();
    let hang_up = || {
        let agent = node.agent_pid().expect("the agent runs");
        assert!(processes::send(agent, Signal::HUP), "it is there");
    };

    // From HTTP to HTTPS, by the API itself.
    let mut document = node.document.clone();
    for key in ["certfile", "keyfile"] {
        document["restapi"][key] = files[key].clone();
    }
    node.rewrite(&document);
    assert_eq!(node.api.post("/reload", json!({})).await.status, 202);
    eventually("HTTPS is spoken", PATIENCE, || pki.is_shown_at(node.api_port)).await;

    let before = node.log_text().matches("certificates of the store have been read anew").count();
    pki.renew(&cluster);
    pki.is_shown_at(node.api_port).await.expect_err("nobody has told the agent");
    hang_up();
    eventually("the renewed certificate is shown", PATIENCE, || pki.is_shown_at(node.api_port)).await;
    until("the store has read its certificates, too", PATIENCE, || {
        node.log_text().matches("certificates of the store have been read anew").count() > before
    })
    .await;

    fs::write(pki.path("key"), "no key").expect("the file is there");
    hang_up();
    until("the refusals are told", PATIENCE, || {
        let log = node.log_text();
        log.contains("the REST API keeps its old settings and certificates")
            && log.contains("the store keeps its old certificates")
    })
    .await;
    pki.is_shown_at(node.api_port).await.expect("the pair before is still in force");
    assert_eq!(node.supervisor().starts(), starts, "nothing was restarted");
}
