//! `demote-cluster` and `promote-cluster`: a whole cluster begins or ends to follow a remote primary.
//!
//! Both write `standby_cluster` by way of the leader's REST API and then watch the leader take its new role.

use std::time::Duration;

use bellwether_api_client::Method;
use bellwether_types::cluster::{Cluster, Member};
use serde_json::{Map, Value, json};

use super::list::table;
use crate::{
    command::{DemoteClusterArgs, PromoteClusterArgs},
    error::CliError,
    manner::{Manner, Outcome},
    schedule,
    session::{CALL_PATIENCE, Session, Target},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Demotion,
    Promotion,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Demotion => "demote",
            Self::Promotion => "promote",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Demotion => "demotion",
            Self::Promotion => "promotion",
        }
    }

    /// What the leader publishes once it is done.
    fn leader_role(self) -> &'static str {
        match self {
            Self::Demotion => "standby_leader",
            Self::Promotion => "primary",
        }
    }
}

pub(crate) async fn demote(session: &mut Session, args: &DemoteClusterArgs) -> Result<Outcome, CliError> {
    refuse_group(session)?;
    let mut remote = Map::new();
    if let Some(host) = args.host.as_ref().filter(|host| !host.is_empty()) {
        remote.insert("host".to_owned(), json!(host));
    }
    if let Some(port) = args.port.filter(|port| *port != 0) {
        remote.insert("port".to_owned(), json!(port));
    }
    if let Some(slot) = args.primary_slot_name.as_ref().filter(|slot| !slot.is_empty()) {
        remote.insert("primary_slot_name".to_owned(), json!(slot));
    }
    if let Some(command) = args.restore_command.as_ref().filter(|command| !command.is_empty()) {
        remote.insert("restore_command".to_owned(), json!(command));
    }
    if !["host", "port", "restore_command"].iter().any(|key| remote.contains_key(*key)) {
        return Err(CliError::refused("At least --host, --port or --restore-command should be specified"));
    }
    let patch = json!({ "standby_cluster": remote });
    change(session, args.cluster.as_deref(), Change::Demotion, &patch, args.force.force).await
}

pub(crate) async fn promote(session: &mut Session, args: &PromoteClusterArgs) -> Result<Outcome, CliError> {
    refuse_group(session)?;
    let patch = json!({ "standby_cluster": null });
    change(session, args.cluster.as_deref(), Change::Promotion, &patch, args.force.force).await
}

/// Patroni's tool knows no `--group` here: the coordinator's configuration decides. Ours must not do something else.
fn refuse_group(session: &Session) -> Result<(), CliError> {
    match (session.manner, session.group) {
        (Manner::Patronictl, Some(_)) => Err(CliError::Usage("No such option '--group'.".to_owned())),
        _ => Ok(()),
    }
}

async fn change(
    session: &mut Session,
    cluster_name: Option<&str>,
    change: Change,
    patch: &Value,
    force: bool,
) -> Result<Outcome, CliError> {
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    let Some(leader) = groups.main().leader_member() else {
        return Err(CliError::refused(format!("Cluster has no leader, {} is not possible", change.noun())));
    };
    if published(leader, "role") == Some(change.leader_role()) {
        return Err(CliError::refused("Cluster is already in the required state"));
    }
    session.talk.note("Current cluster topology");
    session.talk.note_block(&table(&target, &groups));
    let (verb, name) = (change.verb(), &target.name);
    if !force && !session.talk.confirm(&format!("Are you sure you want to {verb} {name} cluster?"))? {
        return Err(CliError::refused(format!("Aborted cluster {}", change.noun())));
    }
    let failed = |why: String| CliError::refused(format!("Failed to {verb} {name} cluster: {why}"));
    match session.call(leader, Method::PATCH, "config", Some(patch), CALL_PATIENCE).await {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => {
            let (status, body) = (answer.status, answer.body);
            let why =
                format!("Failed to {verb} {name} cluster: /config PATCH status code={status}, ({body})");
            return Err(failed(why));
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    watch(session, &target, leader, change).await
}

/// Tells once a second how far it is. Ctrl-C ends the watching, not the change.
async fn watch(
    session: &mut Session,
    target: &Target,
    old_leader: &Member,
    change: Change,
) -> Result<Outcome, CliError> {
    loop {
        let groups = target.groups().await?;
        let progress = Progress::of(groups.main(), old_leader);
        if progress.is_done(change) {
            let verb = change.verb();
            session.talk.note(format!("{} cluster is successfully {verb}d", schedule::second_stamp()));
            session.talk.note_block(&table(target, &groups));
            return Ok(Outcome::Done);
        }
        session.talk.note(format!("{} {progress}", schedule::second_stamp()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What can be seen of the change.
struct Progress<'a> {
    is_unlocked: bool,
    role: Option<&'a str>,
    state: Option<&'a str>,
    /// The state of the leader of before, if another one leads now.
    previous: Option<Option<&'a str>>,
}

impl<'a> Progress<'a> {
    fn of(cluster: &'a Cluster, old_leader: &Member) -> Self {
        let leader = cluster.leader_member();
        let old = cluster.member(&old_leader.name);
        let has_changed = leader.is_none_or(|leader| leader.name != old_leader.name);
        Self {
            is_unlocked: cluster.is_unlocked(),
            role: leader.and_then(|leader| published(leader, "role")),
            state: leader.and_then(|leader| published(leader, "state")),
            previous: has_changed.then(|| old.and_then(|old| published(old, "state"))),
        }
    }

    fn is_done(&self, change: Change) -> bool {
        let old_runs = self.previous.is_none_or(|state| state == Some("running"));
        !self.is_unlocked
            && self.role == Some(change.leader_role())
            && self.state == Some("running")
            && old_runs
    }
}

impl std::fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unlocked = if self.is_unlocked { "True" } else { "False" };
        let (role, state) = (self.role.unwrap_or("None"), self.state.unwrap_or("None"));
        write!(f, "cluster is unlocked: {unlocked}, leader role: {role}, leader state: {state}")?;
        match self.previous {
            Some(state) => write!(f, ", previous leader state: '{}'", state.unwrap_or("None")),
            None => Ok(()),
        }
    }
}

/// A field of a member as it is written, words included that we do not know.
fn published<'a>(member: &'a Member, key: &str) -> Option<&'a str> {
    member.raw.get(key).and_then(Value::as_str)
}
