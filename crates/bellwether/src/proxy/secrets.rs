//! What is known of users' passwords: read at a member of the cluster, as the superuser, when a client logs in to the pooler.

use std::{pin::Pin, sync::Arc, time::Duration};

use bellwether_config::{Config, HostPort};
use bellwether_pgwire::auth::secret::Secret;
use bellwether_postgres::Visit;
use bellwether_proxy::{Answer, Secrets};
use secrecy::ExposeSecret as _;

const QUERY: &str = "SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin \
     AND (rolvaliduntil IS NULL OR rolvaliduntil > now())";
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// At the local server, be it primary or replica: logins go on while there is no primary.
#[derive(Debug)]
pub(super) struct AtTheServer {
    config: Arc<Config>,
}

impl AtTheServer {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: Arc::new(config.clone()) }
    }
}

impl Secrets for AtTheServer {
    fn secret_of(&self, user: String) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let config = self.config.clone();
        Box::pin(async move { look_up(&config, &user).await })
    }
}

async fn look_up(config: &Config, user: &str) -> Answer {
    let local = &config.postgresql;
    let superuser = &local.authentication.superuser;
    let HostPort { host, port } = &local.connect_address;
    let mut target = tokio_postgres::Config::new();
    target
        .host(host)
        .port(*port)
        .dbname(&local.database)
        .application_name("bellwether proxy")
        .options("-c search_path=pg_catalog -c statement_timeout=3s")
        .connect_timeout(CONNECTED_WITHIN);
    if let Some(name) = &superuser.username {
        target.user(name);
    }
    if let Some(password) = &superuser.password {
        target.password(password.expose_secret());
    }
    let visit = Visit::begin(target, superuser.connection.clone())
        .await
        .map_err(|error| format!("the local server cannot be asked: {error}"))?;
    let rows = visit
        .client()
        .query(QUERY, &[&user])
        .await
        .map_err(|error| format!("the local server does not tell the user's password: {error}"))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(text) = row.get::<_, Option<String>>(0) else { return Ok(None) };
    match Secret::parse(&text) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) => {
            Err(format!("the password of the user as stored at the server cannot be used: {error}"))
        }
    }
}
