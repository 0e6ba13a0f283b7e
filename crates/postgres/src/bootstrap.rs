//! A new database cluster: initdb or the user's command, roles, and the `post_bootstrap` hook.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bellwether_types::program::{ProgramOption, ours};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::{
    config_files::{self, ConfigFileError},
    connect::{ConnectError, Session, superuser_session},
    conninfo::{Conninfo, TemporaryPassfile, remove_if_there},
    custom_bootstrap,
    program::{ProgramError, blocking, run},
    settings::{Credentials, PgSettings},
};

/// What pg_rewind must be allowed to call.
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// No password may reach a log or a statistics view.
pub(crate) const QUIET_SESSION: &str = "SET log_statement TO none; SET log_min_duration_statement TO -1; \
    SET log_min_duration_sample TO -1; SET log_min_error_statement TO 'log'; SET log_duration TO off; \
    SET \"pg_stat_statements.track\" TO none; SET \"pg_stat_statements.track_utility\" TO off; \
    SET \"pgaudit.log\" TO none; SET synchronous_commit TO local; SET statement_timeout TO 0";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    #[error("option `{option}` is not allowed for initdb: remove it from `bootstrap.initdb`")]
    ForbiddenOption { option: String },
    #[error("{program} ended with {status}: {last_line}")]
    Exited { program: &'static str, status: String, last_line: String },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("could not connect to the new server")]
    Connect(#[source] ConnectError),
    #[error("could not create the role `{role}`")]
    Role {
        role: String,
        #[source]
        cause: tokio_postgres::Error,
    },
}

impl BootstrapError {
    /// A failed bootstrap is never repeated by itself: the data directory is set aside for somebody to look at.
    pub fn is_retryable(&self) -> bool {
        false
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Program(ProgramError::Cancelled { .. }))
    }
}

/// Makes the first data directory by initdb or by the user's command, and appends `bootstrap.pg_hba`.
pub async fn create(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), BootstrapError> {
    match &settings.bootstrap.custom {
        Some(custom) => custom_bootstrap::run_command(settings, custom, cancel).await?,
        None => initdb(settings, cancel).await?,
    }
    let settings = settings.clone();
    blocking(move || {
        if settings.pg_hba.is_none() && !settings.parameters.contains_key("hba_file") {
            config_files::append_hba(&settings, &settings.bootstrap.pg_hba)?;
        }
        Ok(())
    })
    .await
}

/// Runs initdb into the (missing or empty) data directory. On failure or cancellation what was made is left for the caller
/// to set aside.
async fn initdb(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), BootstrapError> {
    refuse_forbidden(&settings.bootstrap.initdb)?;
    let password_file = match &settings.superuser.password {
        Some(password) if !password.expose_secret().is_empty() => {
            let (beside, text) = (settings.pgpass.clone(), password.clone());
            let made = blocking(move || PasswordFile::create(&beside, text.expose_secret())).await;
            Some(made.map_err(|cause| BootstrapError::Io { what: "could not write a password file", cause })?)
        }
        _ => None,
    };
    let mut command = settings.tool("initdb");
    // The locale of the new cluster is the user's choice, not that of our parsing.
    command.env_remove("LC_ALL");
    restore_locale(&mut command);
    command.args(settings.bootstrap.initdb.iter().map(ProgramOption::to_string));
    if !settings.superuser.username.is_empty() {
        command.arg(format!("--username={}", settings.superuser.username));
    }
    if let Some(file) = &password_file {
        command.arg(format!("--pwfile={}", file.0.display()));
        if keeps_passwords_as_md5(settings).await {
            command.arg("--auth-host=scram-sha-256");
        }
    }
    command.arg(&settings.data_dir);
    let finished = run(command, None, cancel).await?;
    drop(password_file);
    if !finished.status.success() {
        let (status, last_line) = (finished.status.to_string(), finished.last_line());
        return Err(BootstrapError::Exited { program: "initdb", status, last_line });
    }
    let settings = settings.clone();
    Ok(blocking(move || config_files::adopt_from_initdb(&settings)).await?)
}

/// Before version 14 passwords are stored as MD5 unless initdb hears of SCRAM, and then no `pg_hba.conf` that demands SCRAM, as
/// everybody's does today, lets anybody in. Whoever names a method has decided.
async fn keeps_passwords_as_md5(settings: &PgSettings) -> bool {
    let names_a_method = |option: &ProgramOption| option.name == "auth" || option.name.starts_with("auth-");
    if settings.bootstrap.initdb.iter().any(names_a_method) {
        return false;
    }
    let told = settings.tool("initdb").arg("--version").output().await;
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    major_of(&text).is_some_and(|major| major < 14)
}

