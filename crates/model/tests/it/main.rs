//! The protocol holds in small clusters, whatever happens in which order; and the search would notice if it did not.

use bellwether_model::{Bounds, Guard, Protocol, search};

/// Searches all states, or so many.
#[track_caller]
fn holds(case: &str, protocol: &Protocol, at_most: usize) {
    let report = search(protocol, at_most);
    assert_eq!(report.lost_by, None, "{case}");
    assert!(report.takeovers > 0, "{case}: nothing is shown by {} states", report.states);
}

#[test]
fn three_members_lose_nothing() {
    let protocol = Protocol::of_three(None);
    let report = search(&protocol, 4_000_000);
    assert_eq!(report.lost_by, None);
    assert!(report.takeovers > 0);
}

#[test]
fn three_members_lose_nothing_while_sync_changes() {
    let mut protocol = Protocol::of_three(None);
    protocol.bounds = Bounds { changes_sync: true, crashes: 0, writes: 1, ..protocol.bounds };
    holds("three members, /sync changes", &protocol, 2_000_000);
}

#[test]
fn three_members_lose_nothing_after_the_successor() {
    let mut protocol = Protocol::of_three(None);
    protocol.bounds = Bounds { second_leader: true, crashes: 0, writes: 1, ..protocol.bounds };
    holds("three members, a second leader", &protocol, 2_000_000);
}

#[test]
fn five_members_lose_nothing_as_far_as_can_be_seen() {
    // A take-over lies further away than so many states reach.
    let report = search(&Protocol::of_five(None), 1_000_000);
    assert_eq!(report.lost_by, None);
}

/// Each guard is needed: without it something is lost.
#[test]
fn without_a_guard_something_is_lost() {
    for guard in Guard::ALL {
        let mut protocol = Protocol::of_three(Some(guard));
        protocol.bounds = match guard {
            Guard::ComparesSync => Bounds { changes_sync: true, crashes: 0, writes: 1, ..protocol.bounds },
            Guard::ReplacedStops => Bounds { second_leader: true, crashes: 0, writes: 1, ..protocol.bounds },
            Guard::DurablePromise => protocol.bounds,
            _ => Bounds { crashes: 0, ..protocol.bounds },
        };
        let report = search(&protocol, 6_000_000);
        assert!(report.lost_by.is_some(), "{guard:?} is not missed in {} states", report.states);
    }
}
