//! When quorum take-over does not apply. The end of the lease remains as the way to a new leader.

use std::fmt;

use bellwether_types::{
    MemberName,
    cluster::Cluster,
    settings::{Settings, SyncMode},
};

/// Why there is no take-over in this cluster now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Off {
    /// `quorum_takeover` is not on.
    Setting,
    Mode,
    StandbyCluster,
    Pause,
    Store,
    /// This member is no Bellwether.
    Foreign(MemberName),
    /// `/sync` was never written, or has no voters.
    NoVoters,
}

/// `None`: it is on.
pub fn why_off(settings: &Settings, cluster: &Cluster, multi_key_transactions: bool) -> Option<Off> {
    if !settings.quorum_takeover {
        return Some(Off::Setting);
    }
    if settings.standby_cluster.is_some() {
        return Some(Off::StandbyCluster);
    }
    if settings.sync_mode() != SyncMode::Quorum {
        return Some(Off::Mode);
    }
    if settings.pause {
        return Some(Off::Pause);
    }
    if !multi_key_transactions {
        return Some(Off::Store);
    }
    // A Patroni that leads does not keep the election property with walsenders that are late; one that votes cannot promise.
    if let Some(foreign) = cluster.members.values().find(|member| member.bellwether.is_none()) {
        return Some(Off::Foreign(foreign.name.clone()));
    }
    cluster.active_sync().is_none_or(|sync| sync.voters.is_empty()).then_some(Off::NoVoters)
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("`quorum_takeover` is off"),
            Self::Mode => f.write_str("`synchronous_mode` is not `quorum`"),
            Self::StandbyCluster => f.write_str("this is a standby cluster"),
            Self::Pause => f.write_str("the cluster is paused"),
            Self::Store => f.write_str("the store has no transactions over several keys"),
            Self::Foreign(name) => write!(f, "member {name} is no Bellwether"),
            Self::NoVoters => f.write_str("no standby votes yet"),
        }
    }
}
