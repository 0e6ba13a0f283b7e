//! Which members a listener may send its clients to: computed from the agent's picture, and from nothing else.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

use bellwether_types::{
    Duty, HostPort, MemberName, PostgresState, Role, Timestamp,
    topology::{Topology, TopologyMember},
};

use crate::settings::RoutingSettings;

/// What a listener's clients want to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The holder of the leader lock: reads and writes.
    Primary,
    /// Every replica that follows.
    Replicas,
    /// Synchronous replicas only.
    Sync,
    /// Asynchronous replicas only.
    Async,
}

impl Target {
    /// In the order in which they are tables' rows.
    pub const ALL: [Target; 4] = [Target::Primary, Target::Replicas, Target::Sync, Target::Async];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replicas => "replicas",
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where everybody is, and until when that may be acted upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    pub cluster: Arc<str>,
    pub primary: Option<Arc<Route>>,
    /// The leader, while it stops in order: sessions there may end what they have begun, and nobody begins anything.
    pub leaving: Option<MemberName>,
    /// New sessions at the primary are opened until then.
    pub open_until: Timestamp,
    /// Sessions at the primary go on until then.
    pub trust_until: Timestamp,
    pub replicas: Vec<Arc<Route>>,
    pub sync: Vec<Arc<Route>>,
    pub asynchronous: Vec<Arc<Route>>,
    /// Why there is no primary, as a sentence for a client.
    pub no_primary: NoPrimary,
    /// The timeline that each member was last seen on.
    pub timelines: BTreeMap<MemberName, u32>,
    /// Replicas that an operator has taken out.
    pub taken_out: BTreeMap<MemberName, Duty>,
}

/// Why nobody can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPrimary {
    /// Nothing has been heard from the agent yet, or nothing for too long.
    NotHeard,
    /// Nobody holds the leader lock.
    NoLeader,
    /// Somebody holds it and has not finished its promotion.
    NotPromoted,
    /// Its holder stops in order, so that another one can take over.
    HandingOver,
}

impl NoPrimary {
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotHeard => {
                "This node's knowledge of who the primary is is too old: it may be cut off from the others."
            }
            Self::NoLeader => "No member holds the leader lock at present.",
            Self::NotPromoted => "The new leader is being promoted.",
            Self::HandingOver => "The leader hands over to another member.",
        }
    }
}

/// A member that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub member: MemberName,
    /// As they were resolved last; tried in turn. Empty if the name is not known.
    pub addresses: Vec<SocketAddr>,
    /// The host as the member names it, for its certificate.
    pub host: String,
    /// The highest timeline on which the cluster is known to be: a server on a lower one is not its primary.
    pub timeline: u32,
    /// Its share of the readers.
    pub weight: u32,
    pub zone: Option<String>,
    /// It never is synchronous, and so often further behind.
    pub nosync: bool,
}

/// Who may serve what, before names are resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eligible<'a> {
    pub primary: Option<&'a TopologyMember>,
    pub leaving: Option<&'a TopologyMember>,
    pub replicas: Vec<&'a TopologyMember>,
}

/// Sorts out who may serve what.
pub fn eligible<'a>(topology: &'a Topology, settings: &RoutingSettings) -> Eligible<'a> {
    let leads = |member: &&TopologyMember| topology.leader.as_ref() == Some(&member.name);
    // The key of a member that is being promoted says so only once it takes writes.
    let primary =
        topology.members.iter().find(leads).filter(|member| {
            member.role == Some(Role::Primary) && member.state == Some(PostgresState::Running)
        });
    let leaving = topology.members.iter().find(leads).filter(|member| {
        matches!(member.role, Some(Role::Primary | Role::Demoted))
            && matches!(member.state, Some(PostgresState::Stopping | PostgresState::Restarting))
    });
    let serves = |member: &&TopologyMember| {
        let follows =
            matches!(member.role, Some(Role::Replica)) && member.state == Some(PostgresState::Running);
        // A lag that nobody knows is too large.
        let near = member.lag_bytes.is_some_and(|lag| lag <= settings.max_replica_lag_bytes);
        // The leader keeps its writers whatever is said of it; who was drained takes no readers either way.
        follows && near && !leads(member) && !member.tags.noloadbalance() && member.duty == Duty::Ready
    };
    Eligible { primary, leaving, replicas: topology.members.iter().filter(serves).collect() }
}

impl Routes {
    /// Nothing is known yet.
    pub fn unknown(cluster: &str) -> Self {
        Self {
            cluster: cluster.into(),
            primary: None,
            leaving: None,
            open_until: Timestamp::ZERO,
            trust_until: Timestamp::ZERO,
            replicas: vec![],
            sync: vec![],
            asynchronous: vec![],
            no_primary: NoPrimary::NotHeard,
            timelines: BTreeMap::new(),
            taken_out: BTreeMap::new(),
        }
    }

