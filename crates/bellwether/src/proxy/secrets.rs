//! What is known of users' passwords: read in a file, or at a member of the cluster, when a client logs in to the pooler.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bellwether_config::{
    Config, HostPort, ProxyConfig,
    sections::{pooler::Pooler, postgresql::Credentials},
};
use bellwether_pgwire::auth::{
    auth_query,
    secret::Secret,
    userlist::{Users, exposure},
};
use bellwether_postgres::Visit;
use bellwether_proxy::{Answer, Secrets, split::Position};
use bellwether_sql::catalogue::{self, Catalogue};
use bellwether_types::{
    Lsn, PostgresState, TimelineId,
    topology::{Topology, TopologyMember},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

/// Fails on a server that is in recovery: it is no measure for others.
const POSITION: &str = "SELECT pg_current_wal_insert_lsn()::text, \
     ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// Where and as whom servers are asked.
#[derive(Debug)]
pub(super) struct Asking {
    pooler: Option<Box<Pooler>>,
    /// The server of this node, if there is one.
    local: Option<HostPort>,
    /// `None`: only `auth_user` may ask.
    superuser: Option<Credentials>,
    /// Where, unless `auth_dbname` says it.
    database: String,
}

impl Asking {
    pub(super) fn of_member(config: &Config) -> Self {
        Self {
            pooler: config.pooler.clone(),
            local: Some(config.postgresql.connect_address.clone()),
            superuser: Some(config.postgresql.authentication.superuser.clone()),
            database: config.postgresql.database.clone(),
        }
    }

    pub(super) fn of_proxy(config: &ProxyConfig) -> Self {
        Self { pooler: config.pooler.clone(), local: None, superuser: None, database: "postgres".to_owned() }
    }

    /// Read anew each time: it is short, and a change counts at once.
    fn users(&self) -> Result<Option<Users>, String> {
        let file = self.pooler.as_ref().and_then(|pooler| pooler.auth_file.as_deref());
        file.map(read_file).transpose()
    }

    /// The servers to ask, in turn: the one of this node, be it primary or replica, so that logins go on while there is no primary; then the
    /// leader's; and where there is none of one's own, all that run.
    fn places(&self, topology: &Topology) -> Vec<HostPort> {
        let runs =
            |member: &&TopologyMember| self.local.is_none() && member.state == Some(PostgresState::Running);
        let others = topology.members.iter().filter(runs).filter_map(address_of);
        let mut places: Vec<HostPort> = Vec::new();
        for place in self.local.iter().cloned().chain(leader_of(topology)).chain(others) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

/// At members of the cluster.
#[derive(Debug)]
pub(super) struct AtTheServer {
    asking: Mutex<Arc<Asking>>,
    topology: watch::Receiver<Arc<Topology>>,
    /// A connection to the primary, which is asked over and over where lag is limited.
    primary: Arc<tokio::sync::Mutex<Option<(HostPort, Visit)>>>,
}

impl AtTheServer {
    pub(super) fn new(asking: Arc<Asking>, topology: watch::Receiver<Arc<Topology>>) -> Self {
        Self { asking: Mutex::new(asking), topology, primary: Arc::default() }
    }

    /// The file was read again.
    pub(super) fn renew(&self, asking: Arc<Asking>) {
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = asking;
    }

    fn asking(&self) -> Arc<Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Secrets for AtTheServer {
    fn secret_of(&self, user: String) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let asking = self.asking();
        let places = asking.places(&self.topology.borrow());
        Box::pin(async move {
            let users = asking.users()?;
            if let Some(secret) = users.as_ref().and_then(|users| users.secret(&user)) {
                return Ok(Some(secret.clone()));
            }
            let Some(lookup) = Lookup::of(&asking, users.as_ref())? else { return Ok(None) };
            let mut failures = Vec::new();
            for place in &places {
                match lookup.ask(&asking, place, &user).await {
                    Ok(answer) => return Ok(answer),
                    Err(why) => failures.push(why),
                }
            }
            if failures.is_empty() {
                failures.push("no member is known that could be asked".to_owned());
            }
            Err(failures.join("; "))
        })
    }

    fn primary_position(&self) -> Pin<Box<dyn Future<Output = Result<Position, String>> + Send>> {
        let asking = self.asking();
        let leader = leader_of(&self.topology.borrow());
        let held = self.primary.clone();
        Box::pin(async move {
            let leader = leader.ok_or("nobody leads")?;
            let mut held = held.lock().await;
            // One that failed, or was another's, is opened anew.
            let visit = match held.take() {
                Some((address, visit)) if address == leader => visit,
                _ => visit(&asking, &leader, &asking.database).await?,
            };
            let row = visit.client().query_one(POSITION, &[]).await.map_err(|error| chain(&error))?;
            let lsn = row.try_get::<_, String>(0).map_err(|error| chain(&error))?;
            let timeline = row.try_get::<_, i32>(1).map_err(|error| chain(&error))?;
            *held = Some((leader, visit));
            Ok(Position {
                timeline: TimelineId(u32::try_from(timeline).unwrap_or(0)),
                lsn: lsn.parse::<Lsn>().map_err(|error| error.to_string())?,
            })
        })
    }

    fn catalogue_of(
        &self,
        database: String,
    ) -> Pin<Box<dyn Future<Output = Result<Catalogue, String>> + Send>> {
        let asking = self.asking();
        let place = asking.places(&self.topology.borrow()).into_iter().next();
        Box::pin(async move {
            let place = place.ok_or("no member is known that could be asked")?;
            read_catalogue(&asking, &place, &database).await
        })
    }
}

fn read_file(file: &Path) -> Result<Users, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let own_user = rustix::process::geteuid().as_raw();
    if let Some(problem) = exposure(metadata.mode(), metadata.uid(), own_user) {
        return Err(format!("{} is not used: {problem}", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Users::parse(&text).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", file.display(), all.join("; "))
    })
}

fn leader_of(topology: &Topology) -> Option<HostPort> {
    topology.members.iter().find(|member| Some(&member.name) == topology.leader.as_ref()).and_then(address_of)
}

fn address_of(member: &TopologyMember) -> Option<HostPort> {
    let (_, rest) = member.conn_url.as_deref()?.split_once("://")?;
    HostPort::parse(rest.split('/').next()?, Some(5432)).ok()
}

async fn read_catalogue(asking: &Asking, place: &HostPort, database: &str) -> Result<Catalogue, String> {
    let visit = visit(asking, place, database).await?;
    let rows = visit
        .client()
        .query(catalogue::QUERY, &[])
        .await
        .map_err(|error| format!("the server at {place} does not tell: {error}"))?;
    let rows = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)));
    Catalogue::from_rows(rows).map_err(|error| error.to_string())
}

