//! The way to the ensemble: sessions, one that all unleased work goes through and one per lease.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, StoreError};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use zookeeper_client::{Acl, Acls, AuthId, Client, Connector, Error, SessionInfo, SessionState};

use crate::{
    config::{Config, ConfigError},
    error::{unavailable, within},
    tls::Tls,
};

/// Of the session that reads, watches and writes what hangs on no lease. Nothing hangs on its end but a new connection.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(6);
/// A silent server is given up after so long at the latest, or after two fifths of the session's timeout.
const SILENCE: Duration = Duration::from_secs(4);

/// Whether the ensemble ends a session when its last client lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtTheEnd {
    Close,
    /// It lasts for its timeout: the next agent of a member may take over in the meantime.
    Leave,
}

#[derive(Debug)]
pub(crate) struct Servers {
    connect_string: String,
    base: String,
    acls: Vec<Acl>,
    config: Config,
    tls: Option<Arc<Tls>>,
    plain: Mutex<Option<Client>>,
}

impl Servers {
    /// Connects when it is first used. Files of certificates that cannot be used are told at once.
    pub(crate) fn new(config: Config) -> Result<Self, ConfigError> {
        let tls = config.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
        let acls = config.acls.iter();
        let acls = acls.map(|rule| Acl::new(rule.permissions, AuthId::new(&rule.scheme, &rule.id))).collect();
        let (connect_string, base) = (config.connect_string(), config.base().to_owned());
        Ok(Self { connect_string, base, acls, config, tls, plain: Mutex::new(None) })
    }

    pub(crate) fn tick_time(&self) -> Duration {
        self.config.tick_time
    }

    /// The path of the cluster's own znode.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The path of a znode that is named relative to the base; the base itself is "".
    pub(crate) fn path<'a>(&'a self, relative: &str) -> Cow<'a, str> {
        match relative {
            "" => Cow::Borrowed(&self.base),
            _ => Cow::Owned(format!("{}/{relative}", self.base)),
        }
    }

    /// What every znode gets that we create.
    pub(crate) fn acls(&self) -> Acls<'_> {
        if self.acls.is_empty() { Acls::anyone_all() } else { Acls::new(&self.acls) }
    }

    /// The session for everything that hangs on no lease. Fails at once while it is cut off.
    pub(crate) async fn plain(&self, by: Deadline) -> Result<Client, StoreError> {
        let connected = async {
            let mut plain = self.plain.lock().await;
            if let Some(client) = plain.as_ref().filter(|client| !client.state().is_terminated()) {
                return connected(client.clone());
            }
            let timeout = PLAIN_TIMEOUT.max(2 * self.config.tick_time);
            let client = self.open(timeout, AtTheEnd::Close).await.map_err(unavailable)?;
            Ok(plain.insert(client).clone())
        };
        within(by, connected).await
    }

    /// A new session. Safe to cancel; what was begun ends by its timeout.
    pub(crate) async fn open(&self, timeout: Duration, end: AtTheEnd) -> Result<Client, Error> {
        let connector = self.connector(timeout, end).await;
        self.connect(connector).await
    }

    /// A new connection for a session that exists; `SessionExpired` if the ensemble says that it does not.
    pub(crate) async fn resume(
        &self,
        session: SessionInfo,
        timeout: Duration,
        end: AtTheEnd,
    ) -> Result<Client, Error> {
        let connector = self.connector(timeout, end).await.with_session(session);
        self.connect(connector).await
    }

    async fn connect(&self, connector: Connector) -> Result<Client, Error> {
        // Boxed: a handshake is large.
        match self.tls {
            Some(_) => Box::pin(connector.secure_connect(&self.connect_string)).await,
            None => Box::pin(connector.connect(&self.connect_string)).await,
        }
    }

    async fn connector(&self, timeout: Duration, end: AtTheEnd) -> Connector {
        let mut connector = Client::connector()
            .with_session_timeout(timeout)
            .with_connection_timeout((timeout * 2 / 5).min(SILENCE))
            .with_fail_eagerly();
        if end == AtTheEnd::Leave {
            connector = connector.with_detached();
        }
        for (scheme, secret) in &self.config.auth_data {
            connector = connector.with_auth(scheme, secret.expose_secret().as_bytes());
        }
        if let Some(tls) = self.tls.clone() {
            connector = connector.with_tls(tls.options().await);
        }
        connector
    }
}

/// Makes a call that ends at once when the connection does. The library keeps a request that comes in just then for the next
/// connection, which may take long; its end is unknown.
pub(crate) async fn while_connected<T>(
    client: &Client,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut state = client.state_watcher();
    connected(client.clone())?;
    tokio::select! {
        biased;
        answer = call => answer,
        state = state.changed() => Err(StoreError::Unreachable(format!("the ZooKeeper session became {state}"))),
    }
}

/// A request on a connection that is down would wait for the next one, and land when nobody expects it any more.
pub(crate) fn connected(client: Client) -> Result<Client, StoreError> {
    match client.state() {
        SessionState::SyncConnected => Ok(client),
        state => Err(StoreError::Unreachable(format!("the ZooKeeper session is {state}"))),
    }
}
