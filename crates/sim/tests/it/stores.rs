//! Stores whose leases and reads are worth less than those of the embedded one.

use bellwether_sim::{Bug, Verbosity, run, scenario::Scenario, store::StoreKind};

#[test]
fn seeds_reach_every_kind_of_store() {
    for kind in [StoreKind::Embedded, StoreKind::Etcd, StoreKind::Consul, StoreKind::ZooKeeper] {
        let found = (0..200).any(|seed| Scenario::draw(seed, Bug::None).store == kind);
        assert!(found, "{kind:?}");
    }
}

#[test]
fn a_session_that_is_believed_for_as_long_as_it_was_asked_for_is_caught() {
    let caught = (0..1_000).find_map(|seed| run(seed, Bug::AskedTtl, Verbosity::Hash).violation);
    assert_eq!(caught.map(|violation| violation.invariant), Some("one_writer"));
}
