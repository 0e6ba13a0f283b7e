//! The agent's one persistent connection to the local server.

use std::{sync::Arc, time::Duration};

use bellwether_types::Lsn;
use tokio_postgres::{
    Statement,
    error::SqlState,
    types::{ToSql, Type},
};

use crate::{
    connect::{ConnectError, Session, superuser_session},
    observation::{self, Observation, STATEMENT},
    postmaster::PostmasterId,
    settings::PgSettings,
};

/// The server cancels a statement of ours after 2 s; a server that hangs does not even do that.
const ANSWER_LIMIT: Duration = Duration::from_millis(2500);

const SESSION_OPTIONS: &str =
    "-c statement_timeout=2000 -c synchronous_commit=local -c pg_stat_statements.track=none";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The server does not accept connections now.
    #[error("could not connect to the local server")]
    Connect(#[source] ConnectError),
    /// No answer in time: a hanging server.
    #[error("the local server did not answer within {} ms", limit.as_millis())]
    Timeout { limit: Duration },
    #[error("a query of the local server failed")]
    Query(#[source] tokio_postgres::Error),
    #[error("the local server gave an answer that is not understood: {what}")]
    Answer { what: String },
}

impl MonitorError {
    /// Whether asking again may work: everything but an answer that is not understood.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Answer { .. })
    }

    /// What the server said if it is there and does not let this role in: by `pg_hba.conf`, for its password or its name, or for want of
    /// the database.
    pub fn refusal(&self) -> Option<String> {
        let Self::Connect(ConnectError::Server(error)) = self else { return None };
        let said = error.as_db_error()?;
        let is_final = [
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_CATALOG_NAME,
        ]
        .contains(said.code());
        is_final.then(|| said.message().to_owned())
    }
}

/// The persistent superuser connection. One user at a time; it connects when it is needed.
#[derive(Debug)]
pub struct Monitor {
    settings: Arc<PgSettings>,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    session: Session,
    statement: Statement,
    postmaster: PostmasterId,
}

impl Monitor {
    /// No connection is made yet.
    pub fn new(settings: Arc<PgSettings>) -> Self {
        Self { settings, live: None }
    }

    /// Takes effect with the next connection.
    pub fn set_settings(&mut self, settings: Arc<PgSettings>) {
        self.settings = settings;
    }

    /// Closes the connection; the next call makes a new one.
    pub fn disconnect(&mut self) {
        if self.live.take().is_some() {
            tracing::info!("closed patroni connections to postgres");
        }
    }

    /// Observes the server that `postmaster` is. A connection made to another postmaster is dropped first: it may survive the
    /// death of its server for a while, and lie.
    ///
    /// Ends within about 3 s (connect) + 2.5 s (statement). Safe to cancel.
    pub async fn observe(&mut self, postmaster: &PostmasterId) -> Result<Observation, MonitorError> {
        let live = self.connected(postmaster).await?;
        let answer = timed(live.session.client.query_one(&live.statement, &[])).await;
        let row = self.checked(answer)?;
        let text: &str = row.try_get(0).map_err(MonitorError::Query)?;
        observation::parse(text).map_err(|what| MonitorError::Answer { what })
    }

    /// Writes a WAL record without waiting for standbys: it gives them something to acknowledge. Flushed at once, so that it does
    /// not wait for the WAL writer's next round.
    pub async fn generate_wal(&mut self, postmaster: &PostmasterId) -> Result<(), MonitorError> {
        self.batch(postmaster, "BEGIN; SET LOCAL synchronous_commit = local; SELECT txid_current(); COMMIT")
            .await
    }

    /// How many pages with a wrong checksum the server has read, by its statistics.
    pub async fn checksum_failures(&mut self, postmaster: &PostmasterId) -> Result<u64, MonitorError> {
        let statement = "SELECT coalesce(sum(checksum_failures), 0)::text FROM pg_stat_database";
        let rows = self.query(postmaster, statement, &[]).await?;
        let counted = text(rows.first(), 0)?;
        counted
            .parse()
            .map_err(|_| MonitorError::Answer { what: format!("a count of failed checksums: {counted}") })
    }

    /// The value of a parameter in this session.
    pub async fn show(&mut self, postmaster: &PostmasterId, parameter: &str) -> Result<String, MonitorError> {
        let rows = self.query(postmaster, "SELECT current_setting($1)", &[&parameter]).await?;
        text(rows.first(), 0)
    }

    /// Creates a physical slot that keeps WAL from now on. An existing one is an error (SQLSTATE 42710).
    pub async fn create_physical_slot(
        &mut self,
        postmaster: &PostmasterId,
        name: &str,
    ) -> Result<(), MonitorError> {
        self.query(postmaster, "SELECT pg_create_physical_replication_slot($1, true)", &[&name])
            .await
            .map(drop)
    }

    /// Drops an inactive slot. `false`: it is active or gone, and nothing was dropped.
    pub async fn drop_slot(&mut self, postmaster: &PostmasterId, name: &str) -> Result<bool, MonitorError> {
        let statement = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                         WHERE slot_name = $1 AND NOT active";
        Ok(!self.query(postmaster, statement, &[&name]).await?.is_empty())
    }

