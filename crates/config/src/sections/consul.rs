//! `consul`: Consul holds the state, through the agent on this machine.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    HostPort,
    section::Section,
    sections::servers::{read_hosts, read_url},
};

const DEFAULT_PORT: i64 = 8500;
const SPAN_HELP: &str = "write a number with a unit, for example `10s`";

/// An agent of Consul. What says how the member is registered as a service is applied on reload, nothing else.
#[derive(Clone, Debug)]
pub struct Consul {
    /// The agent, as a rule the one on this machine.
    pub address: HostPort,
    pub tls: bool,
    pub token: Option<SecretString>,
    /// Whether the agent's certificate is checked.
    pub verify: bool,
    pub cacert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    /// In `cert` if not given.
    pub key: Option<PathBuf>,
    /// The datacenter, if it is not the agent's own.
    pub dc: Option<String>,
    /// Health checks that our session hangs on.
    pub checks: Vec<String>,
    /// Ours: the servers' setting of that name.
    pub session_ttl_min: Duration,
    /// The member in the catalogue, if it is to be registered there.
    pub service: Option<Service>,
}

/// `register_service` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Tags besides the role.
    pub tags: Vec<String>,
    /// How often Consul asks the member's API for its role.
    pub check_interval: Duration,
    /// The name in the API's certificate.
    pub check_tls_server_name: Option<String>,
}

impl Consul {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let port = section.integer("port", 1..=65_535).unwrap_or(DEFAULT_PORT);
        let port = u16::try_from(port).expect("it is in that range");
        let scheme = section.choice("scheme", &[("http", false), ("https", true)]);
        // Reads are consistent whatever it says; a word that is none of Consul's is a mistake nevertheless.
        section.choice("consistency", &[("default", ()), ("consistent", ()), ("stale", ())]);
        let (hosts, url) = (read_hosts(section, "host", port), read_url(section, "url", port));
        if hosts.len() > 1 {
            let problem = section.about("host", "names several agents; a member talks to one");
            section.report.problem(problem.help("name the agent on this machine"));
        }
        if url.as_ref().is_some_and(|url| url.username.is_some() || url.password.is_some()) {
            let warning = section.about_hidden("url", "holds a login, which Consul does not know");
            section.report.warn(warning.help("give a `token`"));
        }
        let (address, tls) = match (url, hosts.into_iter().next()) {
            (Some(url), _) => (url.address, url.tls.or(scheme)),
            (None, Some(host)) => (host, scheme),
            (None, None) => (HostPort::new("127.0.0.1", port), scheme),
        };
        let read = Self {
            address,
            tls: tls.unwrap_or(false),
            token: section.secret("token"),
            verify: section.flag("verify").unwrap_or(true),
            cacert: section.file("cacert"),
            cert: section.file("cert"),
            key: section.file("key"),
            dc: section.filled_text("dc"),
            checks: section.comma_texts("checks").unwrap_or_default(),
            session_ttl_min: section
                .span("session_ttl_min", Duration::from_secs(1), SPAN_HELP)
                .unwrap_or(Duration::from_secs(10)),
            service: read_service(section),
        };
        read.check(section);
        Some(read)
    }

    fn check(&self, section: &Section<'_>) {
        if self.key.is_some() && self.cert.is_none() {
            section.missing("cert", "give the certificate that `key` belongs to");
        }
        for (key, _) in self.files().iter().filter(|(_, file)| !self.tls && file.is_some()) {
            let warning = section.about(key, "has no effect, because Consul is talked to in clear text");
            section.report.warn(warning.help("set `scheme: https`"));
        }
        if self.tls && !self.verify {
            let warning = section.about("verify", "lets anybody pose as the agent");
            section.report.warn(warning.help("name the authority in `cacert` instead"));
        }
        if !self.tls && self.token.is_some() && !self.address.is_local_only() {
            let warning = section.about_hidden("token", "is sent in clear text");
            section.report.warn(warning.help("set `scheme: https`, or use an agent on this machine"));
        }
        if !self.checks.is_empty() {
            let reason = "lets the lease end when a check fails, whatever time Consul has guaranteed: it is no fence then";
            section
                .report
                .warn(section.about("checks", reason).help("remove it; the session has a ttl of its own"));
        }
    }

    /// The TLS files by their keys.
    pub fn files(&self) -> [(&'static str, &Option<PathBuf>); 3] {
        [("cacert", &self.cacert), ("cert", &self.cert), ("key", &self.key)]
    }
}

fn read_service(section: &Section<'_>) -> Option<Service> {
    let service = Service {
        tags: section.texts("service_tags").unwrap_or_default(),
        check_interval: section
            .span("service_check_interval", Duration::from_secs(1), SPAN_HELP)
            .unwrap_or(Duration::from_secs(5)),
        check_tls_server_name: section.filled_text("service_check_tls_server_name"),
    };
    section.flag("register_service").unwrap_or(false).then_some(service)
}
