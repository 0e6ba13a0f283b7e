//! Certificates for the nodes of a cluster, by an authority that nobody else knows.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{account::Account, rest};

/// An authority, and the files that nodes read: `ca`, `crt` and `key`.
#[derive(Debug)]
pub struct Pki {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    account: Account,
    pair: String,
}

impl Pki {
    /// The files are there from now on.
    pub fn new(account: Account) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        account.own(folder.path(), 0o700);
        let mut pki = Self { folder, issuer: authority(), account, pair: String::new() };
        pki.renew();
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes authority, certificate and key, of an authority that nobody has heard of yet.
    pub fn renew(&mut self) {
        self.issuer = authority();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        // With the name of its authority it would pass for one that signed itself, to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, "node");
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.pair = certificate.pem() + &key.serialize_pem();
        for (name, pem) in
            [("ca", self.issuer.pem()), ("crt", certificate.pem()), ("key", key.serialize_pem())]
        {
            self.account.write(&self.path(name), &pem);
        }
    }

    /// A certificate that names `common_name`, and its key, for a client that runs as whoever runs the tests.
    pub fn issue(&self, common_name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let [crt_path, key_path] = ["crt", "key"].map(|kind| self.path(&format!("{common_name}.{kind}")));
        for (path, pem) in [(&crt_path, certificate.pem()), (&key_path, key.serialize_pem())] {
            fs::write(path, pem).expect("it can be written");
            // libpq takes no other key.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        }
        (crt_path, key_path)
    }

    /// For a node whose REST API demands a certificate of everybody, and which shows its own to the others.
    pub fn mutual(&self) -> Value {
        let (ca, crt, key) = (self.path("ca"), self.path("crt"), self.path("key"));
        json!({
            "restapi": {"cafile": ca, "certfile": crt, "keyfile": key, "verify_client": "required"},
            "ctl": {"cacert": ca, "certfile": crt, "keyfile": key},
        })
    }

    /// Trusts the authority of now alone, and shows no certificate.
    pub fn stranger(&self) -> Client {
        self.builder().build().expect("a client")
    }

    /// The same with a certificate.
    pub fn client(&self) -> Client {
        let identity = Identity::from_pem(self.pair.as_bytes()).expect("a certificate and its key");
        self.builder().identity(identity).build().expect("a client")
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        rest::provide_tls();
        let ca = Certificate::from_pem(self.issuer.pem().as_bytes()).expect("a certificate");
        Client::builder().no_proxy().tls_certs_only([ca])
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}
