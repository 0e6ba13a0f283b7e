//! How a client identifies itself and whom it trusts.

use std::{fs, path::PathBuf, time::Duration};

use bellwether_pem::trust::{self, Names};
use reqwest::{Certificate, ClientBuilder, Identity, redirect::Policy};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::ConfigError;

/// Servers close idle connections after 30 s; a client that keeps them longer would now and then write into a closed one.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// Settings of [`crate::ApiClient`]; the `ctl` section for operators' commands.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// Sent with every call but the reading of a peer's status, which is open.
    pub authentication: Option<BasicAuth>,
    /// Authorities to trust instead of the system's.
    pub cacert: Option<PathBuf>,
    /// Shown to servers that ask for it.
    pub certificate: Option<CertificateFiles>,
    pub verify: Verify,
}

/// HTTP Basic credentials.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    pub username: String,
    pub password: SecretString,
}

/// PEM files of a client certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certfile: PathBuf,
    /// `None`: the key is in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// Needed if the key is encrypted.
    pub keyfile_password: Option<SecretString>,
}

/// What is checked about a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// The chain and the host name.
    #[default]
    Full,
    /// The chain up to `cacert`, but not the name; without a `cacert` the same as `Full`.
    ChainOnly,
    /// Nothing (`ctl.insecure`).
    Nothing,
}

impl ClientConfig {
    /// How members call each other, whatever `ctl.insecure` says: with a client certificate the server's chain is verified,
    /// but not its name; without one nothing is.
    pub fn for_peers(mut self) -> Self {
        self.verify = if self.certificate.is_some() { Verify::ChainOnly } else { Verify::Nothing };
        self
    }

    pub(crate) fn build(&self) -> Result<reqwest::Client, ConfigError> {
        let authorities = match (&self.cacert, self.verify) {
            (None, _) | (_, Verify::Nothing) => None,
            (Some(path), _) => Some(read_authorities(path)?),
        };
        let identity = self.certificate.as_ref().map(read_identity).transpose()?;
        let builder = || {
            let builder = base();
            match &identity {
                Some((_, identity)) => builder.identity(identity.clone()),
                None => builder,
            }
        };
        let built = match (authorities, self.verify) {
            (_, Verify::Nothing) => builder().tls_danger_accept_invalid_certs(true).build(),
            (Some((pem, authorities)), verify) => {
                let names = if verify == Verify::ChainOnly { Names::Ignored } else { Names::Checked };
                match tls(&pem, identity.as_ref().map(|(pem, _)| pem), names) {
                    Some(tls) => base().tls_backend_preconfigured(tls).build(),
                    // It says what is wrong.
                    None => builder().tls_certs_only(authorities).build(),
                }
            }
            // A machine without any authorities can still speak plain HTTP; HTTPS then trusts nobody.
            (None, _) => builder().build().or_else(|error| {
                tracing::debug!(%error, "no authorities of the system: HTTPS needs `ctl.cacert`");
                builder().tls_certs_only([]).build()
            }),
        };
        built.map_err(ConfigError::Client)
    }
}

fn base() -> ClientBuilder {
    // Members are reached directly: a proxy from the environment would answer in their place.
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(2)
}

/// TLS that trusts the authorities in a PEM file, which may be the certificates of servers themselves. `None` if something does not fit.
fn tls(authorities: &[u8], identity: Option<&SecretSlice<u8>>, names: Names) -> Option<rustls::ClientConfig> {
    let certificates = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok();
    let verifier = trust::server_verifier(certificates(authorities)?, names).ok()?;
    let provider = rustls::crypto::ring::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(pem) = identity.map(ExposeSecret::expose_secret) else {
        return Some(builder.with_no_client_auth());
    };
    builder.with_client_auth_cert(certificates(pem)?, PrivateKeyDer::from_pem_slice(pem).ok()?).ok()
}

fn read_authorities(path: &PathBuf) -> Result<(Vec<u8>, Vec<Certificate>), ConfigError> {
    let pem = read("cacert", path)?;
    let bad = |cause| ConfigError::Authorities { path: path.clone(), cause: Some(cause) };
    let authorities = Certificate::from_pem_bundle(&pem).map_err(bad)?;
    if authorities.is_empty() {
        return Err(ConfigError::Authorities { path: path.clone(), cause: None });
    }
    Ok((pem, authorities))
}

fn read_identity(files: &CertificateFiles) -> Result<(SecretSlice<u8>, Identity), ConfigError> {
    let mut pem = read("certfile", &files.certfile)?;
    if let Some(keyfile) = &files.keyfile {
        pem.push(b'\n');
        pem.extend(read("keyfile", keyfile)?);
    }
    let path = files.keyfile.as_ref().unwrap_or(&files.certfile);
    let pem = bellwether_pem::decrypted(pem, files.keyfile_password.as_ref())
        .map_err(|cause| ConfigError::EncryptedKey { path: path.clone(), cause })?;
    let identity = Identity::from_pem(pem.expose_secret())
        .map_err(|cause| ConfigError::Certificate { path: files.certfile.clone(), cause })?;
    Ok((pem, identity))
}

fn read(key: &'static str, path: &PathBuf) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|cause| ConfigError::Read { key, path: path.clone(), cause })
}
