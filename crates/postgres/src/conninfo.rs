//! Connection strings and the password file.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use crate::settings::{Credentials, HostPort};

/// A libpq connection string (`key=value ...`). It never holds a password: those go into a password file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conninfo(Vec<(String, String)>);

impl Conninfo {
    /// Host, port, user and TLS options. `major` is that of the libpq that will read it.
    pub(crate) fn new(address: &HostPort, credentials: &Credentials, major: u32) -> Self {
        let mut info = Self::default();
        info.set("user", &credentials.username);
        info.set("host", &address.host);
        info.set("port", &address.port.to_string());
        for (name, value) in &credentials.options {
            if is_known_option(name, major) {
                info.set(name, value);
            }
        }
        info
    }

    /// Sets a keyword; an empty value removes it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Gives a keyword another value in its place.
    pub(crate) fn replace(&mut self, name: &str, value: &str) {
        for (known, present) in &mut self.0 {
            if known == name {
                value.clone_into(present);
            }
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{name}={}", quote(value))?;
        }
        Ok(())
    }
}

/// Which of a role's options the libpq of this major version knows.
fn is_known_option(name: &str, major: u32) -> bool {
    match name {
        "sslmode"
        | "sslcert"
        | "sslkey"
        | "sslrootcert"
        | "sslcrl"
        | "gssencmode"
        | "krbsrvname"
        | "channel_binding"
        | "sslpassword"
        | "connect_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout" => true,
        "sslcrldir" => major >= 14,
        "sslnegotiation" => major >= 17,
        _ => false,
    }
}

pub(crate) fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@*,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// The lines of a password file for one server: one per host of a list, and `localhost` for a socket directory.
pub(crate) fn passfile_lines(address: &HostPort, credentials: &Credentials) -> BTreeSet<String> {
    let Some(password) = &credentials.password else { return BTreeSet::new() };
    let field = |text: &str| if text.is_empty() { "*".to_owned() } else { escape(text) };
    let mut hosts: BTreeSet<&str> = address.host.split(',').collect();
    if address.host.starts_with('/') || address.host.is_empty() {
        hosts.insert("localhost");
    }
    let (user, password) = (field(&credentials.username), escape(password.expose_secret()));
    hosts.iter().map(|host| format!("{}:{}:*:{user}:{password}", field(host), address.port)).collect()
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace(':', r"\:")
}

/// Writes a password file (mode 0600) if its content differs; `true` if it was written. Blocking.
pub(crate) fn write_passfile(path: &Path, lines: &BTreeSet<String>) -> io::Result<bool> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    remove_if_there(&fresh)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(&fresh, path)?;
    Ok(true)
}

/// A password file for one run of a program; removed when dropped.
#[derive(Debug)]
pub(crate) struct TemporaryPassfile(PathBuf);

impl TemporaryPassfile {
    /// Beside `pgpass`, with the entries of one server. Blocking.
    pub(crate) fn create(pgpass: &Path, address: &HostPort, credentials: &Credentials) -> io::Result<Self> {
        let mut name = pgpass.as_os_str().to_owned();
        name.push(format!(".{:08x}", rand::random::<u32>()));
        let path = PathBuf::from(name);
        write_passfile(&path, &passfile_lines(address, credentials))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryPassfile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary password file could not be removed");
        }
    }
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str) -> HostPort {
        HostPort { host: host.to_owned(), port: 5432 }
    }

    #[test]
    fn values_are_quoted_when_they_must_be() {
        let mut credentials = Credentials::new("re plica'tor", "geheim");
        credentials.options.insert("sslmode".to_owned(), "verify-full".to_owned());
        credentials.options.insert("sslcrldir".to_owned(), "/crl".to_owned());
        credentials.options.insert("service".to_owned(), "elsewhere".to_owned());
        let text = Conninfo::new(&address("10.0.0.1"), &credentials, 13)
            .with("application_name", r"pg\1")
            .to_string();
        assert_eq!(
            text,
            r"user='re plica\'tor' host=10.0.0.1 port=5432 sslmode=verify-full application_name='pg\\1'"
        );
        assert!(!text.contains("geheim"));
        assert!(Conninfo::new(&address("h"), &credentials, 14).to_string().contains("sslcrldir=/crl"));
    }

    #[test]
    fn password_lines_escape_and_cover_every_host() {
        let lines = |host, user, password| {
            passfile_lines(&address(host), &Credentials::new(user, password)).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(lines("::1", "u:1", r"p\:"), [r"\:\:1:5432:*:u\:1:p\\\:"]);
        assert_eq!(lines("a,b", "u", "p"), ["a:5432:*:u:p", "b:5432:*:u:p"]);
        assert_eq!(lines("/tmp", "", "p"), ["/tmp:5432:*:*:p", "localhost:5432:*:*:p"]);
        assert!(passfile_lines(&address("a"), &Credentials::default()).is_empty());
    }

    #[test]
    fn a_password_file_is_private_and_written_once() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        let lines = BTreeSet::from(["a:1:*:u:p".to_owned()]);
        assert!(write_passfile(&path, &lines).unwrap());
        assert!(!write_passfile(&path, &lines).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let temporary = TemporaryPassfile::create(&path, &address("h"), &Credentials::new("u", "p")).unwrap();
        let kept = temporary.path().to_owned();
        assert!(kept.exists());
        drop(temporary);
        assert!(!kept.exists());
    }
}