/// The major version in `initdb (PostgreSQL) 13.16 (Debian 13.16-0+deb11u1)`.
fn major_of(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL) ").nth(1)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn restore_locale(command: &mut tokio::process::Command) {
    for name in ["LC_ALL", "LANGUAGE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

fn refuse_forbidden(options: &[ProgramOption]) -> Result<(), BootstrapError> {
    match options.iter().find(|option| ours::INITDB.contains(&option.name.as_str())) {
        Some(option) => Err(BootstrapError::ForbiddenOption { option: option.name.clone() }),
        None => Ok(()),
    }
}

/// A file with one password, for initdb; removed when dropped.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn create(beside: &Path, password: &str) -> io::Result<Self> {
        let mut name = beside.as_os_str().to_owned();
        name.push(format!(".initdb.{:08x}", rand::random::<u32>()));
        let file = Self(PathBuf::from(name));
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.0)?;
        io::Write::write_all(&mut open, password.as_bytes())?;
        Ok(file)
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary password file could not be removed");
        }
    }
}

/// On the running new primary: superuser, `post_bootstrap`, replication and rewind roles, in this order. May be repeated.
pub async fn create_roles(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), BootstrapError> {
    let superuser = &settings.superuser;
    if !superuser.username.is_empty() && superuser.password.is_some() {
        create_role(&quiet_session(settings).await?, superuser, "SUPERUSER").await?;
    }
    run_post_bootstrap(settings, cancel).await?;

    let session = quiet_session(settings).await?;
    if !settings.replication.username.is_empty() && settings.replication.username != superuser.username {
        create_role(&session, &settings.replication, "REPLICATION").await?;
    }
    if let Some(rewind) = &settings.rewind
        && !rewind.username.is_empty()
        && rewind.username != superuser.username
    {
        if rewind.username != settings.replication.username {
            create_role(&session, rewind, "").await?;
        }
        for function in REWIND_FUNCTIONS {
            let grant = format!(
                "GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {}",
                identifier(&rewind.username)
            );
            execute(&session, &rewind.username, &grant).await?;
        }
    }
    Ok(())
}

async fn quiet_session(settings: &PgSettings) -> Result<Session, BootstrapError> {
    let session = superuser_session(settings, "Patroni", "").await.map_err(BootstrapError::Connect)?;
    session
        .client
        .batch_execute(QUIET_SESSION)
        .await
        .map_err(|error| BootstrapError::Connect(error.into()))?;
    Ok(session)
}

/// Creates the role, or gives an existing one these attributes and this password.
async fn create_role(session: &Session, role: &Credentials, attributes: &str) -> Result<(), BootstrapError> {
    let failed = |cause| BootstrapError::Role { role: role.username.clone(), cause };
    let exists = session
        .client
        .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role.username])
        .await
        .map_err(failed)?
        .is_some();
    let verb = if exists { "ALTER" } else { "CREATE" };
    let mut statement = format!("{verb} ROLE {} WITH LOGIN {attributes}", identifier(&role.username));
    if let Some(password) = &role.password {
        statement.push_str(" PASSWORD ");
        statement.push_str(&literal(password.expose_secret()));
    }
    execute(session, &role.username, &statement).await
}

async fn execute(session: &Session, role: &str, statement: &str) -> Result<(), BootstrapError> {
    let result = session.client.batch_execute(statement).await;
    result.map_err(|cause| BootstrapError::Role { role: role.to_owned(), cause })
}

/// The user's script, with a connection string and a password file.
async fn run_post_bootstrap(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), BootstrapError> {
    let Some(line) = &settings.bootstrap.post_bootstrap else { return Ok(()) };
    let address = settings.local_address(settings.use_unix_socket).await;
    let dsn =
        Conninfo::new(&address, &settings.superuser, u32::MAX).with("dbname", &settings.database).to_string();
    let (pgpass, superuser) = (settings.pgpass.clone(), settings.superuser.clone());
    let passfile = blocking(move || TemporaryPassfile::create(&pgpass, &address, &superuser))
        .await
        .map_err(|cause| BootstrapError::Io { what: "could not write a password file", cause })?;

    let mut command = settings.hook(line)?;
    command.arg(dsn).envs(BTreeMap::from([
        ("PGPASSFILE", passfile.path().as_os_str()),
        ("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0".as_ref()),
    ]));
    let finished = run(command, None, cancel).await?;
    if finished.status.success() {
        return Ok(());
    }
    let (status, last_line) = (finished.status.to_string(), finished.last_line());
    Err(BootstrapError::Exited { program: "the post_bootstrap script", status, last_line })
}

/// A quoted SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted SQL string that means the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\\', r"\\").replace('\'', "''");
    if text.contains('\\') { format!("E'{quoted}'") } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_ours_are_refused() {
        for (option, allowed) in
            [("data-checksums", true), ("pwfile", false), ("pgdata", false), ("locale", true)]
        {
            assert_eq!(refuse_forbidden(&[ProgramOption::flag(option)]).is_ok(), allowed, "{option}");
        }
    }

    #[test]
    fn the_version_of_initdb_is_read_from_its_words() {
        for (text, major) in [
            ("initdb (PostgreSQL) 13.16 (Debian 13.16-0+deb11u1)\n", Some(13)),
            ("initdb (PostgreSQL) 18beta1", Some(18)),
            ("something else", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn names_and_passwords_can_not_leave_their_quotes() {
        assert_eq!(identifier(r#"re"pl"#), r#""re""pl""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}
