//! What the agent publishes to the entry points: who leads, who follows, and until when that may be believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ClusterName, Duty, Lsn, MemberName, PostgresState, Role, Tags, Term, TimelineId, Timestamp,
    cluster::{Cluster, Member},
};

/// One picture of the cluster. API, proxy, VIP and DNS read this and nothing else, and fail closed after `believable_until`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    pub cluster: ClusterName,
    pub me: MemberName,
    pub leader: Option<MemberName>,
    pub term: Option<Term>,
    /// This member may accept writes until then; `None` if it does not hold the lease.
    pub lease_until: Option<Timestamp>,
    pub members: Vec<TopologyMember>,
    pub paused: bool,
    /// When the picture was taken.
    pub taken_at: Timestamp,
    /// When the store last confirmed it: the lease's time until `believable_until` counts from here.
    pub confirmed_at: Timestamp,
    /// After this instant nobody may act on the picture.
    pub believable_until: Timestamp,
}

/// One member in the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyMember {
    pub name: MemberName,
    pub role: Option<Role>,
    pub state: Option<PostgresState>,
    pub timeline: Option<TimelineId>,
    pub lsn: Option<Lsn>,
    pub lag_bytes: Option<u64>,
    pub conn_url: Option<String>,
    pub api_url: Option<String>,
    pub is_leader: bool,
    pub is_sync: bool,
    pub is_quorum: bool,
    pub tags: Tags,
    /// Whether it takes readers.
    #[serde(default)]
    pub duty: Duty,
}

impl Topology {
    pub fn is_believable_at(&self, now: Timestamp) -> bool {
        now < self.believable_until
    }

    /// Whether this member holds the lease at `now`.
    pub fn holds_lease_at(&self, now: Timestamp) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }
}

impl TopologyMember {
    /// All members, as the store has them; `routing` says which of them are taken out.
    pub fn all(cluster: &Cluster, routing: &BTreeMap<MemberName, Duty>) -> Vec<Self> {
        cluster.members.values().map(|member| Self::of(cluster, member, routing)).collect()
    }

    fn of(cluster: &Cluster, member: &Member, routing: &BTreeMap<MemberName, Duty>) -> Self {
        let is_voter = cluster.active_sync().is_some_and(|sync| sync.has_voter(&member.name));
        let has_quorum = cluster.active_sync().is_some_and(|sync| sync.quorum > 0);
        Self {
            name: member.name.clone(),
            role: member.role,
            state: member.state,
            timeline: member.timeline,
            lsn: member.xlog_location,
            lag_bytes: member.xlog_location.map(|lsn| cluster.optime().bytes_ahead_of(lsn)),
            conn_url: member.conn_url.clone(),
            api_url: member.api_url.clone(),
            is_leader: cluster.leader_name() == Some(&member.name),
            is_sync: is_voter && !has_quorum,
            is_quorum: is_voter && has_quorum,
            tags: Tags(member.tags.0.clone()),
            duty: routing.get(&member.name).copied().unwrap_or_default(),
        }
    }
}
