//! Citus: the session that keeps the coordinator's metadata, and what the database of a new cluster gets.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio_postgres::{NoTls, SimpleQueryMessage, error::SqlState};

use crate::{
    bootstrap::{QUIET_SESSION, identifier, literal},
    connect::{ConnectError, Session, session},
    conninfo::quote,
    settings::{CitusSettings, Credentials, PgSettings},
};

/// Statements wait for locks as long as whoever runs them says; what a database or a role sets must not end the session.
const SESSION_OPTIONS: &str =
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";

/// How long the server may take to hear that a statement is to be cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CitusError {
    #[error("could not connect to the database `{database}` of the local server")]
    Connect {
        database: String,
        #[source]
        cause: ConnectError,
    },
    #[error("`{statement}` failed")]
    Statement {
        statement: String,
        #[source]
        cause: tokio_postgres::Error,
    },
    #[error("the local server gave an answer that is not understood: {0}")]
    Answer(String),
}

/// A row of `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CitusNode {
    pub id: i64,
    pub group: u32,
    pub host: String,
    pub port: u16,
    pub is_primary: bool,
}

/// The session on the coordinator. After an error it is of no use any more: a transaction may be open in it.
#[derive(Debug)]
pub struct CitusSession(Session);

impl CitusSession {
    /// To the database with the extension, as superuser.
    pub async fn begin(settings: &PgSettings, database: &str) -> Result<Self, CitusError> {
        open(settings, database, SESSION_OPTIONS).await.map(Self)
    }

    /// The whole table.
    pub async fn nodes(&self) -> Result<Vec<CitusNode>, CitusError> {
        let statement = "SELECT groupid, nodename, nodeport, noderole, nodeid FROM pg_catalog.pg_dist_node";
        self.rows(statement).await?.iter().map(|row| node(row).ok_or_else(|| answer(row))).collect()
    }

    /// A transaction that the server ends by itself when it waits for us for so long, whatever has become of us.
    pub async fn start_transaction(&self, patience: Duration) -> Result<(), CitusError> {
        let limit = format!("SET LOCAL idle_in_transaction_session_timeout TO {}", patience.as_millis());
        self.run(&format!("BEGIN; {limit}")).await
    }

    /// Citus waits for those who hold locks on the node's shards for `cooldown`, and ends their sessions then.
    pub async fn update_node(
        &self,
        id: i64,
        host: &str,
        port: u16,
        cooldown: Duration,
    ) -> Result<(), CitusError> {
        let (host, cooldown) = (literal(host), cooldown.as_millis());
        self.run(&format!("SELECT pg_catalog.citus_update_node({id}, {host}, {port}, true, {cooldown})"))
            .await
    }

    /// `role`: a word of `noderole`.
    pub async fn add_node(&self, host: &str, port: u16, group: u32, role: &str) -> Result<(), CitusError> {
        let (host, role) = (literal(host), literal(role));
        self.run(&format!("SELECT pg_catalog.citus_add_node({host}, {port}, {group}, {role}, 'default')"))
            .await
    }

    pub async fn remove_node(&self, host: &str, port: u16) -> Result<(), CitusError> {
        self.run(&format!("SELECT pg_catalog.citus_remove_node({}, {port})", literal(host))).await
    }

    pub async fn commit(&self) -> Result<(), CitusError> {
        self.run("COMMIT").await
    }

    pub async fn roll_back(&self) -> Result<(), CitusError> {
        self.run("ROLLBACK").await
    }

    /// Ends what the server is doing for this session, and the session: a server that waits for a lock does not notice that its client
    /// has gone.
    pub async fn abandon(self) {
        let cancelled = self.0.client.cancel_token();
        if let Ok(Err(error)) = tokio::time::timeout(CANCEL_LIMIT, cancelled.cancel_query(NoTls)).await {
            tracing::debug!(%error, "a statement about Citus's nodes could not be cancelled");
        }
    }

    async fn run(&self, statement: &str) -> Result<(), CitusError> {
        self.rows(statement).await.map(drop)
    }

