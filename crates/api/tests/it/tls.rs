//! HTTPS: the three ways to treat client certificates, and certificates that change.

use std::{fs, path::PathBuf, time::Duration};

use bellwether_api::{Api, ApiConfig, BindError, TlsError, TlsFiles, VerifyClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use crate::{
    harness::{Agent, Server, config, serve},
    situations::*,
};

/// An authority with the files of a server and of a client.
struct Pki {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { folder: tempfile::tempdir().unwrap(), issuer };
        fs::write(pki.path("ca.pem"), pki.issuer.pem()).unwrap();
        pki.issue("server");
        pki.issue("client");
        pki
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A new certificate and key under the same file names.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn files(&self, verify_client: VerifyClient) -> TlsFiles {
        TlsFiles {
            certfile: self.path("server.pem"),
            keyfile: Some(self.path("server.key")),
            keyfile_password: None,
            cafile: Some(self.path("ca.pem")),
            verify_client,
        }
    }

    fn config(&self, verify_client: VerifyClient) -> ApiConfig {
        ApiConfig { tls: Some(self.files(verify_client)), ..config() }
    }

    fn client(&self, certificate: Option<&str>) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.issuer.pem().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20));
        if let Some(name) = certificate {
            let read = |file: String| fs::read_to_string(self.path(&file)).unwrap();
            let pem = read(format!("{name}.key")) + &read(format!("{name}.pem"));
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

async fn get(client: &reqwest::Client, server: &Server) -> Result<u16, reqwest::Error> {
    let url = format!("https://{}/health", server.address);
    client.get(url).send().await.map(|response| response.status().as_u16())
}

async fn reload(client: &reqwest::Client, server: &Server) -> Result<(u16, String), reqwest::Error> {
    let response = client.post(format!("https://{}/reload", server.address)).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_configured() {
    let pki = Pki::new();
    let denied = (403, "client certificate required".to_owned());
    let scheduled = (202, "reload scheduled".to_owned());
    for (verify_client, anonymous_get, anonymous_call) in [
        (VerifyClient::None, Some(200), Some(&scheduled)),
        (VerifyClient::Optional, Some(200), Some(&denied)),
        (VerifyClient::Required, None, None),
    ] {
        let server = serve(Agent::new(replica()), pki.config(verify_client)).await;
        let (anonymous, known) = (pki.client(None), pki.client(Some("client")));
        assert_eq!(get(&anonymous, &server).await.ok(), anonymous_get, "{verify_client:?}");
        assert_eq!(reload(&anonymous, &server).await.ok().as_ref(), anonymous_call, "{verify_client:?}");
        assert_eq!(get(&known, &server).await.ok(), Some(200), "{verify_client:?}");
        assert_eq!(reload(&known, &server).await.ok().as_ref(), Some(&scheduled), "{verify_client:?}");

        let identity = server.agent.records().last().unwrap().caller.identity.clone();
        if verify_client == VerifyClient::None {
            assert_eq!(identity, None);
        } else {
            let identity = identity.expect("a certificate identifies its bearer");
            assert!(identity.starts_with("cert:") && identity.len() == 5 + 64, "{identity}");
        }
    }
}

/// `openssl req -x509` makes such a certificate; with OpenSSL it is enough for a whole cluster.
#[tokio::test]
async fn one_certificate_may_be_the_authority_the_server_s_and_the_client_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(path("own.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(path("own.key"), key.serialize_pem()).unwrap();
    let tls = TlsFiles {
        certfile: path("own.pem"),
        keyfile: Some(path("own.key")),
        keyfile_password: None,
        cafile: Some(path("own.pem")),
        verify_client: VerifyClient::Required,
    };
    let server = serve(Agent::new(replica()), ApiConfig { tls: Some(tls), ..config() }).await;
    let read = |file| fs::read(path(file)).unwrap();
    let identity = reqwest::Identity::from_pem(&[read("own.key"), read("own.pem")].concat()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    assert_eq!(get(&client.identity(identity).build().unwrap(), &server).await.unwrap(), 200);
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    for file in ["client.pem", "client.key"] {
        fs::copy(foreign.path(file), pki.path(&format!("foreign-{file}"))).unwrap();
    }
    fs::rename(pki.path("foreign-client.pem"), pki.path("foreign.pem")).unwrap();
    fs::rename(pki.path("foreign-client.key"), pki.path("foreign.key")).unwrap();
    for verify_client in [VerifyClient::Optional, VerifyClient::Required] {
        let server = serve(Agent::new(replica()), pki.config(verify_client)).await;
        assert!(get(&pki.client(Some("foreign")), &server).await.is_err(), "{verify_client:?}");
    }
}

#[tokio::test]
async fn certificates_are_read_anew_on_reload_and_bad_ones_change_nothing() {
    let pki = Pki::new();
    let server = serve(Agent::new(replica()), pki.config(VerifyClient::None)).await;
    let mut same = pki.config(VerifyClient::None);
    same.listen = config().listen;
    let renewed = Pki::new();
    assert_eq!(get(&pki.client(None), &server).await.unwrap(), 200);
    assert!(get(&renewed.client(None), &server).await.is_err(), "an authority nobody knows yet");

    fs::write(pki.path("server.key"), "no key").unwrap();
    let error = server.handle.reload(same.clone()).await.unwrap_err();
    assert!(matches!(error, BindError::Tls(TlsError::Read { key: "keyfile", .. })), "{error:?}");
    assert_eq!(get(&pki.client(None), &server).await.unwrap(), 200, "the old pair stays in force");

    for file in ["server.pem", "server.key"] {
        fs::copy(renewed.path(file), pki.path(file)).unwrap();
    }
    server.handle.reload(same).await.unwrap();
    assert_eq!(get(&renewed.client(None), &server).await.unwrap(), 200);
    assert!(get(&pki.client(None), &server).await.is_err());
}

#[tokio::test]
async fn unusable_files_are_named() {
    let pki = Pki::new();
    let good = pki.files(VerifyClient::Required);
    fs::write(pki.path("empty.pem"), "").unwrap();
    pki.issue("other");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(pki.path("locked.key"), locked).unwrap();
    let (missing, empty) = (pki.path("missing.pem"), pki.path("empty.pem"));
    for (case, files, expected) in [
        ("certfile is missing", TlsFiles { certfile: missing, ..good.clone() }, "missing.pem"),
        ("certfile is empty", TlsFiles { certfile: empty, ..good.clone() }, "has no certificate"),
        (
            "key of another certificate",
            TlsFiles { keyfile: Some(pki.path("other.key")), ..good.clone() },
            "do not fit",
        ),
        (
            "key behind a password",
            TlsFiles { keyfile: Some(pki.path("locked.key")), ..good.clone() },
            "restapi.keyfile_password",
        ),
        ("no authority", TlsFiles { cafile: None, ..good.clone() }, "needs `restapi.cafile`"),
        ("key not in certfile", TlsFiles { keyfile: None, ..good }, "restapi.keyfile"),
    ] {
        let error = Api::bind(ApiConfig { tls: Some(files), ..config() }).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_key_behind_a_password_is_served_with() {
    let pki = Pki::new();
    let key = KeyPair::from_pem(include_str!("../../../pem/src/testdata/plain.key")).unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &pki.issuer).unwrap();
    fs::write(pki.path("server.pem"), certificate.pem()).unwrap();
    fs::write(pki.path("server.key"), include_str!("../../../pem/src/testdata/encrypted.key")).unwrap();
    let files = |password: &str| TlsFiles {
        keyfile_password: Some(password.into()),
        ..pki.files(VerifyClient::None)
    };
    let wrong = ApiConfig { tls: Some(files("other")), ..config() };
    assert!(matches!(Api::bind(wrong).await, Err(BindError::Tls(TlsError::EncryptedKey { .. }))));
    let right = ApiConfig { tls: Some(files("s3cret")), ..config() };
    let server = serve(Agent::new(leader()), right).await;
    assert_eq!(get(&pki.client(None), &server).await.unwrap(), 200);
}
