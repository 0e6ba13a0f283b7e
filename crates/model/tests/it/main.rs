//! The protocol holds in small clusters, whatever happens in which order; and the search would notice if it did not.

use bellwether_model::{Bounds, Guard, Protocol, search};

/// From the beginning and, deeper into the story, from where a take-over is on its way.
#[track_caller]
fn holds(case: &str, protocol: &Protocol, at_most: usize) {
    for beginning in [protocol.beginning(), protocol.on_its_way()] {
        let report = search(protocol, beginning, at_most);
        assert_eq!(report.lost_by, None, "{case}");
    }
    let report = search(protocol, protocol.on_its_way(), at_most);
    assert!(report.takeovers > 0, "{case}: nothing is shown by {} states", report.states);
}

#[test]
fn three_members_lose_nothing() {
    holds("three members", &Protocol::of_three(None), 200_000);
}

#[test]
fn three_members_lose_nothing_while_sync_changes() {
    let mut protocol = Protocol::of_three(None);
    protocol.bounds = Bounds { changes_sync: true, ..protocol.bounds };
    holds("three members, /sync changes", &protocol, 200_000);
}

#[test]
fn three_members_lose_nothing_after_the_successor() {
    let mut protocol = Protocol::of_three(None);
    protocol.bounds = Bounds { second_leader: true, ..protocol.bounds };
    holds("three members, a second leader", &protocol, 150_000);
    assert_eq!(search(&protocol, protocol.taken_over(), 200_000).lost_by, None);
}

#[test]
fn five_members_lose_nothing_as_far_as_can_be_seen() {
    holds("five members", &Protocol::of_five(None), 150_000);
}

/// Each guard is needed: without it something is lost.
#[test]
fn without_a_guard_something_is_lost() {
    for guard in Guard::ALL {
        let mut protocol = Protocol::of_three(Some(guard));
        protocol.bounds = Bounds {
            changes_sync: guard == Guard::ComparesSync,
            second_leader: matches!(guard, Guard::ReplacedStops | Guard::ReadsAfterLock),
            crashes: u8::from(guard == Guard::DurablePromise),
            ..protocol.bounds
        };

        let beginning = match guard {
            Guard::ComparesSync | Guard::DurablePromise => protocol.on_its_way(),
            Guard::ReplacedStops | Guard::ReadsAfterLock => protocol.taken_over(),
            _ => protocol.beginning(),
        };
        let report = search(&protocol, beginning, 200_000);
        assert!(report.lost_by.is_some(), "{guard:?} is not missed in {} states", report.states);
    }
}