    async fn rows(&self, statement: &str) -> Result<Vec<tokio_postgres::SimpleQueryRow>, CitusError> {
        let failed = |cause| CitusError::Statement { statement: statement.to_owned(), cause };
        let answers = self.0.client.simple_query(statement).await.map_err(failed)?;
        let row = |answer| if let SimpleQueryMessage::Row(row) = answer { Some(row) } else { None };
        Ok(answers.into_iter().filter_map(row).collect())
    }
}

fn node(row: &tokio_postgres::SimpleQueryRow) -> Option<CitusNode> {
    Some(CitusNode {
        group: row.get(0)?.parse().ok()?,
        host: row.get(1)?.to_owned(),
        port: row.get(2)?.parse().ok()?,
        is_primary: row.get(3)? == "primary",
        id: row.get(4)?.parse().ok()?,
    })
}

fn answer(row: &tokio_postgres::SimpleQueryRow) -> CitusError {
    let fields: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
    CitusError::Answer(format!("a row of pg_dist_node: {}", fields.join(", ")))
}

async fn open(settings: &PgSettings, database: &str, options: &str) -> Result<Session, CitusError> {
    let address = settings.local_address(settings.use_unix_socket).await;
    let opened = session(&address, &settings.superuser, database, "Patroni citus", options).await;
    opened.map_err(|cause| CitusError::Connect { database: database.to_owned(), cause })
}

/// Gives a new cluster its part of Citus: the database, the extension, how nodes log in at each other, and the coordinator's own
/// row. May be repeated.
pub async fn prepare(settings: &PgSettings, citus: &CitusSettings) -> Result<(), CitusError> {
    if citus.database != settings.database {
        let session = quiet(settings, &settings.database).await?;
        let statement = format!("CREATE DATABASE {}", identifier(&citus.database));
        match execute(&session, &statement).await {
            Err(CitusError::Statement { cause, .. })
                if cause.code() == Some(&SqlState::DUPLICATE_DATABASE) => {}
            end => end?,
        }
    }
    let session = quiet(settings, &citus.database).await?;
    execute(&session, "CREATE EXTENSION IF NOT EXISTS citus").await?;
    if let Some(login) = login(&settings.superuser) {
        let statement = "INSERT INTO pg_catalog.pg_dist_authinfo VALUES (0, pg_catalog.current_user(), ";
        let inserted = session
            .client
            .batch_execute(&format!("{statement}{}) ON CONFLICT DO NOTHING", literal(&login)))
            .await;
        // The text holds a password: it is not told.
        inserted.map_err(|cause| CitusError::Statement { statement: format!("{statement}...)"), cause })?;
    }
    if citus.is_coordinator {
        let own = &settings.connect_address;
        let (host, port) = (literal(&own.host), own.port);
        let statement =
            format!("SELECT pg_catalog.citus_set_coordinator_host({host}, {port}, 'primary', 'default')");
        execute(&session, &statement).await?;
    }
    Ok(())
}

/// What Citus adds to its connections between nodes; `None` where there is nothing to add.
fn login(superuser: &Credentials) -> Option<String> {
    let password = superuser.password.as_ref().map(|password| password.expose_secret());
    let certificates = ["sslcert", "sslkey"].map(|key| (key, superuser.options.get(key).map(String::as_str)));
    let given = [("password", password)].into_iter().chain(certificates);
    let words: Vec<String> =
        given.filter_map(|(key, value)| Some(format!("{key}={}", quote(value?)))).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

async fn quiet(settings: &PgSettings, database: &str) -> Result<Session, CitusError> {
    let session = open(settings, database, "").await?;
    execute(&session, QUIET_SESSION).await?;
    Ok(session)
}

async fn execute(session: &Session, statement: &str) -> Result<(), CitusError> {
    let failed = |cause| CitusError::Statement { statement: statement.to_owned(), cause };
    session.client.batch_execute(statement).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_password_a_certificate_or_nothing() {
        let mut superuser = Credentials { username: "postgres".into(), ..Credentials::default() };
        assert_eq!(login(&superuser), None);
        superuser.password = Some("it's".to_owned().into());
        assert_eq!(login(&superuser).as_deref(), Some(r"password='it\'s'"));
        superuser.options = [("sslcert".to_owned(), "/c.pem".to_owned())].into();
        assert_eq!(login(&superuser).as_deref(), Some(r"password='it\'s' sslcert=/c.pem"));
    }
}
