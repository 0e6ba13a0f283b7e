//! Members that say, or are taken to have, what they lack.

use bellwether_sim::{
    Bug, Verbosity,
    faults::{Fault, Planned},
    invariant::Violation,
    scenario::Scenario,
    schedule::SECONDS,
    world::World,
};
use bellwether_types::settings::SyncMode;

fn planned(at: u64, lasts: u64, fault: Fault) -> Planned {
    Planned { at: at * SECONDS, lasts: lasts * SECONDS, fault }
}

/// Three members, one confirmation for each commit, plainly.
fn play(seed: u64, mode: SyncMode, faults: Vec<Planned>, bug: Bug) -> Option<Violation> {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    (scenario.ttl, scenario.settings.ttl) = (10 * SECONDS, std::time::Duration::from_secs(10));
    let settings = &mut scenario.settings;
    (settings.failsafe_mode, settings.quorum_takeover) = (false, false);
    (settings.synchronous_mode, settings.synchronous_mode_strict) = (mode, false);
    settings.synchronous_node_count = 1;
    settings.primary_start_timeout = std::time::Duration::from_secs(300);
    scenario.write_interval = SECONDS / 5;
    scenario.wal_timeout = 8 * SECONDS;
    scenario.fault_phase = 140 * SECONDS;
    scenario.faults = faults;
    World::new(scenario, bug, Verbosity::Hash).run().violation
}

/// Whoever founded the cluster leads it, and either of the others may be the one that lags.
fn stories() -> impl Iterator<Item = (u64, usize, usize)> {
    (0..6).flat_map(|seed| {
        (0..3).flat_map(move |leader| (1..3).map(move |by| (seed, leader, (leader + by) % 3)))
    })
}

#[track_caller]
fn bites(bug: Bug, story: impl Fn(u64, usize, usize, Bug) -> Option<Violation>) {
    for (seed, leader, lags) in stories() {
        let broken = story(seed, leader, lags, Bug::None);
        assert_eq!(broken, None, "seed {seed}, leader {leader}, {lags} lags");
    }
    let broken = stories().filter_map(|(seed, leader, lags)| story(seed, leader, lags, bug));
    let caught: Vec<_> = broken.map(|violation| violation.invariant).collect();
    assert!(caught.contains(&"no_lost_commit"), "{caught:?}");
}

/// One voter is cut off from the leader, the other one confirms alone; then the leader is gone, and that one has lost its disk.
fn a_voter_lost_its_disk(seed: u64, leader: usize, lags: usize, bug: Bug) -> Option<Violation> {
    let other = 3 - leader - lags;
    let faults = vec![
        planned(20, 100, Fault::CutBoth { a: leader, b: lags }),
        planned(24, 100, Fault::PowerLoss { host: leader }),
        planned(24, 1, Fault::LosesDisk { host: other }),
    ];
    play(seed, SyncMode::Quorum, faults, bug)
}

#[test]
fn a_voter_that_votes_without_its_data_is_caught() {
    bites(Bug::VoterWithoutData, a_voter_lost_its_disk);
}

/// The cluster follows another one for a while. Both members that have everything are away when it is its own again, and the third one, which
/// lags, has come to lead meanwhile: nobody elects the leader of a standby cluster.
fn led_while_following(seed: u64, leader: usize, lags: usize, bug: Bug) -> Option<Violation> {
    let other = 3 - leader - lags;
    let faults = vec![
        planned(18, 40, Fault::CutBoth { a: leader, b: lags }),
        planned(24, 50, Fault::FollowAnother),
        planned(32, 90, Fault::PowerLoss { host: leader }),
        planned(32, 90, Fault::PowerLoss { host: other }),
    ];
    play(seed, SyncMode::Quorum, faults, bug)
}

#[test]
fn a_leader_of_a_standby_cluster_that_is_promoted_without_an_election_is_caught() {
    bites(Bug::LedWithoutElection, led_while_following);
}
