//! The groups of a Citus cluster: each is a cluster of its own, below the name that they share.

use std::collections::BTreeMap;

use bellwether_dcs::{Key, Snapshot, codec};
use bellwether_types::cluster::{Cluster, Member};

/// The group of the coordinator.
pub(crate) const COORDINATOR: i32 = 0;

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A cluster without Citus.
    Plain,
    /// One group of a Citus cluster.
    Group(i32),
    /// All of a Citus cluster.
    EveryGroup,
}

/// What was read of a cluster. There is always a [`Groups::main`] one, if only an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    part: Part,
    clusters: BTreeMap<i32, Cluster>,
}

impl Groups {
    /// `snapshot` was taken below the name that the groups share if it is about all of them, otherwise below the cluster's own.
    pub(crate) fn decode(part: Part, snapshot: &Snapshot) -> Self {
        let clusters = match part {
            Part::Plain => BTreeMap::from([(COORDINATOR, codec::decode(snapshot))]),
            Part::Group(group) => BTreeMap::from([(group, codec::decode(snapshot))]),
            Part::EveryGroup => {
                let mut snapshots = BTreeMap::from([(COORDINATOR, Snapshot::default())]);
                for (key, entry) in &snapshot.entries {
                    let Some((group, key)) = key.as_str().split_once('/') else { continue };
                    let Ok(group) = group.parse::<i32>() else { continue };
                    let of_group: &mut Snapshot = snapshots.entry(group).or_default();
                    of_group.entries.insert(Key::from(key), entry.clone());
                }
                snapshots.into_iter().map(|(group, snapshot)| (group, codec::decode(&snapshot))).collect()
            }
        };
        Self { part, clusters }
    }

    /// One cluster that was read already.
    pub(crate) fn of(part: Part, cluster: Cluster) -> Self {
        let group = if let Part::Group(group) = part { group } else { COORDINATOR };
        Self { part, clusters: BTreeMap::from([(group, cluster)]) }
    }

    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// The cluster itself; of all groups, the coordinator's.
    pub(crate) fn main(&self) -> &Cluster {
        let first = self.clusters.get(&COORDINATOR).or_else(|| self.clusters.values().next());
        first.expect("no way of making one leaves it empty")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &Cluster)> {
        self.clusters.iter().map(|(group, cluster)| (*group, cluster))
    }

    /// Every member with the cluster that it belongs to, by group and name.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Cluster, &Member)> {
        self.clusters
            .values()
            .flat_map(|cluster| cluster.members.values().map(move |member| (cluster, member)))
    }
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::Entry;
    use bellwether_types::Revision;

    use super::*;

    #[test]
    fn every_group_is_a_cluster_of_its_own() {
        let entry = |value: &str| Entry {
            value: value.as_bytes().to_vec(),
            created: Revision(1),
            modified: Revision(1),
            lease: None,
        };
        let keys = [
            ("0/leader", "a"),
            ("0/members/a", "{}"),
            ("1/members/b", "{}"),
            ("x/leader", "z"),
            ("leader", "q"),
        ];
        let entries = keys.iter().map(|(key, value)| (Key::from(*key), entry(value))).collect();
        let snapshot = Snapshot { revision: Revision(1), entries };
        let groups = Groups::decode(Part::EveryGroup, &snapshot);
        let members: Vec<&str> = groups.members().map(|(_, member)| member.name.as_str()).collect();
        assert_eq!(members, ["a", "b"]);
        assert_eq!(groups.main().leader_name().unwrap().as_str(), "a");
        assert!(groups.iter().nth(1).unwrap().1.leader_name().is_none());
        assert_eq!(Groups::decode(Part::EveryGroup, &Snapshot::default()).members().count(), 0);
    }
}
