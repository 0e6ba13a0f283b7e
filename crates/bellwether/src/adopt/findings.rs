//! What a look at a node has found, as plain data.

use std::{collections::BTreeSet, path::PathBuf};

use bellwether_types::{MemberName, SystemId, cluster::Cluster};
use serde_json::Value;

/// Everything that the plan rests on.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    pub(super) me: MemberName,
    pub(super) scope: String,
    /// The embedded store: Patroni's `raft` is another one.
    pub(super) store_is_embedded: bool,
    /// What was noticed while the configuration was read; one text each.
    pub(super) doubts: Vec<String>,
    /// `Err` with the reason if the store did not answer.
    pub(super) cluster: Result<Cluster, String>,
    /// What answers at this node's REST address: the status document.
    pub(super) agent: Option<Value>,
    pub(super) data: Data,
    /// What the running server says; `Err` with the reason if it could not be asked.
    pub(super) server: Option<Result<Server, String>>,
    /// Units that may run this node now.
    pub(super) units: Vec<PathBuf>,
}

/// The data directory and who works in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) path: PathBuf,
    pub(super) major: Option<u32>,
    /// There is something that is no complete data directory.
    pub(super) unusable: Option<String>,
    pub(super) system_id: Option<SystemId>,
    pub(super) allows_rewind: Option<bool>,
    pub(super) postmaster: Option<i32>,
}

/// A running PostgreSQL, asked as the superuser of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) in_recovery: bool,
    /// `application_name` of those that stream from it.
    pub(super) standbys: Vec<String>,
    /// Roles that the configuration names and that do not exist here, or lack a right.
    pub(super) missing_roles: Vec<String>,
    /// Values that will be others after the next restart: name, present value, coming value.
    pub(super) other_values: Vec<(String, String, String)>,
    pub(super) slots: BTreeSet<String>,
}

/// Who runs the node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    Ours,
    Patroni,
    /// PostgreSQL runs, and no agent.
    Bare,
    /// Data, but nothing that runs.
    Stopped,
    /// No data: there is nothing to take over.
    Empty,
}

impl Findings {
    pub(super) fn situation(&self) -> Situation {
        let member = self.cluster.as_ref().ok().and_then(|cluster| cluster.member(&self.me));
        if self.agent.is_some() {
            return match member {
                Some(member) if member.bellwether.is_some() => Situation::Ours,
                _ => Situation::Patroni,
            };
        }
        match (self.data.postmaster, self.data.major, &self.data.unusable) {
            (Some(_), ..) => Situation::Bare,
            (None, Some(_), _) | (None, None, Some(_)) => Situation::Stopped,
            (None, None, None) => Situation::Empty,
        }
    }

    /// Whether this member holds the lock of a cluster that has an agent, or is a bare primary.
    pub(super) fn is_leader(&self) -> bool {
        match self.situation() {
            Situation::Bare => self.server().is_some_and(|server| !server.in_recovery),
            _ => self.cluster.as_ref().ok().and_then(Cluster::leader_name) == Some(&self.me),
        }
    }

    pub(super) fn server(&self) -> Option<&Server> {
        self.server.as_ref()?.as_ref().ok()
    }

    pub(super) fn is_paused(&self) -> bool {
        let document = self.cluster.as_ref().ok().and_then(|cluster| cluster.config.as_ref());
        document.is_some_and(|keyed| match &keyed.value {
            bellwether_types::cluster::ConfigDocument::Valid(document) => document["pause"] == true,
            bellwether_types::cluster::ConfigDocument::Invalid => false,
        })
    }
}
