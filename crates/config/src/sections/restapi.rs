//! `restapi` and `ctl`: the REST server, and how its clients identify themselves.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::SecretString;

use crate::{HostPort, Listen, section::Section};

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

/// What to do about an address that cannot be used.
const ADDRESS_HELP: &str = "write `host:port`, for example `10.0.0.11:8008`";

impl RestApi {
    /// `None` if something that is needed is missing (which has been reported).
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        section.required_text("listen", "add `restapi.listen`, for example `0.0.0.0:8008`");
        let listen = section.parsed("listen", ADDRESS_HELP, |text| Listen::parse(text, None));
        let usable = listen.is_some();
        // Stands in for a missing one, so that the rest is read, and its problems told, all the same.
        let listen = listen.unwrap_or(Listen { hosts: Vec::new(), port: 0 });
        let connect_address = section
            .parsed("connect_address", ADDRESS_HELP, str::parse)
            .unwrap_or_else(|| HostPort::new(listen.hosts.first().map_or("", String::as_str), listen.port));
        let (certfile, keyfile) = (section.file("certfile"), section.file("keyfile"));
        if keyfile.is_some() && certfile.is_none() {
            let warning =
                section.about("keyfile", "has no effect without `certfile`: the API speaks plain HTTP");
            section.report.warn(warning.help("add `restapi.certfile`"));
        }
        let headers = |key| section.text_map(key).unwrap_or_default();
        let read = Self {
            listen,
            connect_address,
            authentication: BasicAuth::read(section),
            certfile,
            keyfile,
            keyfile_password: section.secret("keyfile_password"),
            cafile: section.file("cafile"),
            ciphers: section.filled_text("ciphers"),
            verify_client: section
                .choice(
                    "verify_client",
                    &[
                        ("none", VerifyClient::None),
                        ("optional", VerifyClient::Optional),
                        ("required", VerifyClient::Required),
                    ],
                )
                .unwrap_or_default(),
            allowlist: section.comma_texts("allowlist").unwrap_or_default(),
            allowlist_include_members: section.flag("allowlist_include_members").unwrap_or(false),
            http_extra_headers: headers("http_extra_headers"),
            https_extra_headers: headers("https_extra_headers"),
            request_queue_size: section.integer("request_queue_size", 0..=4096).unwrap_or(5) as u32,
            server_tokens: section
                .choice(
                    "server_tokens",
                    &[
                        ("Original", ServerTokens::Original),
                        ("ProductOnly", ServerTokens::ProductOnly),
                        ("Minimal", ServerTokens::Minimal),
                    ],
                )
                .unwrap_or_default(),
        };
        usable.then_some(read)
    }
}

impl BasicAuth {
    /// `authentication` of a section; half of it is a problem, because the API would be open to everybody.
    fn read(section: &Section<'_>) -> Option<Self> {
        let own = section.child("authentication");
        match (own.filled_text("username"), own.secret("password")) {
            (Some(username), Some(password)) => Some(Self { username, password }),
            (None, None) => None,
            (username, _) => {
                let missing = if username.is_none() { "username" } else { "password" };
                own.missing(missing, "give `username` and `password` together, or neither");
                None
            }
        }
    }
}

impl Ctl {
    pub(crate) fn read(section: &Section<'_>, restapi: &Section<'_>) -> Self {
        Self {
            authentication: BasicAuth::read(section).or_else(|| BasicAuth::read(restapi)),
            insecure: section.flag("insecure").unwrap_or(false),
            cacert: section.file("cacert").or_else(|| restapi.file("cafile")),
            certfile: section.file("certfile"),
            keyfile: section.file("keyfile"),
            keyfile_password: section.secret("keyfile_password"),
        }
    }
}