    /// Moves a slot forward. Logical slots may take long: do that on a connection of its own.
    pub async fn advance_slot(
        &mut self,
        postmaster: &PostmasterId,
        name: &str,
        to: Lsn,
    ) -> Result<(), MonitorError> {
        // With the types told, as all standbys do this in each cycle: one round trip, and nothing prepared that is used once.
        let statement = "SELECT pg_replication_slot_advance($1::name, $2::pg_lsn)";
        let to = to.to_string();
        let live = self.connected(postmaster).await?;
        let arguments: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&to, Type::TEXT)];
        let answer = timed(live.session.client.query_typed(statement, &arguments)).await;
        self.checked(answer).map(drop)
    }

    /// Resumes a replay that a parameter change or somebody paused.
    pub async fn resume_replay(&mut self, postmaster: &PostmasterId) -> Result<(), MonitorError> {
        self.query(postmaster, "SELECT pg_wal_replay_resume()", &[]).await.map(drop)
    }

    pub(crate) async fn query(
        &mut self,
        postmaster: &PostmasterId,
        statement: &str,
        arguments: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, MonitorError> {
        let live = self.connected(postmaster).await?;
        let answer = timed(live.session.client.query(statement, arguments)).await;
        self.checked(answer)
    }

    async fn batch(&mut self, postmaster: &PostmasterId, statements: &str) -> Result<(), MonitorError> {
        let live = self.connected(postmaster).await?;
        let answer = timed(live.session.client.batch_execute(statements)).await;
        self.checked(answer)
    }

    /// The connection to exactly this postmaster.
    async fn connected(&mut self, postmaster: &PostmasterId) -> Result<&Live, MonitorError> {
        let usable = |live: &Live| live.postmaster == *postmaster && !live.session.client.is_closed();
        if !self.live.as_ref().is_some_and(usable) {
            self.live = None;
            let session = superuser_session(&self.settings, "Patroni heartbeat", SESSION_OPTIONS)
                .await
                .map_err(MonitorError::Connect)?;
            // Told when it is there: a server that comes up refuses many.
            tracing::info!("establishing a new patroni heartbeat connection to postgres");
            let statement = timed(session.client.prepare(STATEMENT)).await?;
            self.live = Some(Live { session, statement, postmaster: postmaster.clone() });
        }
        Ok(self.live.as_ref().expect("the connection was made above"))
    }

    /// After a failure in the middle of something the state of the connection is unknown: it is not used again, unless the
    /// server itself reported the error.
    fn checked<T>(&mut self, answer: Result<T, MonitorError>) -> Result<T, MonitorError> {
        let reported = |error: &MonitorError| matches!(error, MonitorError::Query(error) if error.as_db_error().is_some());
        if answer.as_ref().is_err_and(|error| !reported(error)) {
            self.live = None;
        }
        answer
    }
}

async fn timed<T>(query: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, MonitorError> {
    match tokio::time::timeout(ANSWER_LIMIT, query).await {
        Ok(answer) => answer.map_err(MonitorError::Query),
        Err(_) => Err(MonitorError::Timeout { limit: ANSWER_LIMIT }),
    }
}

fn text(row: Option<&tokio_postgres::Row>, column: usize) -> Result<String, MonitorError> {
    let row = row.ok_or_else(|| MonitorError::Answer { what: "no row".to_owned() })?;
    row.try_get(column).map_err(MonitorError::Query)
}

/// Returns when no client is in a transaction, or at least all have ended that were begun before now or a moment later: the news that
/// nobody is to begin another needs as long to reach everybody. Clients that do not hear it go on beginning others.
pub async fn drain(settings: &PgSettings) -> Result<(), MonitorError> {
    /// The news has reached everybody at the earliest after the first, and surely after the second.
    const MOMENTS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(600)];
    const LOOK: Duration = Duration::from_millis(20);
    const QUERY: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND pid <> pg_backend_pid() AND xact_start < $1::text::timestamptz";
    let session = superuser_session(settings, "Bellwether", "").await.map_err(MonitorError::Connect)?;
    let until = format!("SELECT (clock_timestamp() + interval '{} ms')::text", MOMENTS[1].as_millis());
    let until: String = session.client.query_one(&until, &[]).await.map_err(MonitorError::Query)?.get(0);
    tokio::time::sleep(MOMENTS[0]).await;
    loop {
        let row = session.client.query_one(QUERY, &[&until]).await.map_err(MonitorError::Query)?;
        if row.get::<_, i64>(0) == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// CHECKPOINT on the local server over a connection of its own, without statement timeout. Dropping the future ends the wait,
/// not the checkpoint.
pub async fn checkpoint(settings: &PgSettings) -> Result<(), MonitorError> {
    let session = superuser_session(settings, "Patroni", "-c statement_timeout=0")
        .await
        .map_err(MonitorError::Connect)?;
    session.client.batch_execute("CHECKPOINT").await.map_err(MonitorError::Query)
}