    /// The routes of a picture; `resolve` gives the addresses of a member.
    pub fn of(
        topology: &Topology,
        settings: &RoutingSettings,
        mut resolve: impl FnMut(&TopologyMember) -> Vec<SocketAddr>,
    ) -> Self {
        let eligible = eligible(topology, settings);
        let timeline =
            topology.members.iter().filter_map(|member| member.timeline).map(|timeline| timeline.0).max();
        let mut route = |member: &TopologyMember| {
            let addresses = resolve(member);
            let host = member.conn_url.as_deref().and_then(first_host).unwrap_or_default();
            Arc::new(Route {
                member: member.name.clone(),
                addresses,
                host,
                timeline: timeline.unwrap_or(0),
                weight: member.tags.weight(),
                zone: member.tags.zone().map(str::to_owned),
                nosync: member.tags.nosync(),
            })
        };
        let primary = eligible.primary.map(&mut route);
        let all: Vec<(bool, Arc<Route>)> = eligible
            .replicas
            .iter()
            .map(|member| (member.is_sync || member.is_quorum, route(member)))
            .collect();
        let of_kind = |wanted: bool| {
            all.iter().filter(|(sync, _)| *sync == wanted).map(|(_, route)| route.clone()).collect()
        };
        let mut replicas: Vec<Arc<Route>> = all.iter().map(|(_, route)| route.clone()).collect();
        if replicas.is_empty() && settings.fall_back_to_primary {
            replicas.extend(primary.clone());
        }
        let (open_until, trust_until) = times(topology, settings);
        let leaving = eligible.leaving.map(|member| member.name.clone());
        let no_primary = match (&leaving, &topology.leader) {
            (Some(_), _) => NoPrimary::HandingOver,
            (None, Some(_)) => NoPrimary::NotPromoted,
            (None, None) => NoPrimary::NoLeader,
        };
        Self {
            cluster: topology.cluster.as_str().into(),
            primary,
            leaving,
            open_until,
            trust_until,
            replicas,
            sync: of_kind(true),
            asynchronous: of_kind(false),
            taken_out: topology
                .members
                .iter()
                .filter(|member| member.duty != Duty::Ready && topology.leader.as_ref() != Some(&member.name))
                .map(|member| (member.name.clone(), member.duty))
                .collect(),
            no_primary,
            timelines: topology
                .members
                .iter()
                .filter_map(|member| Some((member.name.clone(), member.timeline?.0)))
                .collect(),
        }
    }

    /// The primary, if a session may be opened there at `now`.
    pub fn primary_at(&self, now: Timestamp) -> Result<&Arc<Route>, NoPrimary> {
        let primary = self.primary.as_ref().ok_or(self.no_primary)?;
        if now < self.open_until { Ok(primary) } else { Err(NoPrimary::NotHeard) }
    }

    /// The members that may serve `target` at `now`.
    pub fn candidates(&self, target: Target, now: Timestamp) -> &[Arc<Route>] {
        match target {
            Target::Primary => self.primary_at(now).map_or(&[], std::slice::from_ref),
            Target::Replicas => &self.replicas,
            Target::Sync => &self.sync,
            Target::Async => &self.asynchronous,
        }
    }

    /// Whether a session that was opened at `member` may go on.
    pub fn allows(&self, target: Target, member: &MemberName, now: Timestamp) -> bool {
        match target {
            Target::Primary => {
                let is_there = self.primary.as_ref().is_some_and(|route| route.member == *member);
                now < self.trust_until && (is_there || self.leaving.as_ref() == Some(member))
            }
            _ if self.taken_out.get(member) == Some(&Duty::Drain) => true,
            _ => self.leads_to(target, member, now),
        }
    }

    /// Whether somebody may be sent to `member` who is not there yet.
    pub fn leads_to(&self, target: Target, member: &MemberName, now: Timestamp) -> bool {
        self.candidates(target, now).iter().any(|route| route.member == *member)
    }

    /// Whether readers that are between transactions are to leave `member`.
    pub fn sends_away(&self, target: Target, member: &MemberName) -> bool {
        target != Target::Primary && self.taken_out.get(member) == Some(&Duty::Maint)
    }
}

/// The hosts of `postgres://host:port[,host:port]/database`.
pub(crate) fn hosts_of(conn_url: &str) -> Vec<HostPort> {
    let Some((_, rest)) = conn_url.split_once("://") else { return vec![] };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let hosts = authority.rsplit('@').next().unwrap_or(authority);
    hosts.split(',').filter_map(|host| HostPort::parse(host, Some(5432)).ok()).collect()
}

fn first_host(conn_url: &str) -> Option<String> {
    hosts_of(conn_url).into_iter().next().map(|host| host.host)
}

/// Until when sessions at the primary are opened, and until when they go on.
fn times(topology: &Topology, settings: &RoutingSettings) -> (Timestamp, Timestamp) {
    if topology.paused {
        // Nobody is promoted in pause, and a lease that ends demotes nobody.
        return (Timestamp::MAX, Timestamp::MAX);
    }
    let guaranteed = topology.believable_until.since(topology.confirmed_at);
    let age = settings.max_view_age.unwrap_or(guaranteed / 2);
    let open = (topology.confirmed_at + age).min(topology.believable_until);
    // The holder knows best: the guardian ends its server with the lease, whatever the store says meanwhile.
    let own = topology.lease_until.filter(|_| topology.leader.as_ref() == Some(&topology.me));
    let own = own.unwrap_or(Timestamp::ZERO);
    (open.max(own), topology.believable_until.max(own))
}

#[cfg(test)]
mod tests;
