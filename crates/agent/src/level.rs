//! The feature level: which messages and values every member understands.
//!
//! Each member tells its own level in its member key. The leader keeps the lowest one of all in the store; who would write
//! something that an older version cannot read asks that first. Version N runs beside N-1, so a member may be one level behind
//! the cluster (which then falls back for it), but not two.

use bellwether_config::Floors;
use bellwether_dcs::{Snapshot, codec};
use bellwether_types::{MemberName, cluster::Cluster};

use crate::{publish::PROTOCOL_LEVEL, start::StartError};

/// What all members understand; 0 if one of them is not ours. `None` without members.
pub(crate) fn lowest(cluster: &Cluster) -> Option<u32> {
    let level = |member: &bellwether_types::cluster::Member| {
        member.bellwether.as_ref().map_or(0, |protocol| protocol.level)
    };
    cluster.members.values().map(level).min()
}

/// The smallest timings that may be used now: `ours`, or Patroni's while another member is a Patroni, which would raise what is
/// below them for itself alone.
///
/// A key under our own name that lacks our level is what a Patroni has left that ran here before.
pub(crate) fn floors(cluster: &Cluster, me: &MemberName, ours: Floors) -> Floors {
    let others = cluster.members.values().filter(|member| member.name != *me);
    if others.into_iter().all(|member| member.bellwether.is_some()) {
        return ours;
    }
    let patroni = Floors::patroni();
    Floors {
        ttl: patroni.ttl.max(ours.ttl),
        loop_wait: patroni.loop_wait.max(ours.loop_wait),
        retry_timeout: patroni.retry_timeout.max(ours.retry_timeout),
        resolution: patroni.resolution,
    }
}

/// An agent of this program must not join a cluster that has moved on by more than one level.
pub(crate) fn refuse_too_old(snapshot: &Snapshot) -> Result<(), StartError> {
    match codec::feature_level(snapshot) {
        Some(cluster) if cluster > PROTOCOL_LEVEL + 1 => {
            Err(StartError::TooOld { cluster, ours: PROTOCOL_LEVEL })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::{Deadline, MemoryStore, Store, Write, codec::keys};
    use bellwether_types::{
        MemberName,
        cluster::{Member, PeerProtocol},
    };

    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    #[test]
    fn the_lowest_level_counts_and_strangers_have_none() {
        let member = |text: &str, level: Option<u32>| {
            let bellwether = level.map(|level| PeerProtocol { version: "1.0.0".to_owned(), level });
            (name(text), Member { bellwether, ..Member::unknown(name(text)) })
        };
        for (case, members, expected) in [
            ("nobody", vec![], None),
            ("all alike", vec![member("a", Some(2)), member("b", Some(2))], Some(2)),
            ("one behind", vec![member("a", Some(2)), member("b", Some(1))], Some(1)),
            ("a Patroni", vec![member("a", Some(2)), member("b", None)], Some(0)),
        ] {
            let cluster = Cluster { members: members.into_iter().collect(), ..Cluster::default() };
            assert_eq!(lowest(&cluster), expected, "{case}");
        }
    }

    #[test]
    fn beside_a_patroni_its_floors_hold() {
        let member = |text: &str, level: Option<u32>| {
            let bellwether = level.map(|level| PeerProtocol { version: "1.0.0".to_owned(), level });
            (name(text), Member { bellwether, ..Member::unknown(name(text)) })
        };
        let ours = Floors::bellwether(std::time::Duration::from_secs(2));
        let slow = Floors::bellwether(std::time::Duration::from_secs(30));
        let patroni = Floors::patroni();
        for (case, members, floors, expected) in [
            ("alone", vec![], ours, ours),
            ("among our own", vec![member("me", Some(1)), member("a", Some(1))], ours, ours),
            (
                "a Patroni",
                vec![member("me", Some(1)), member("a", Some(1)), member("b", None)],
                ours,
                patroni,
            ),
            ("a Patroni that ran here before", vec![member("me", None), member("a", Some(1))], ours, ours),
            (
                "a store that is slower still",
                vec![member("b", None)],
                slow,
                Floors { ttl: slow.ttl, ..patroni },
            ),
        ] {
            let cluster = Cluster { members: members.into_iter().collect(), ..Cluster::default() };
            assert_eq!(super::floors(&cluster, &name("me"), floors), expected, "{case}");
        }
    }

    #[tokio::test]
    async fn one_level_behind_is_let_in_and_two_are_not() {
        let store = MemoryStore::new();
        let by = || Deadline::after(std::time::Duration::from_secs(5));
        for (level, welcome) in [(0, true), (PROTOCOL_LEVEL + 1, true), (PROTOCOL_LEVEL + 2, false)] {
            let text = codec::encode_feature_level(level, &name("a"));
            let _ = store.commit(&[], &[Write::put(keys::FEATURE_LEVEL, text)], by()).await;
            let answer = refuse_too_old(&store.snapshot(by()).await.unwrap());
            assert_eq!(answer.is_ok(), welcome, "{level}: {answer:?}");
        }
    }
}
