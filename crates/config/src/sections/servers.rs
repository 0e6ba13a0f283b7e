//! Where the servers of a store are, as its section says it.

use crate::{HostPort, section::Section};

/// What `url` and `proxy` hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: Option<bool>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) address: HostPort,
}

/// Addresses without a port get the common one.
pub(super) fn read_hosts(section: &Section<'_>, key: &str, port: u16) -> Vec<HostPort> {
    let texts = section.comma_texts(key).unwrap_or_default();
    let parse = |text: String| {
        let parsed = HostPort::parse(&text, Some(port)).map_err(|error| error.to_string());
        match parsed
            .and_then(|host| if host.host.is_empty() { Err("the host is missing".into()) } else { Ok(host) })
        {
            Ok(host) => Some(host),
            Err(reason) => {
                let problem = section.about(key, reason).found(text.as_str());
                section
                    .report
                    .problem(problem.help(format!("write `host:port`, for example `10.0.0.11:{port}`")));
                None
            }
        }
    };
    texts.into_iter().filter_map(parse).collect()
}

/// It may hold a password, so that the text itself is never told.
pub(super) fn read_url(section: &Section<'_>, key: &str, port: u16) -> Option<Url> {
    let text = section.filled_text(key)?;
    match parse_url(&text, port) {
        Ok(url) => Some(url),
        Err(reason) => {
            let problem = section.about_hidden(key, reason);
            let help =
                format!("write `https://user:password@host:{port}`; scheme, login and port may be left out");
            section.report.problem(problem.help(help));
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
