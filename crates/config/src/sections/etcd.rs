//! `etcd3`: an etcd cluster that holds the state.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::{
    HostPort,
    section::Section,
    sections::servers::{read_hosts, read_url},
};

const DEFAULT_PORT: i64 = 2379;

/// An etcd cluster. The login is applied on reload, and the TLS files are read for each new connection; nothing else is.
#[derive(Clone, Debug)]
pub struct Etcd {
    /// Tried in this order.
    pub hosts: Vec<HostPort>,
    pub tls: bool,
    /// A domain whose SRV records name more hosts, which are preferred.
    pub srv: Option<String>,
    /// Goes with `srv`: `_etcd-client-SUFFIX._tcp`.
    pub srv_suffix: Option<String>,
    /// The hosts are proxies: never ask the cluster who its members are.
    pub use_proxies: bool,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub cacert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    /// In `cert` if not given.
    pub key: Option<PathBuf>,
}

impl Etcd {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let port = section.integer("port", 1..=65_535).unwrap_or(DEFAULT_PORT);
        let port = u16::try_from(port).expect("it is in that range");
        let protocol = section.choice("protocol", &[("http", false), ("https", true)]);
        let (proxy, url) = (read_url(section, "proxy", port), read_url(section, "url", port));
        let hosts = read_hosts(section, "hosts", port);
        let host = read_hosts(section, "host", port);
        let is_proxy = proxy.is_some();
        let url = proxy.or(url);
        let aliases = ["srv", "discovery_srv", "srv_domain"].map(|key| section.filled_text(key));
        // A URL names what is to be used; records only stand before a plain list.
        let srv = if url.is_some() { None } else { aliases.into_iter().flatten().next() };
        let named = ["proxy", "url", "hosts", "host", "srv", "discovery_srv", "srv_domain"];
        if named.iter().all(|key| !section.has(key) || section.text_is_empty(key)) {
            section.missing(
                "hosts",
                "name the members of etcd: `hosts: [10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379]`",
            );
        }
        let (mut username, mut password) = (section.filled_text("username"), section.secret("password"));
        let mut tls = protocol.unwrap_or(false);
        let hosts = match url {
            Some(url) => {
                tls = url.tls.unwrap_or(tls);
                username = url.username.or(username);
                password = url.password.map(SecretString::from).or(password);
                vec![url.address]
            }
            None if hosts.is_empty() => host,
            None => hosts,
        };
        let use_proxies = section.flag("use_proxies").unwrap_or(false) || is_proxy;
        let read = Self {
            hosts,
            tls,
            srv,
            srv_suffix: section.filled_text("srv_suffix"),
            use_proxies,
            username,
            password,
            cacert: section.file("cacert"),
            cert: section.file("cert"),
            key: section.file("key"),
        };
        read.check(section);
        (!read.hosts.is_empty() || read.srv.is_some()).then_some(read)
    }

    fn check(&self, section: &Section<'_>) {
        if self.key.is_some() && self.cert.is_none() {
            section.missing("cert", "give the certificate that `key` belongs to");
        }
        if self.username.is_some() != self.password.is_some() {
            let lacking = if self.username.is_some() { "password" } else { "username" };
            section.missing(lacking, "give `username` and `password` together");
        }
        let plain = !self.tls && self.srv.is_none();
        for (key, _) in self.files().iter().filter(|(_, file)| plain && file.is_some()) {
            let warning = section.about(key, "has no effect, because etcd is talked to in clear text");
            section.report.warn(warning.help("set `protocol: https`"));
        }
        if plain && self.password.is_some() && self.hosts.iter().any(|host| !host.is_local_only()) {
            let warning = section.about("password", "is sent in clear text");
            section.report.warn(warning.help("let etcd serve TLS and set `protocol: https`"));
        }
    }

    /// The TLS files by their keys.
    pub(crate) fn files(&self) -> [(&'static str, &Option<PathBuf>); 3] {
        [("cacert", &self.cacert), ("cert", &self.cert), ("key", &self.key)]
    }
}
