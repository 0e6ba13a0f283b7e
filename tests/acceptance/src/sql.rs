//! SQL, as an application or an administrator would.

use std::{collections::BTreeSet, time::Duration};

use tokio::task::JoinHandle;
use tokio_postgres::{
    Config, NoTls, Row,
    config::{SslMode, TargetSessionAttrs},
    types::ToSql,
};

use crate::node::Node;

pub const SUPERUSER: &str = "postgres";
pub const PASSWORD: &str = "super-secret";
/// For a single host to answer.
const CONNECTED_WITHIN: Duration = Duration::from_millis(800);

/// An open session; closed when dropped.
#[derive(Debug)]
pub struct Session {
    pub client: tokio_postgres::Client,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Opens a session with this one node.
    pub async fn with(node: &Node) -> Result<Self, tokio_postgres::Error> {
        Self::at(node.postgres_port).await
    }

    /// Opens a session with whoever is behind this port.
    pub async fn at(port: u16) -> Result<Self, tokio_postgres::Error> {
        let mut config = settings();
        config.host("127.0.0.1").port(port);
        Self::open(&config).await
    }

    pub async fn open(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, connection })
    }

    /// The first column of the only row, as text.
    pub async fn text(&self, query: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let row = self.client.query_one(&format!("SELECT ({query})::text"), &[]).await?;
        Ok(row.get(0))
    }

    pub async fn rows(
        &self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query(query, parameters).await
    }

    /// The rows of [`crate::writer::Writer`] that this node has.
    pub async fn written_rows(&self) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
        Ok(self.rows("SELECT id FROM written", &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// Settings without a host.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres")
        .application_name("acceptance")
        .ssl_mode(SslMode::Disable)
        .connect_timeout(CONNECTED_WITHIN);
    config
}

/// One server, by its address.
pub fn server(host: &str, port: u16) -> Config {
    let mut config = settings();
    config.host(host).port(port);
    config
}

/// A URL with all hosts for a session that can write; `first` comes first, since a host that accepts connections and does
/// not answer hides those behind it.
pub fn writable(ports: &[u16], first: usize) -> Config {
    let mut config = settings();
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    for index in 0..ports.len() {
        config.host("127.0.0.1").port(ports[(first + index) % ports.len()]);
    }
    config
}
