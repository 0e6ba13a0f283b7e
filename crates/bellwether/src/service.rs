//! The member as a service in Consul's catalogue: a task beside the agent's loop, fed by the published status.
//!
//! Nothing about leadership rests on it: what the catalogue says is what the member's REST API answers to Consul's own check.
//! Each attempt that fails is made again; the loop never waits for one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether_agent::AgentHandle;
use bellwether_config::{Config, sections::store::Store};
use bellwether_dcs::{Deadline, StoreError};
use bellwether_dcs_consul::service::{Registrar, Registration};
use bellwether_types::{PostgresState, Role};
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    reload::Latest,
    store::{Of, consul},
};

/// How often the status is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For one call to the agent of Consul.
const CALL: Duration = Duration::from_secs(3);
/// After so long it is said again what stands there: Consul's agent takes out a service whose check has failed for long, and forgets
/// all of them with its disk.
const REPEAT: Duration = Duration::from_secs(60);

/// Keeps the catalogue up to date until `ended`, looks a last time, and ends. `None` if the store is not Consul.
pub(crate) fn follow(
    config: &Config,
    latest: Latest,
    agent: AgentHandle,
    ended: CancellationToken,
) -> Option<JoinHandle<()>> {
    matches!(config.store, Store::Consul(_)).then(|| {
        let mut catalogue = Catalogue::new(Arc::new(config.clone()));
        tokio::spawn(async move { catalogue.follow(latest, &agent, &ended).await })
    })
}

/// What should stand in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Registered(Box<Registration>),
    Out,
    /// Whatever stands there: the member is between two states.
    Unchanged,
}

/// What was put there last.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// An agent before this one may have left something.
    Nothing,
    Registered(Box<Registration>, Instant),
    Out,
}

#[derive(Debug)]
struct Catalogue {
    config: Arc<Config>,
    registrar: Option<Registrar>,
    known: Known,
    /// The last attempt failed, and that has been told.
    failing: bool,
}

impl Catalogue {
    fn new(config: Arc<Config>) -> Self {
        let mut catalogue = Self { config, registrar: None, known: Known::Nothing, failing: false };
        catalogue.connect();
        catalogue
    }

    async fn follow(&mut self, mut latest: Latest, agent: &AgentHandle, ended: &CancellationToken) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = ended.cancelled() => break,
            }
            if latest.has_changed().unwrap_or(false) {
                let config = latest.borrow_and_update().clone();
                if let Some(config) = config {
                    self.config = config;
                    self.connect();
                }
            }
            self.look(agent).await;
        }
        self.look(agent).await;
    }

    /// With the settings of now; after an error those that worked before stay.
    fn connect(&mut self) {
        let Store::Consul(section) = &self.config.store else { return };
        let of = Of::member(&self.config);
        match Registrar::new(consul::config(section, &of)) {
            Ok(registrar) => self.registrar = Some(registrar),
            Err(error) => {
                let code = consul::failure(&error);
                error!(%code, error = &error as &dyn std::error::Error, "services are registered with the old settings of `consul`");
            }
        }
    }

    async fn look(&mut self, agent: &AgentHandle) {
        let status = agent.status();
        let wanted = wanted(&self.config, status.state, status.role, status.settings.ttl);
        let Some(registrar) = &self.registrar else { return };
        let done = match (wanted, &self.known) {
            (Wanted::Unchanged, _) | (Wanted::Out, Known::Out) => return,
            (Wanted::Out, Known::Nothing) if service_of(&self.config).is_none() => return,
            (Wanted::Registered(registration), Known::Registered(known, at))
                if registration == *known && at.elapsed() < REPEAT =>
            {
                return;
            }
            (Wanted::Registered(registration), known) => {
                let new = !matches!(known, Known::Registered(known, _) if *known == registration);
                let done = registrar.register(&registration, Deadline::after(CALL)).await;
                done.map(|()| {
                    if new {
                        info!(role = registration.role, "registered in Consul as a service");
                    }
                    Known::Registered(registration, Instant::now())
                })
            }
            (Wanted::Out, _) => {
                let (scope, member) = (self.config.scope.as_str(), self.config.name.as_str());
                let done = registrar.deregister(scope, member, Deadline::after(CALL)).await;
                done.map(|()| {
                    info!("no longer registered in Consul as a service");
                    Known::Out
                })
            }
        };
        self.note(done);
    }

    fn note(&mut self, done: Result<Known, StoreError>) {
        match done {
            Ok(known) => {
                self.known = known;
                self.failing = false;
            }
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(%error, "could not change the services in Consul; trying again every second");
            }
            Err(_) => {}
        }
    }
}

