//! `restapi` and `ctl`: the REST server, and how its clients identify themselves.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::SecretString;

use crate::{HostPort, Listen};

/// HTTP Basic credentials.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    pub username: String,
    pub password: SecretString,
}

/// The REST server of this member.
#[derive(Clone, Debug)]
pub struct RestApi {
    pub listen: Listen,
    /// Published as `api_url`; the `listen` address if not given.
    pub connect_address: HostPort,
    /// Asked for by unsafe methods.
    pub authentication: Option<BasicAuth>,
    /// A certificate switches the API to HTTPS.
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<SecretString>,
    pub cafile: Option<PathBuf>,
    /// OpenSSL's cipher list; kept, but rustls chooses its own.
    pub ciphers: Option<String>,
    pub verify_client: VerifyClient,
    /// Who may call unsafe methods: host names, addresses, networks. Empty = everybody.
    pub allowlist: Vec<String>,
    pub allowlist_include_members: bool,
    pub http_extra_headers: BTreeMap<String, String>,
    pub https_extra_headers: BTreeMap<String, String>,
    pub request_queue_size: u32,
    pub thread_pool_size: usize,
    pub server_tokens: ServerTokens,
}

impl RestApi {
    pub fn is_https(&self) -> bool {
        self.certfile.is_some()
    }

    /// `http(s)://<connect_address>/patroni`, as published in the member key.
    pub fn api_url(&self) -> String {
        let scheme = if self.is_https() { "https" } else { "http" };
        format!("{scheme}://{}/patroni", self.connect_address)
    }
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

/// What the header `Server` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    #[default]
    Original,
    /// `Server: Patroni`.
    ProductOnly,
    /// `Server: Patroni/<version>`.
    Minimal,
}

/// How the command line and the daemon call other members' REST APIs.
#[derive(Clone, Debug, Default)]
pub struct Ctl {
    /// Falls back to `restapi.authentication`.
    pub authentication: Option<BasicAuth>,
    /// Skip the check of the server's certificate.
    pub insecure: bool,
    /// Falls back to `restapi.cafile`.
    pub cacert: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<SecretString>,
}
