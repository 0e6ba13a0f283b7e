//! What the API needs to know; the `restapi` section, checked.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use axum::http::{HeaderName, HeaderValue};
use secrecy::SecretString;

use crate::ListenOn;

/// Settings of the REST server. All of them can be changed while it runs ([`crate::ApiHandle::reload`]).
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub listen: ListenOn,
    /// Set: the API speaks HTTPS.
    pub tls: Option<TlsFiles>,
    /// Asked for by unsafe methods.
    pub authentication: Option<BasicAuth>,
    /// Who may call unsafe methods: addresses, networks, host names. Empty: everybody, unless members are included.
    pub allowlist: Vec<String>,
    /// Also the addresses that the members' `api_url`s resolve to.
    pub allowlist_include_members: bool,
    /// Added to every answer that has a body and is no error page.
    pub http_extra_headers: BTreeMap<String, String>,
    /// Added as well on HTTPS.
    pub https_extra_headers: BTreeMap<String, String>,
    pub server_tokens: ServerTokens,
    /// How long a client may take for a TLS handshake, for the head of a request (idle time included) and for a body.
    pub slow_client_timeout: Duration,
}

impl ApiConfig {
    /// Plain HTTP without authentication, for everybody who reaches the address.
    pub fn new(listen: ListenOn) -> Self {
        Self {
            listen,
            tls: None,
            authentication: None,
            allowlist: Vec::new(),
            allowlist_include_members: false,
            http_extra_headers: BTreeMap::new(),
            https_extra_headers: BTreeMap::new(),
            server_tokens: ServerTokens::default(),
            slow_client_timeout: Duration::from_secs(30),
        }
    }
}

/// PEM files of the HTTPS server. Read at `bind` and at each reload.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certfile: PathBuf,
    /// `None`: the key is in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// Needed if the key is encrypted.
    pub keyfile_password: Option<SecretString>,
    /// Authorities of client certificates; needed unless `verify_client` is `None`.
    pub cafile: Option<PathBuf>,
    pub verify_client: VerifyClient,
}

/// When a client certificate is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    #[default]
    None,
    /// For unsafe methods.
    Optional,
    /// For every request, on the TLS level.
    Required,
}

/// HTTP Basic credentials.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    pub username: String,
    pub password: SecretString,
}

/// What the header `Server` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// The name of this server.
    #[default]
    Original,
    /// `Patroni`.
    ProductOnly,
    /// `Patroni/<version>`.
    Minimal,
}

/// A header of the configuration that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no valid HTTP header name, or its value has characters that a header cannot carry")]
pub struct InvalidHeader(pub String);

pub(crate) fn headers(
    map: &BTreeMap<String, String>,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeader> {
    let header = |(name, value): (&String, &String)| match (name.parse(), value.parse()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(InvalidHeader(name.clone())),
    };
    map.iter().map(header).collect()
}