fn service_of(config: &Config) -> Option<&bellwether_config::sections::consul::Service> {
    match &config.store {
        Store::Consul(consul) => consul.service.as_ref(),
        _ => None,
    }
}

fn wanted(config: &Config, state: PostgresState, role: Role, ttl: Duration) -> Wanted {
    let (Store::Consul(consul), Some(service)) = (&config.store, service_of(config)) else {
        return Wanted::Out;
    };
    match state {
        // What an agent says before it has looked: its PostgreSQL may be running, and is to be found meanwhile.
        PostgresState::Stopped if role == Role::Uninitialized => return Wanted::Unchanged,
        PostgresState::Stopped => return Wanted::Out,
        PostgresState::Running if matches!(role, Role::Primary | Role::Replica | Role::StandbyLeader) => {}
        _ => return Wanted::Unchanged,
    }
    let scheme = if config.restapi.is_https() { "https" } else { "http" };
    let postgres = &config.postgresql.connect_address;
    Wanted::Registered(Box::new(Registration {
        scope: config.scope.to_string(),
        member: config.name.to_string(),
        address: postgres.host.clone(),
        port: postgres.port,
        role: role.to_string(),
        tags: service.tags.clone(),
        api_url: format!("{scheme}://{}", config.restapi.connect_address),
        check_interval: service.check_interval,
        check_tls_server_name: service.check_tls_server_name.clone(),
        session_ttl: (ttl / 2).max(consul.session_ttl_min),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_config::load;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn config(consul: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yml");
        let text = format!(
            "{{scope: s, name: a, restapi: {{listen: '127.0.0.1:8008', connect_address: '10.0.0.1:8008'}}, consul: {consul}, \
             postgresql: {{listen: '127.0.0.1:5432', connect_address: '10.0.0.1:5432', data_dir: /d, authentication: \
             {{superuser: {{username: u, password: p}}, replication: {{username: r, password: p}}}}}}}}"
        );
        std::fs::write(&file, text).unwrap();
        load(Some(&file), &BTreeMap::new()).unwrap().config
    }

    #[test]
    fn only_a_running_member_is_registered_and_only_a_stopped_one_taken_out() {
        let config = config("{register_service: true, service_tags: [x]}");
        for (state, role, registered) in [
            (PostgresState::Running, Role::Primary, Some("primary")),
            (PostgresState::Running, Role::Replica, Some("replica")),
            (PostgresState::Running, Role::StandbyLeader, Some("standby_leader")),
        ] {
            let Wanted::Registered(found) = wanted(&config, state, role, TTL) else { panic!("{role}") };
            assert_eq!(Some(found.role.as_str()), registered);
            assert_eq!((found.address.as_str(), found.port), ("10.0.0.1", 5432));
            assert_eq!(found.api_url, "http://10.0.0.1:8008");
            assert_eq!(found.tags, ["x"]);
            assert_eq!(found.session_ttl, Duration::from_secs(15));
        }
        for (state, role, expected) in [
            (PostgresState::Running, Role::Promoted, Wanted::Unchanged),
            (PostgresState::Starting, Role::Replica, Wanted::Unchanged),
            (PostgresState::Stopping, Role::Primary, Wanted::Unchanged),
            (PostgresState::Stopped, Role::Uninitialized, Wanted::Unchanged),
            (PostgresState::Stopped, Role::Demoted, Wanted::Out),
            (PostgresState::Stopped, Role::Replica, Wanted::Out),
        ] {
            assert_eq!(wanted(&config, state, role, TTL), expected, "{state} {role}");
        }
    }

    #[test]
    fn switched_off_means_out() {
        for consul in ["{}", "{register_service: false, service_tags: [x]}"] {
            assert_eq!(wanted(&config(consul), PostgresState::Running, Role::Primary, TTL), Wanted::Out);
        }
    }
}
