//! What an operator can set.

use std::{fs, path::PathBuf, time::Duration};

use bellwether_pem::trust::{self, Names};
use reqwest::{Certificate, Identity, Url, redirect::Policy};
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::SecretString;

/// How to reach an agent and what to do there.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:port` or `https://host:port` of the agent, as a rule the one on this machine.
    pub url: String,
    /// The cluster's prefix without a leading slash, `namespace/scope/`.
    pub prefix: String,
    /// Our sessions' name, for people: `scope-member`.
    pub session_name: String,
    /// Sent as `X-Consul-Token`.
    pub token: Option<SecretString>,
    /// The datacenter, if it is not the agent's own.
    pub dc: Option<String>,
    /// Health checks that a session hangs on, none by default. **With any, the lease is no fence**: it ends when a check fails,
    /// whatever time was guaranteed.
    pub checks: Vec<String>,
    pub tls: Tls,
    /// The servers' `session_ttl_min`; 10 s by default, as theirs. Half of `ttl` should not be less.
    pub session_ttl_min: Duration,
}

/// How to speak `https`.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whether the agent's certificate is checked; true by default.
    pub verify: bool,
    /// Authorities to trust instead of the system's (PEM).
    pub cacert: Option<PathBuf>,
    /// Shown to the agent (PEM).
    pub cert: Option<PathBuf>,
    /// The key of `cert` if that file does not hold it (PEM).
    pub key: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { verify: true, cacert: None, cert: None, key: None }
    }
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("`consul`: {0:?} is no http or https address")]
    Url(String),
    #[error("`consul.{key}`: could not read {}", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("`consul`: the certificates or the connection cannot be used")]
    Client(#[source] reqwest::Error),
}

impl Config {
    /// Defaults for everything else. `url` as Patroni's `host`, `port` and `scheme` make it: `http://127.0.0.1:8500`.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>, session_name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            session_name: session_name.into(),
            token: None,
            dc: None,
            checks: Vec::new(),
            tls: Tls::default(),
            session_ttl_min: Duration::from_secs(10),
        }
    }

    pub(crate) fn base_url(&self) -> Result<Url, ConfigError> {
        let bad = || ConfigError::Url(self.url.clone());
        let url = Url::parse(&self.url).map_err(|_| bad())?;
        match url.scheme() {
            "http" | "https" if url.host_str().is_some() => Ok(url),
            _ => Err(bad()),
        }
    }

    /// The prefix as Consul's keys begin.
    pub(crate) fn base(&self) -> &str {
        self.prefix.trim_start_matches('/')
    }

    pub(crate) fn client(&self) -> Result<reqwest::Client, ConfigError> {
        // The agent is reached directly: a proxy from the environment would answer in its place.
        let mut builder =
            reqwest::Client::builder().no_proxy().redirect(Policy::none()).referer(false).tcp_nodelay(true);
        if let Some(tls) = self.own_trust()? {
            return builder.tls_backend_preconfigured(tls).build().map_err(ConfigError::Client);
        }
        if let Some(path) = &self.tls.cacert {
            let authorities =
                Certificate::from_pem_bundle(&read("cacert", path)?).map_err(ConfigError::Client)?;
            builder = builder.tls_certs_only(authorities);
        } else if self.url.starts_with("http:") {
            // A machine without any authorities can still speak plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        if let Some(pem) = self.identity()? {
            builder = builder.identity(Identity::from_pem(&pem).map_err(ConfigError::Client)?);
        }
        if !self.tls.verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder.build().map_err(ConfigError::Client)
    }

    /// Certificate and key in one text.
    fn identity(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.tls.cert else { return Ok(None) };
        let mut pem = read("cert", path)?;
        if let Some(path) = &self.tls.key {
            pem.push(b'\n');
            pem.extend(read("key", path)?);
        }
        Ok(Some(pem))
    }

    /// TLS that trusts the certificates in `cacert`, which may be the agent's own one. `None` if nothing is to be checked by that
    /// file, or something does not fit: the ordinary way says what.
    fn own_trust(&self) -> Result<Option<rustls::ClientConfig>, ConfigError> {
        let Some(path) = self.tls.cacert.as_ref().filter(|_| self.tls.verify) else { return Ok(None) };
        let (authorities, identity) = (read("cacert", path)?, self.identity()?);
        Ok(trusting(&authorities, identity.as_deref()))
    }
}

fn trusting(authorities: &[u8], identity: Option<&[u8]>) -> Option<rustls::ClientConfig> {
    let certificates = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok();
    let verifier = trust::server_verifier(certificates(authorities)?, Names::Checked).ok()?;
    let builder = rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        None => Some(builder.with_no_client_auth()),
        Some(pem) => {
            builder.with_client_auth_cert(certificates(pem)?, PrivateKeyDer::from_pem_slice(pem).ok()?).ok()
        }
    }
}

fn read(key: &'static str, path: &PathBuf) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|cause| ConfigError::Read { key, path: path.clone(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_scheme_and_a_host() {
        for (url, good) in [
            ("http://127.0.0.1:8500", true),
            ("https://consul.example:8501", true),
            ("127.0.0.1:8500", false),
            ("ftp://host", false),
            ("", false),
        ] {
            let config = Config::new(url, "/service/batman/", "batman-a");
            assert_eq!(config.base_url().is_ok(), good, "{url:?}");
            assert_eq!(config.base(), "service/batman/");
        }
    }
}
