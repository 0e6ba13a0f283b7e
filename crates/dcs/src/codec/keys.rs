//! The names of the keys below a cluster's prefix, and the prefix itself.

use bellwether_types::{ClusterName, MemberName};

use crate::store::Key;

/// The PostgreSQL system identifier; empty while somebody bootstraps.
pub const INITIALIZE: &str = "initialize";
/// The leader lock: the name of the member that holds it.
pub const LEADER: &str = "leader";
/// The dynamic configuration.
pub const CONFIG: &str = "config";
/// A requested switchover or failover.
pub const FAILOVER: &str = "failover";
/// Whom a promotion must consult.
pub const SYNC: &str = "sync";
/// The last position that the leader reported, and its slots.
pub const STATUS: &str = "status";
/// Finished timelines.
pub const HISTORY: &str = "history";
/// Every member's API, for the time when the store is gone.
pub const FAILSAFE: &str = "failsafe";
/// The number that the last promotion took for its timeline. Ours alone; Patroni leaves it alone.
pub const TIMELINE: &str = "timeline";
/// The present or last quorum take-over. Ours alone; Patroni leaves it alone.
pub const TAKEOVER: &str = "takeover";
/// The position before `status` existed: read if `status` is absent, never written.
pub const LEGACY_OPTIME: &str = "optime/leader";
/// What all member keys begin with.
pub const MEMBERS_PREFIX: &str = "members/";

/// The lowest feature level of all members. Ours, like everything below `bellwether/`: Patroni ignores it.
pub const FEATURE_LEVEL: &str = "bellwether/level";
/// Which bootstrap filled in `initialize`, written with it in one transaction. Ours.
pub const FOUNDER: &str = "bellwether/founder";
/// What the keys begin with that hold the end of each member's journal. Ours.
pub const JOURNALS_PREFIX: &str = "bellwether/journal/";

/// The key of one member.
pub fn member(name: &MemberName) -> Key {
    Key(format!("{MEMBERS_PREFIX}{name}"))
}

/// The member that a key belongs to; `None` for other keys and for names that nobody can bear.
pub fn member_of(key: &Key) -> Option<MemberName> {
    MemberName::new(key.as_str().strip_prefix(MEMBERS_PREFIX)?).ok()
}

/// The key with the end of a member's journal.
pub fn journal(name: &MemberName) -> Key {
    Key(format!("{JOURNALS_PREFIX}{name}"))
}

/// Whose journal a key holds; `None` for other keys.
pub fn journal_of(key: &Key) -> Option<MemberName> {
    MemberName::new(key.as_str().strip_prefix(JOURNALS_PREFIX)?).ok()
}

/// The cluster's prefix: `/namespace/scope/` with runs of `/` collapsed. It ends with `/`, so that the cluster `batman` never
/// captures the keys of `batman1`.
pub fn base_path(namespace: &str, scope: &ClusterName) -> String {
    let mut path = String::from("/");
    for segment in namespace.split('/').chain([scope.as_str()]).filter(|segment| !segment.is_empty()) {
        path.push_str(segment);
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_has_single_slashes_and_ends_with_one() {
        let batman = ClusterName::new("batman").unwrap();
        for (namespace, expected) in [
            ("service", "/service/batman/"),
            ("/service/", "/service/batman/"),
            ("//a///b//", "/a/b/batman/"),
            ("", "/batman/"),
            ("/", "/batman/"),
        ] {
            assert_eq!(base_path(namespace, &batman), expected, "{namespace:?}");
        }
        let other = base_path("service", &ClusterName::new("batman1").unwrap());
        assert!(!other.starts_with(&base_path("service", &batman)));
    }

    #[test]
    fn a_member_key_names_its_member() {
        let name = MemberName::new("pg-1").unwrap();
        assert_eq!(member(&name).as_str(), "members/pg-1");
        assert_eq!(member_of(&member(&name)), Some(name));
        for other in ["leader", "members/", "members/a/b", "0/members/a"] {
            assert_eq!(member_of(&Key::from(other)), None, "{other}");
        }
    }
}