/// A connection to a database of a member, as the superuser if there is one to be had.
async fn visit(asking: &Asking, address: &HostPort, database: &str) -> Result<Visit, String> {
    let mut target = target(address, database);
    if asking.superuser.is_some() {
        as_superuser(&mut target, asking);
    } else {
        let users = asking.users()?;
        let lookup = Lookup::of(asking, users.as_ref())?.ok_or("nobody may ask: name `pooler.auth_user`")?;
        lookup.log_in(&mut target, asking);
    }
    begin(target, asking, address).await
}

fn target(address: &HostPort, database: &str) -> tokio_postgres::Config {
    let HostPort { host, port } = address;
    let mut target = tokio_postgres::Config::new();
    target
        .host(host)
        .port(*port)
        .dbname(database)
        .application_name("bellwether proxy")
        .connect_timeout(CONNECTED_WITHIN);
    target
}

fn as_superuser(target: &mut tokio_postgres::Config, asking: &Asking) {
    let Some(superuser) = &asking.superuser else { return };
    target.options("-c search_path=pg_catalog -c statement_timeout=3s");
    if let Some(name) = &superuser.username {
        target.user(name);
    }
    if let Some(password) = &superuser.password {
        target.password(password.expose_secret());
    }
}

async fn begin(target: tokio_postgres::Config, asking: &Asking, address: &HostPort) -> Result<Visit, String> {
    let connection =
        asking.superuser.as_ref().map(|superuser| superuser.connection.clone()).unwrap_or_default();
    Visit::begin(target, connection)
        .await
        .map_err(|error| format!("the server at {address} cannot be asked: {error}"))
}

/// How a server is asked for a user's secret.
struct Lookup {
    query: String,
    database: String,
    /// `None`: the superuser.
    user: Option<(String, Option<SecretString>)>,
}

impl Lookup {
    /// `None`: the file is all that there is.
    fn of(asking: &Asking, users: Option<&Users>) -> Result<Option<Self>, String> {
        let pooler = asking.pooler.as_deref();
        let (query, user) =
            pooler.map_or((None, None), |pooler| (pooler.auth_query.as_deref(), pooler.auth_user.as_deref()));
        let is_all = users.is_some() && query.is_none();
        if user.is_none() && (is_all || asking.superuser.is_none()) {
            return Ok(None);
        }
        let user = user.map(|name| match users.and_then(|users| users.secret(name)) {
            Some(Secret::Plain(plain)) => Ok((name.to_owned(), Some(plain.password().clone()))),
            // By trust, or with a certificate.
            None => Ok((name.to_owned(), None)),
            Some(_) => Err(format!(
                "the password of `{name}` (`pooler.auth_user`) must stand in `pooler.auth_file` as it is, not hashed"
            )),
        });
        Ok(Some(Self {
            query: query.unwrap_or(auth_query::DEFAULT).to_owned(),
            database: pooler
                .and_then(|pooler| pooler.auth_dbname.clone())
                .unwrap_or_else(|| asking.database.clone()),
            user: user.transpose()?,
        }))
    }

    fn log_in(&self, target: &mut tokio_postgres::Config, asking: &Asking) {
        match &self.user {
            Some((name, password)) => {
                // Its function may be found by the search path that it has.
                target.user(name).options("-c statement_timeout=3s");
                if let Some(password) = password {
                    target.password(password.expose_secret());
                }
            }
            None => as_superuser(target, asking),
        }
    }

    async fn ask(&self, asking: &Asking, address: &HostPort, user: &str) -> Answer {
        let mut target = target(address, &self.database);
        self.log_in(&mut target, asking);
        let failed =
            |what: String| format!("the server at {address} does not tell the user's password: {what}");
        let visit = begin(target, asking, address).await?;
        let rows = visit
            .client()
            .query(&self.query, &[&user])
            .await
            .map_err(|error| failed(format!("auth_query failed: {}", chain(&error))))?;
        let rows = rows.iter().map(texts).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        auth_query::secret_of(user, &rows).map_err(|error| failed(error.to_string()))
    }
}

/// The first two columns, as text.
fn texts(row: &tokio_postgres::Row) -> Result<Vec<Option<String>>, String> {
    let columns = (0..row.len().min(2)).map(|at| row.try_get(at)).collect::<Result<Vec<_>, _>>();
    columns.map_err(|error| format!("auth_query must return names and texts: {}", chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}
