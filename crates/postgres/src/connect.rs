//! Connections to the local server: where it listens, and how the agent's sessions are set up.

use std::{collections::BTreeMap, time::Duration};

use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Socket, config::SslMode, tls::MakeTlsConnect};

use crate::{
    pidfile::PidFile,
    program::blocking,
    server::Readiness,
    settings::{Credentials, HostPort, PgSettings},
    tls::{Tls, TlsError},
    wire::{Connection, WireError},
};

/// How long a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// "the database system is starting up", shutting down, not yet consistent.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// A session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("the server could not be reached or refused the connection")]
    Server(#[from] tokio_postgres::Error),
    #[error("the TLS options of the role can't be used")]
    Tls(#[from] TlsError),
}

/// A session with the task that moves its bytes. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PgSettings {
    /// Where the agent logs in to the local server, and a line of `pg_hba.conf` that admits it.
    pub async fn local_login(&self) -> (HostPort, String) {
        let address = self.local_address(self.use_unix_socket).await;
        let user = if self.superuser.username.is_empty() { "postgres" } else { &self.superuser.username };
        let how = match (address.host.starts_with('/'), address.host.contains(':')) {
            (true, _) => format!("local all {user} scram-sha-256"),
            (false, true) => format!("host all {user} {}/128 scram-sha-256", address.host),
            (false, false) => format!("host all {user} {}/32 scram-sha-256", address.host),
        };
        (address, how)
    }

    /// Where the local server listens. What it wrote into its pid file counts more than the configuration, which may be waiting
    /// for a restart.
    pub(crate) async fn local_address(&self, unix_socket: bool) -> HostPort {
        let data_dir = self.data_dir.clone();
        let file = blocking(move || PidFile::read(&data_dir)).await.ok().flatten();
        let port = file.as_ref().and_then(|file| file.port).unwrap_or(self.port);
        if unix_socket
            && let Some(dir) = file.as_ref().and_then(|file| file.socket_dir.as_ref())
            && dir.is_absolute()
        {
            return HostPort { host: dir.to_string_lossy().into_owned(), port };
        }
        HostPort { host: local_host(&self.listen_addresses), port }
    }
}

/// The address for local TCP connections: loopback if the server listens there, else the first address.
fn local_host(listen_addresses: &str) -> String {
    let addresses: Vec<&str> = listen_addresses.split(',').map(str::trim).filter(|a| !a.is_empty()).collect();
    let listens_on = |wanted: &str| addresses.iter().any(|address| address.eq_ignore_ascii_case(wanted));
    if ["*", "0.0.0.0", "127.0.0.1", "localhost"].into_iter().any(listens_on) {
        return "127.0.0.1".to_owned();
    }
    if listens_on("::") || listens_on("::1") {
        return "::1".to_owned();
    }
    addresses.first().map_or_else(|| "127.0.0.1".to_owned(), |address| (*address).to_owned())
}

/// Opens a superuser session on the local server. `search_path` is fixed: objects of users must not be called by us.
pub(crate) async fn superuser_session(
    settings: &PgSettings,
    application_name: &str,
    options: &str,
) -> Result<Session, ConnectError> {
    let address = settings.local_address(settings.use_unix_socket).await;
    session(&address, &settings.superuser, &settings.database, application_name, options).await
}

/// Opens a session; `options` as in libpq (`-c name=value ...`).
pub(crate) async fn session(
    address: &HostPort,
    credentials: &Credentials,
    database: &str,
    application_name: &str,
    options: &str,
) -> Result<Session, ConnectError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .dbname(database)
        .application_name(application_name)
        .options(format!("-c search_path=pg_catalog {options}").trim())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(10));
    if !credentials.username.is_empty() {
        config.user(&credentials.username);
    }
    if let Some(password) = &credentials.password {
        config.password(password.expose_secret());
    }
    let credentials = credentials.clone();
    let tls = if address.host.starts_with('/') {
        Tls::Never
    } else {
        blocking(move || Tls::of(&credentials)).await?
    };
    match tls {
        Tls::Never => open(config.ssl_mode(SslMode::Disable), NoTls).await,
        Tls::Preferred(connector) => open(config.ssl_mode(SslMode::Prefer), connector).await,
        Tls::Required(connector) => open(config.ssl_mode(SslMode::Require), connector).await,
    }
}

/// A session on any server for a person's statements, with TLS as the options have it (`sslmode`, `sslrootcert`, `sslcert`,
/// `sslkey`; encrypted if the server can, by default). Dropping it closes the connection.
#[derive(Debug)]
pub struct Visit(Session);

impl Visit {
    /// `config` says where, and as whom.
    pub async fn begin(
        mut config: tokio_postgres::Config,
        options: BTreeMap<String, String>,
    ) -> Result<Self, ConnectError> {
        let credentials = Credentials { options, ..Credentials::default() };
        let tls = blocking(move || Tls::of(&credentials)).await?;
        let session = match tls {
            Tls::Never => open(config.ssl_mode(SslMode::Disable), NoTls).await,
            Tls::Preferred(connector) => open(config.ssl_mode(SslMode::Prefer), connector).await,
            Tls::Required(connector) => open(config.ssl_mode(SslMode::Require), connector).await,
        };
        session.map(Self)
    }

    pub fn client(&self) -> &Client {
        &self.0.client
    }
}

async fn open<T>(config: &tokio_postgres::Config, tls: T) -> Result<Session, ConnectError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let driver = tokio::spawn(async move {
        // Its end shows in the next query of the client, which knows what to do about it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(Session { client, driver })
}

/// Asks whether the server takes connections, without logging in: what pg_isready does.
pub(crate) async fn probe(settings: &PgSettings) -> Readiness {
    let address = settings.local_address(settings.use_unix_socket).await;
    let user = if settings.superuser.username.is_empty() { "postgres" } else { &settings.superuser.username };
    let parameters = BTreeMap::from([("user", user), ("database", &settings.database)]);
    let ask = async {
        let mut connection = Connection::open(&address, &Tls::Never).await?;
        connection.startup(&parameters).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, ask).await {
        Ok(Ok(message)) => match message {
            postgres_protocol::message::backend::Message::ErrorResponse(body) => {
                match crate::wire::server_error(&body) {
                    Ok(WireError::Server { sqlstate, .. }) if sqlstate == CANNOT_CONNECT_NOW => {
                        Readiness::Rejecting
                    }
                    // It refused us for another reason, but it is there and judges logins.
                    _ => Readiness::Ready,
                }
            }
            _ => Readiness::Ready,
        },
        Ok(Err(_)) | Err(_) => Readiness::NoResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_connections_prefer_loopback() {
        for (listen, host) in [
            ("*", "127.0.0.1"),
            ("10.0.0.5,localhost", "127.0.0.1"),
            ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
            ("::", "::1"),
            ("127.0.0.7", "127.0.0.7"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(local_host(listen), host, "{listen}");
        }
    }
}
