//! TLS to ZooKeeper: who is trusted, and who we are.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bellwether_pem::decrypted;
use secrecy::ExposeSecret as _;
use tracing::warn;
use zookeeper_client::{TlsCa, TlsCerts, TlsDynamicCerts, TlsIdentity, TlsOptions};

use crate::config::{ConfigError, TlsFiles};

/// The certificates, read anew for each connection: who renews them need not start the agent anew.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    certs: TlsDynamicCerts,
}

impl Tls {
    /// Blocks for a moment.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, ConfigError> {
        let certs = read(&files).map_err(|problem| ConfigError { problems: vec![problem] })?;
        Ok(Self { files, certs: TlsDynamicCerts::new(certs) })
    }

    /// What the next connection is made with: the files as they are now, or as they were when they could last be read.
    pub(crate) async fn options(self: Arc<Self>) -> TlsOptions {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || read(&this.files)).await {
            Ok(Ok(certs)) => self.certs.update(certs),
            Ok(Err(problem)) => {
                warn!(problem, "going on with the certificates for ZooKeeper that were read before")
            }
            // The runtime ends.
            Err(_) => {}
        }
        let options = TlsOptions::new().with_certs(self.certs.clone());
        if self.files.check_hostname { options } else { without_names(options) }
    }
}

/// As Patroni's client does it: the chain is verified, the name in the certificate is not.
#[expect(
    unsafe_code,
    reason = "the library marks it so for what it allows, not for memory; operators choose it by `check_hostname`"
)]
fn without_names(options: TlsOptions) -> TlsOptions {
    // SAFETY: nothing is to be upheld.
    unsafe { options.with_no_hostname_verification() }
}

fn read(files: &TlsFiles) -> Result<TlsCerts, String> {
    let authorities = match &files.cacert {
        Some(file) => text(file)?,
        None => authorities_of_the_system(),
    };
    let place =
        files.cacert.as_ref().map_or("the system's store".to_owned(), |file| format!("`{}`", file.display()));
    let ca = TlsCa::from_pem(&authorities)
        .map_err(|error| format!("there is no usable certificate authority in {place}: {error}"))?;
    let mut certs = TlsCerts::builder().with_ca(ca);
    if let Some(cert) = &files.cert {
        let key_file = files.key.as_ref().unwrap_or(cert);
        let content = fs::read(key_file)
            .map_err(|error| format!("could not read `{}`: {error}", key_file.display()))?;
        let key = decrypted(content, files.key_password.as_ref())
            .map_err(|error| format!("the key in `{}` cannot be used: {error}", key_file.display()))?;
        let key = String::from_utf8_lossy(key.expose_secret());
        let identity = TlsIdentity::from_pem(&text(cert)?, &key)
            .map_err(|error| format!("`{}` and its key cannot be used: {error}", cert.display()))?;
        certs = certs.with_identity(identity);
    }
    certs.build().map_err(|error| format!("the certificates cannot be used: {error}"))
}

fn text(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("could not read `{}`: {error}", file.display()))
}

/// In the form that the library reads.
fn authorities_of_the_system() -> String {
    let found = rustls_native_certs::load_native_certs().certs;
    let armored = |der: &[u8]| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
    };
    found.iter().map(|certificate| armored(certificate)).collect()
}
