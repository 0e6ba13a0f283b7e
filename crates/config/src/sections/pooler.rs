//! `pooler`: how clients share servers, in PgBouncer's words. Off without the section.

pub mod limits;

use std::{path::PathBuf, time::Duration};

use self::limits::PoolLimits;
use super::router::ListenerMode;
use crate::section::Section;

const MODES: [(&str, ListenerMode); 3] = [
    ("session", ListenerMode::Session),
    ("transaction", ListenerMode::Transaction),
    ("statement", ListenerMode::Statement),
];
const SPAN: &str = "write seconds, or a number with a unit, for example `500ms`";

/// Ours, with PgBouncer's names, meanings and defaults where it has such a setting. Applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooler {
    pub pool_mode: ListenerMode,
    pub limits: PoolLimits,
    pub max_client_conn: usize,
    pub admin_users: Vec<String>,
    pub stats_users: Vec<String>,
    pub max_prepared_statements: usize,
    pub query_wait_timeout: Duration,
    /// Zero: never.
    pub query_wait_notify: Duration,
    pub client_login_timeout: Duration,
    pub server_connect_timeout: Duration,
    /// Zero: never.
    pub server_idle_timeout: Duration,
    /// Zero: for ever.
    pub server_lifetime: Duration,
    pub server_reset_query: String,
    pub auth_type: AuthType,
    /// With `auth_type: hba`: who must show what.
    pub auth_hba_file: Option<PathBuf>,
    /// Which names in certificates may be which users.
    pub auth_ident_file: Option<PathBuf>,
    /// `None`: passwords are looked up at the local server.
    pub auth_file: Option<PathBuf>,
    /// The query that looks passwords up; `None`: ours, if anybody is to be asked.
    pub auth_query: Option<String>,
    /// Who asks it; `None`: the superuser.
    pub auth_user: Option<String>,
    /// Where it is asked; `None`: in `postgresql.database`.
    pub auth_dbname: Option<String>,
    pub tls: PoolerTls,
}

/// `client_tls_*` and `server_tls_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerTls {
    pub client_mode: TlsMode,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub server_mode: TlsMode,
    pub server_ca_file: Option<PathBuf>,
    pub server_cert_file: Option<PathBuf>,
    pub server_key_file: Option<PathBuf>,
}

/// libpq's `sslmode`, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    const WORDS: [(&str, TlsMode); 6] = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];

    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// `auth_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthType {
    Scram,
    Md5,
    Plain,
    Trust,
    /// A certificate that names the user.
    Cert,
    /// As the lines of `auth_hba_file` say.
    Hba,
}

impl Pooler {
    /// The port that PgBouncer's users know.
    pub(crate) const PORT: u16 = 6432;

    /// `None` without the section.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        if !root.has("pooler") {
            return None;
        }
        let section = root.child("pooler");
        let span = |key: &str, seconds: u64| read_span(&section, key, seconds);
        let count = |key: &str, default: usize| {
            section.integer(key, 1..=1_000_000).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
        };
        Some(Self {
            pool_mode: section.choice("pool_mode", &MODES).unwrap_or(ListenerMode::Transaction),
            limits: PoolLimits::read(&section),
            max_client_conn: count("max_client_conn", 10_000),
            admin_users: section.comma_texts("admin_users").unwrap_or_default(),
            stats_users: section.comma_texts("stats_users").unwrap_or_default(),
            max_prepared_statements: count("max_prepared_statements", 200),
            query_wait_timeout: span("query_wait_timeout", 120),
            query_wait_notify: span("query_wait_notify", 5),
            client_login_timeout: span("client_login_timeout", 60),
            server_connect_timeout: span("server_connect_timeout", 5),
            server_idle_timeout: span("server_idle_timeout", 600),
            server_lifetime: span("server_lifetime", 3600),
            server_reset_query: section
                .text("server_reset_query")
                .unwrap_or_else(|| "DISCARD ALL".to_owned()),
            auth_type: read_auth_type(&section),
            auth_hba_file: section.file("auth_hba_file"),
            auth_ident_file: section.file("auth_ident_file"),
            auth_file: section.file("auth_file"),
            auth_query: section.filled_text("auth_query"),
            auth_user: section.filled_text("auth_user"),
            auth_dbname: section.filled_text("auth_dbname"),
            tls: read_tls(&section),
        })
    }
}

