//! Which replicas may count as synchronous standbys, best first.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_types::{
    Lsn, MemberName,
    cluster::{Cluster, Member},
    settings::SyncMode,
};

use crate::{
    View, gray,
    view::{Server, Standby},
};

/// A member that streams from this primary and may be a synchronous standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) name: MemberName,
    pub(crate) connection: String,
    pub(crate) sync_state: String,
    pub(crate) position: Lsn,
    pub(crate) nofailover: bool,
    priority: i64,
}

/// Up to where a standby has what commits wait for, by `synchronous_commit`. `None`: it has not said.
pub(crate) fn position(server: &Server, standby: &Standby) -> Option<Lsn> {
    match server.synchronous_commit.as_str() {
        "remote_apply" => standby.replay,
        "remote_write" => standby.write,
        _ => standby.flush,
    }
}

/// The replicas that may count, in the order in which they are preferred.
pub(crate) fn replicas(view: &View, cluster: &Cluster, server: &Server) -> Vec<Replica> {
    let mut found: BTreeMap<&MemberName, Replica> = BTreeMap::new();
    for standby in server.standbys.iter().filter(|standby| standby.state == "streaming") {
        // A row without a position is a base backup, or a standby that has not reported yet.
        let Some(position) = position(server, standby) else { continue };
        let Some(member) = member_named(cluster, &standby.application_name) else { continue };
        if !member.is_running() || member.tags.nosync() || view.me.name.same_standby(&member.name) {
            continue;
        }
        if gray::is_stuck(view, &standby.application_name, position) {
            continue;
        }
        // After a break in the network the old connection is listed for a while beside the new one.
        if found.get(&member.name).is_some_and(|known| known.position >= position) {
            continue;
        }
        found.insert(
            &member.name,
            Replica {
                name: member.name.clone(),
                connection: standby.connection.clone(),
                sync_state: standby.sync_state.clone(),
                position,
                nofailover: member.tags.nofailover(),
                priority: member.tags.sync_priority(),
            },
        );
    }
    let streaming: BTreeSet<&MemberName> = found.keys().copied().collect();
    let should_cascade: BTreeSet<MemberName> = streaming
        .iter()
        .filter(|name| cascades(cluster, name, &streaming))
        .map(|&name| name.clone())
        .collect();
    let mut replicas: Vec<Replica> =
        found.into_values().filter(|replica| !should_cascade.contains(&replica.name)).collect();
    // The sort is stable, and the names are in order already.
    replicas.sort_by(|a, b| {
        let a = (a.priority, a.sync_state.as_str(), a.position);
        let b = (b.priority, b.sync_state.as_str(), b.position);
        b.cmp(&a)
    });
    replicas.sort_by_key(|replica| replica.nofailover);
    drop_lagging(view, server, &mut replicas);
    replicas
}

/// The names that synchronous replication shall be made of. `wanted`: how many standbys are to acknowledge a commit.
pub(crate) fn active(mode: SyncMode, wanted: usize, replicas: &[Replica]) -> BTreeSet<String> {
    let mut picked = BTreeSet::new();
    for replica in replicas {
        let is_picked = match mode {
            SyncMode::Quorum => !replica.nofailover || picked.len() < wanted,
            SyncMode::On | SyncMode::Off => picked.len() < wanted,
        };
        if is_picked {
            picked.insert(replica.name.as_str().to_owned());
        }
    }
    picked
}

/// PostgreSQL folds case when it compares names, so we do.
fn member_named<'c>(cluster: &'c Cluster, name: &str) -> Option<&'c Member> {
    let exact = MemberName::new(name).ok().and_then(|name| cluster.members.get(&name));
    exact.or_else(|| cluster.members.values().find(|member| member.name.as_str().eq_ignore_ascii_case(name)))
}

/// Whether `name` is meant to stream from another member that streams from us. Members that name each other in a circle are not.
fn cascades(cluster: &Cluster, name: &MemberName, streaming: &BTreeSet<&MemberName>) -> bool {
    let source = |name: &MemberName| {
        let wanted = cluster.members.get(name)?.tags.replicatefrom()?;
        cluster.members.get_key_value(&wanted).map(|(known, _)| known)
    };
    let mut passed = BTreeSet::from([name]);
    let mut next = source(name);
    let mut is_fed = false;
    while let Some(current) = next {
        if !passed.insert(current) {
            return false;
        }
        is_fed |= streaming.contains(current);
        next = source(current);
    }
    is_fed
}

/// Only with an explicit limit: constant swapping hurts more than some lag.
fn drop_lagging(view: &View, server: &Server, replicas: &mut Vec<Replica>) {
    let Some(limit) = view.settings.maximum_lag_on_syncnode.filter(|&limit| limit > 0) else { return };
    let reference = match replicas.as_slice() {
        [_] => server.position,
        several => several.iter().map(|replica| replica.position).max().unwrap_or_default(),
    };
    replicas.retain(|replica| reference - replica.position <= limit);
}
