//! `etcd3`: an etcd cluster that holds the state.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::{HostPort, section::Section};

const DEFAULT_PORT: i64 = 2379;
const ADDRESS_HELP: &str = "write `host:port`, for example `10.0.0.11:2379`";
const URL_HELP: &str = "write `https://user:password@host:2379`; scheme, login and port may be left out";

/// An etcd cluster. None of it is applied on reload; the TLS files are read for each new connection.
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

/// What `url` and `proxy` hold.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: Option<bool>,
    username: Option<String>,
    password: Option<String>,
    address: HostPort,
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

/// Addresses without a port get the common one.
fn read_hosts(section: &Section<'_>, key: &str, port: u16) -> Vec<HostPort> {
    let texts = section.comma_texts(key).unwrap_or_default();
    let parse = |text: String| {
        let parsed = HostPort::parse(&text, Some(port)).map_err(|error| error.to_string());
        match parsed
            .and_then(|host| if host.host.is_empty() { Err("the host is missing".into()) } else { Ok(host) })
        {
            Ok(host) => Some(host),
            Err(reason) => {
                let problem = section.about(key, reason).found(text.as_str());
                section.report.problem(problem.help(ADDRESS_HELP));
                None
            }
        }
    };
    texts.into_iter().filter_map(parse).collect()
}

/// It may hold a password, so that the text itself is never told.
fn read_url(section: &Section<'_>, key: &str, port: u16) -> Option<Url> {
    let text = section.filled_text(key)?;
    match parse_url(&text, port) {
        Ok(url) => Some(url),
        Err(reason) => {
            let problem = section.about_hidden(key, reason);
            section.report.problem(problem.help(URL_HELP));
            None
        }
    }
}

fn parse_url(text: &str, port: u16) -> Result<Url, String> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Some(false), rest),
        Some(("https", rest)) => (Some(true), rest),
        Some((scheme, _)) => return Err(format!("`{scheme}` is neither http nor https")),
        None => (None, text),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (login, address) = match authority.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, authority),
    };
    let address = HostPort::parse(address, Some(port)).map_err(|error| error.to_string())?;
    if address.host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => (None, None),
        Some((username, password)) => (Some(decoded(username)?), Some(decoded(password)?)),
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Url { tls, username: filled(username), password: filled(password), address })
}

/// `%40` is `@`.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.ok_or("a `%` in the login is not followed by two hexadecimal digits")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the login is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_carry_scheme_login_and_port() {
        let url = |tls, username: Option<&str>, password: Option<&str>, host, port| {
            let address = HostPort::new(host, port);
            Ok(Url { tls, username: username.map(Into::into), password: password.map(Into::into), address })
        };
        for (text, expected) in [
            ("etcd-1", url(None, None, None, "etcd-1", 2379)),
            ("https://etcd-1:4001/", url(Some(true), None, None, "etcd-1", 4001)),
            ("http://me:a%40b%3ac@[::1]:1", url(Some(false), Some("me"), Some("a@b:c"), "::1", 1)),
            ("https://me@h", url(Some(true), Some("me"), None, "h", 2379)),
        ] {
            assert_eq!(parse_url(text, 2379), expected, "{text}");
        }
        for bad in ["ftp://h", "https://", "https://u:%4@h", "https://h:x"] {
            assert!(parse_url(bad, 2379).is_err(), "{bad}");
        }
    }
}