fn read_auth_type(section: &Section<'_>) -> AuthType {
    let words = [
        ("scram-sha-256", AuthType::Scram),
        ("md5", AuthType::Md5),
        ("plain", AuthType::Plain),
        ("trust", AuthType::Trust),
        ("cert", AuthType::Cert),
        ("hba", AuthType::Hba),
    ];
    let auth_type = section.choice("auth_type", &words).unwrap_or(AuthType::Scram);
    if auth_type == AuthType::Hba && !section.has("auth_hba_file") {
        section.missing("auth_hba_file", "name a file with lines as in pg_hba.conf");
    }
    if auth_type != AuthType::Hba && section.has("auth_hba_file") {
        // Whoever wrote it believes that its lines are in force.
        let problem = section.about("auth_hba_file", "has no effect without `auth_type: hba`");
        section.report.problem(problem.help("write `auth_type: hba`, or remove it"));
    }
    if auth_type == AuthType::Cert && !section.has("client_tls_ca_file") {
        section.missing("client_tls_ca_file", "name the authority that signs the certificates of clients");
    }
    auth_type
}

fn read_tls(section: &Section<'_>) -> PoolerTls {
    let mode = |key: &str| section.choice(key, &TlsMode::WORDS);
    PoolerTls {
        client_mode: mode("client_tls_sslmode").unwrap_or(TlsMode::Prefer),
        client_cert_file: section.file("client_tls_cert_file"),
        client_key_file: section.file("client_tls_key_file"),
        client_ca_file: section.file("client_tls_ca_file"),
        server_mode: mode("server_tls_sslmode").unwrap_or(TlsMode::Prefer),
        server_ca_file: section.file("server_tls_ca_file"),
        server_cert_file: section.file("server_tls_cert_file"),
        server_key_file: section.file("server_tls_key_file"),
    }
}

/// Zero is `never`, as in PgBouncer.
fn read_span(section: &Section<'_>, key: &str, seconds: u64) -> Duration {
    read_lasting(section, key).unwrap_or(Duration::from_secs(seconds))
}

/// `None`: nothing is said, or nothing that can be read.
fn read_lasting(section: &Section<'_>, key: &str) -> Option<Duration> {
    if section.filled_text(key).is_some_and(|text| text.trim() == "0") {
        return Some(Duration::ZERO);
    }
    section.span(key, Duration::from_secs(1), SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Report;

    fn read(text: &str) -> (Option<Pooler>, Vec<String>) {
        let (root, _) = crate::yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        let pooler = Pooler::read(&Section::root(&root, &report));
        (pooler, report.into_parts().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn pgbouncers_names_mean_what_they_mean_there() {
        assert_eq!(read("scope: s"), (None, vec![]));
        let text = "\
pooler:
  pool_mode: session
  default_pool_size: 50
  server_lifetime: 0
  query_wait_timeout: 30
  max_db_connections: 80
  databases: {shop: {pool_size: 5, max_db_connections: 0, server_lifetime: 30min}, ledger: {split: off}}
  transaction_timeout: 90
  users: {batch: {max_user_connections: 2, query_timeout: 0, pool_mode: session}}
";
        let (pooler, problems) = read(text);
        assert_eq!(problems, Vec::<String>::new());
        let pooler = pooler.unwrap();
        assert_eq!((pooler.pool_mode, pooler.limits.default_pool_size), (ListenerMode::Session, 50));
        assert_eq!(pooler.server_lifetime, Duration::ZERO);
        assert_eq!(pooler.query_wait_timeout, Duration::from_secs(30));
        let shop = &pooler.limits.databases["shop"];
        assert_eq!((shop.pool_size, shop.max_connections, shop.is_unsplit), (Some(5), Some(0), false));
        assert_eq!(shop.server_lifetime, Some(Duration::from_secs(1800)));
        assert!(pooler.limits.databases["ledger"].is_unsplit);
        assert_eq!(pooler.limits.max_db_connections, 80);
        let batch = &pooler.limits.users["batch"];
        assert_eq!((batch.max_connections, batch.timeouts.query), (Some(2), Some(Duration::ZERO)));
        assert_eq!(batch.pool_mode, Some(ListenerMode::Session));
        assert_eq!(pooler.limits.timeouts.transaction, Some(Duration::from_secs(90)));
    }

    #[test]
    fn slips_are_told() {
        for (text, expected) in [
            ("pooler: {auth_type: hba}", "pooler.auth_hba_file"),
            ("pooler: {auth_hba_file: /h}", "without `auth_type: hba`"),
            ("pooler: {auth_type: cert}", "pooler.client_tls_ca_file"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{text}: {problems:?}");
        }
        let (_, problems) = read("pooler: {pool_mode: tcp, default_pool_size: 0, query_wait_timeout: soon}");
        let all = problems.join("\n");
        for expected in ["pooler.pool_mode", "pooler.default_pool_size", "pooler.query_wait_timeout"] {
            assert!(all.contains(expected), "{expected} in {all}");
        }
    }
}
