//! Which servers are believed.

use std::{fs, sync::Arc, time::Duration};

use bellwether_api_client::{ApiClient, CertificateFiles, ClientConfig, ClientError, ConfigError, Verify};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::install_tls_provider;

const TIMEOUT: Duration = Duration::from_secs(20);

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        install_tls_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        fs::write(authority.folder.path().join("ca.pem"), authority.issuer.pem()).unwrap();
        let (certificate, key) = authority.issue("client");
        fs::write(authority.folder.path().join("client.pem"), certificate.pem() + &key.serialize_pem())
            .unwrap();
        authority
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// What a client needs to know; `own`: it shows its own certificate.
    fn config(&self, own: bool, verify: Verify) -> ClientConfig {
        let certfile = self.folder.path().join("client.pem");
        let certificate = own.then_some(CertificateFiles { certfile, keyfile: None, keyfile_password: None });
        let cacert = Some(self.folder.path().join("ca.pem"));
        ClientConfig { cacert, certificate, verify, ..ClientConfig::default() }
    }

    /// An HTTPS server with a certificate for `name`; it demands client certificates if told to.
    async fn serve(&self, name: &str, demand: bool) -> (String, JoinHandle<()>) {
        let (certificate, key) = self.issue(name);
        let builder = ServerConfig::builder();
        let builder = if demand {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/patroni", listener.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"state\": \"running\"}").await;
                let _ = stream.shutdown().await;
            }
        });
        (url, task)
    }
}

async fn is_believed(config: ClientConfig, url: &str) -> Result<(), ClientError> {
    ApiClient::new(config).unwrap().get_status(url, TIMEOUT).await.map(|_| ())
}

#[tokio::test]
async fn servers_are_believed_as_configured() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (right, _right) = ours.serve("127.0.0.1", false).await;
    let (misnamed, _misnamed) = ours.serve("other.example", false).await;
    for (case, config, by_right_name, by_wrong_name) in [
        ("our authority", ours.config(false, Verify::Full), true, false),
        ("our authority, any name", ours.config(false, Verify::ChainOnly), true, true),
        ("a foreign authority", foreign.config(false, Verify::Full), false, false),
        ("a foreign authority, any name", foreign.config(false, Verify::ChainOnly), false, false),
        ("no check", foreign.config(false, Verify::Nothing), true, true),
        ("the system's authorities", ClientConfig::default(), false, false),
        ("a peer without a certificate", foreign.config(false, Verify::Full).for_peers(), true, true),
        ("a peer with a certificate", ours.config(true, Verify::Full).for_peers(), true, true),
        ("a peer with a foreign one", foreign.config(true, Verify::Full).for_peers(), false, false),
    ] {
        for (url, expected) in [(&right, by_right_name), (&misnamed, by_wrong_name)] {
            let result = is_believed(config.clone(), url).await;
            assert_eq!(result.is_ok(), expected, "{case}: {result:?}");
            let is_tls = matches!(result, Ok(()) | Err(ClientError::Tls { .. }));
            assert!(is_tls, "{case}: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let ours = Authority::new();
    let (url, _server) = ours.serve("127.0.0.1", true).await;
    is_believed(ours.config(true, Verify::Full), &url).await.unwrap();
    let error = is_believed(ours.config(false, Verify::Full), &url).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
}

#[test]
fn unusable_files_are_named() {
    let ours = Authority::new();
    let good = ours.config(true, Verify::Full);
    let missing = ours.folder.path().join("missing.pem");
    let no_key = CertificateFiles {
        certfile: ours.folder.path().join("ca.pem"),
        keyfile: None,
        keyfile_password: None,
    };
    for (case, config, expected) in [
        ("no file", ClientConfig { cacert: Some(missing), ..good.clone() }, "Read"),
        ("no key", ClientConfig { certificate: Some(no_key), ..good }, "Certificate"),
    ] {
        let error: ConfigError = ApiClient::new(config).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn an_authority_is_replaced_in_all_clones() {
    let (old, new) = (Authority::new(), Authority::new());
    let client = ApiClient::new(old.config(false, Verify::Full)).unwrap();
    let clone = client.clone();
    let (url, _server) = new.serve("127.0.0.1", true).await;
    assert!(clone.get_status(&url, TIMEOUT).await.is_err(), "not trusted yet");

    let missing = ClientConfig { cacert: Some("/nowhere/ca.pem".into()), ..ClientConfig::default() };
    assert!(client.reload(missing).is_err());
    let (old_url, _server) = old.serve("127.0.0.1", false).await;
    clone.get_status(&old_url, TIMEOUT).await.expect("the settings before are still in force");

    client.reload(new.config(true, Verify::Full)).unwrap();
    clone.get_status(&url, TIMEOUT).await.expect("trusted, and with a certificate of its own");
    assert!(clone.get_status(&old_url, TIMEOUT).await.is_err());
}
