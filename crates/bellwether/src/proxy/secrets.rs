//! What is known of users' passwords: read at a member of the cluster, as the superuser, when a client logs in to the pooler.

use std::{os::unix::fs::MetadataExt as _, path::Path, pin::Pin, sync::Arc, time::Duration};

use bellwether_config::{Config, HostPort};
use bellwether_pgwire::auth::{
    secret::Secret,
    userlist::{Users, exposure},
};
use bellwether_postgres::Visit;
use bellwether_proxy::{Answer, Secrets};
use bellwether_sql::catalogue::{self, Catalogue};
use bellwether_types::topology::Topology;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

const QUERY: &str = "SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin \
     AND (rolvaliduntil IS NULL OR rolvaliduntil > now())";
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// At the local server, be it primary or replica, so that logins go on while there is no primary; at the leader if the local one does not
/// answer.
#[derive(Debug)]
pub(super) struct AtTheServer {
    config: Arc<Config>,
    topology: watch::Receiver<Arc<Topology>>,
}

impl AtTheServer {
    pub(super) fn new(config: &Config, topology: watch::Receiver<Arc<Topology>>) -> Self {
        Self { config: Arc::new(config.clone()), topology }
    }
}

impl Secrets for AtTheServer {
    fn secret_of(&self, user: String) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let config = self.config.clone();
        let leader = leader_of(&self.topology.borrow());
        Box::pin(async move {
            if let Some(file) = config.pooler.as_ref().and_then(|pooler| pooler.auth_file.as_deref()) {
                return from_file(file, &user);
            }
            let local = config.postgresql.connect_address.clone();
            match (look_up(&config, &local, &user).await, leader) {
                (Err(why), Some(leader)) if leader != local => {
                    look_up(&config, &leader, &user).await.map_err(|also| format!("{why}; {also}"))
                }
                (answer, _) => answer,
            }
        })
    }

    fn catalogue_of(
        &self,
        database: String,
    ) -> Pin<Box<dyn Future<Output = Result<Catalogue, String>> + Send>> {
        let config = self.config.clone();
        Box::pin(async move { read_catalogue(&config, &database).await })
    }
}

/// Read anew each time: it is short, and a change counts at once.
fn from_file(file: &Path, user: &str) -> Answer {
    let metadata = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let own_user = rustix::process::geteuid().as_raw();
    if let Some(problem) = exposure(metadata.mode(), metadata.uid(), own_user) {
        return Err(format!("{} is not used: {problem}", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let users = Users::parse(&text).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", file.display(), all.join("; "))
    })?;
    Ok(users.secret(user).cloned())
}

fn leader_of(topology: &Topology) -> Option<HostPort> {
    let leader = topology.members.iter().find(|member| Some(&member.name) == topology.leader.as_ref())?;
    let (_, rest) = leader.conn_url.as_deref()?.split_once("://")?;
    HostPort::parse(rest.split('/').next()?, Some(5432)).ok()
}

async fn read_catalogue(config: &Config, database: &str) -> Result<Catalogue, String> {
    let visit = visit(config, &config.postgresql.connect_address, database).await?;
    let rows = visit
        .client()
        .query(catalogue::QUERY, &[])
        .await
        .map_err(|error| format!("the local server does not tell: {error}"))?;
    let rows = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)));
    Catalogue::from_rows(rows).map_err(|error| error.to_string())
}

/// A connection to a database of a member, as the superuser.
async fn visit(config: &Config, address: &HostPort, database: &str) -> Result<Visit, String> {
    let local = &config.postgresql;
    let superuser = &local.authentication.superuser;
    let HostPort { host, port } = address;
    let mut target = tokio_postgres::Config::new();
    target
        .host(host)
        .port(*port)
        .dbname(database)
        .application_name("bellwether proxy")
        .options("-c search_path=pg_catalog -c statement_timeout=3s")
        .connect_timeout(CONNECTED_WITHIN);
    if let Some(name) = &superuser.username {
        target.user(name);
    }
    if let Some(password) = &superuser.password {
        target.password(password.expose_secret());
    }
    Visit::begin(target, superuser.connection.clone())
        .await
        .map_err(|error| format!("the server at {address} cannot be asked: {error}"))
}

async fn look_up(config: &Config, address: &HostPort, user: &str) -> Answer {
    let visit = visit(config, address, &config.postgresql.database).await?;
    let rows = visit
        .client()
        .query(QUERY, &[&user])
        .await
        .map_err(|error| format!("the server at {address} does not tell the user's password: {error}"))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(text) = row.get::<_, Option<String>>(0) else { return Ok(None) };
    match Secret::parse(&text) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) => {
            Err(format!("the password of the user as stored at the server cannot be used: {error}"))
        }
    }
}
