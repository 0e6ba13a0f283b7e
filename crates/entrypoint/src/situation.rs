//! What entry points decide by: the agent's published picture as plain data.

use std::time::Duration;

use bellwether_types::{
    Duty, MemberName, PostgresState, Role, Term, Timestamp, status::NodeStatus, topology::Topology,
};

/// One instant of a cluster, as one member sees it.
#[derive(Clone, Debug)]
pub struct Situation {
    pub now: Timestamp,
    /// When the agent published it.
    pub taken_at: Timestamp,
    /// After this instant nothing that is said about other members may be acted on.
    pub believable_until: Timestamp,
    pub ttl: Duration,
    pub me: MemberName,
    /// Where this member is, by its tag.
    pub zone: Option<String>,
    /// The agent has decided at least once since it was started.
    pub is_decided: bool,
    /// This member holds the leader lease until then.
    pub lease_until: Option<Timestamp>,
    pub local: Local,
    pub paused: bool,
    pub leader: Option<MemberName>,
    pub term: Option<Term>,
    pub members: Vec<Peer>,
}

/// The PostgreSQL of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Takes writes (in a standby cluster: is the one that follows the remote primary).
    Leads,
    /// Is to do so, and is not up at this moment.
    Restarts,
    /// Is being promoted.
    IsPromoted,
    /// Anything else, or stepping down.
    Other,
    /// Not looked at yet.
    Unknown,
}

/// A member in the store.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: MemberName,
    pub api_url: Option<String>,
    /// `postgres://host:port/...`.
    pub conn_url: Option<String>,
    pub zone: Option<String>,
    pub is_running: bool,
    pub is_replica: bool,
    /// Commits wait for it.
    pub is_sync: bool,
    pub wants_no_reads: bool,
    /// `None`: not known.
    pub lag_bytes: Option<u64>,
}

impl Situation {
    pub fn of(status: &NodeStatus, topology: &Topology, now: Timestamp) -> Self {
        let members = topology.members.iter().map(|member| Peer {
            name: member.name.clone(),
            api_url: member.api_url.clone(),
            conn_url: member.conn_url.clone(),
            zone: member.tags.zone().map(str::to_owned),
            is_running: member.state == Some(PostgresState::Running),
            is_replica: member.role == Some(Role::Replica) && !member.is_leader,
            is_sync: member.is_sync || member.is_quorum,
            wants_no_reads: member.tags.noloadbalance() || member.duty != Duty::Ready,
            lag_bytes: member.lag_bytes,
        });
        Self {
            now,
            taken_at: status.taken_at,
            believable_until: topology.believable_until,
            ttl: status.settings.ttl,
            me: status.me.clone(),
            zone: status.tags.zone().map(str::to_owned),
            is_decided: status.reason_code != "starting",
            lease_until: status.lease_until,
            local: local(status.role, status.state),
            paused: status.settings.pause,
            leader: topology.leader.clone(),
            term: topology.term,
            members: members.collect(),
        }
    }

    /// Whether the store, as last seen, names another member as the leader.
    pub fn another_leads(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| *leader != self.me)
    }

    pub fn is_believable(&self) -> bool {
        self.now < self.believable_until
    }
}

fn local(role: Role, state: PostgresState) -> Local {
    match (role, state) {
        (Role::Primary | Role::StandbyLeader, PostgresState::Running) => Local::Leads,
        (Role::Primary | Role::StandbyLeader, _) => Local::Restarts,
        (Role::Promoted, _) => Local::IsPromoted,
        (Role::Uninitialized, _) => Local::Unknown,
        _ => Local::Other,
    }
}
