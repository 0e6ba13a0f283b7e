//! Changes of the configuration and of the members, while much else goes wrong.

use bellwether_sim::{
    Bug, Outcome, Verbosity,
    configuration::Change,
    faults::{Fault, Planned},
    membership::Tag,
    run,
    scenario::Scenario,
    schedule::SECONDS,
    world::World,
};
use bellwether_types::settings::SyncMode;

/// Some seed breaks one of these promises.
#[track_caller]
fn bites(bug: Bug, seeds: u64, promises: &[&str]) {
    let is_caught = |seed| {
        run(seed, bug, Verbosity::Hash).violation.is_some_and(|broken| promises.contains(&broken.invariant))
    };
    assert!((0..seeds).any(is_caught), "{} was not caught within {seeds} seeds", bug.as_str());
}

#[test]
fn a_member_that_does_not_read_its_tags_is_caught() {
    bites(Bug::TagsUnread, 500, &["fit_winner"]);
}

/// A voter is cut off from the leader; before `/sync` can tell, leader and other voter lose power, and somebody changes the mode while nobody leads.
/// What was acknowledged meanwhile is with the two.
fn mode_changes_while_nobody_leads(bug: Bug) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for (seed, leads, behind) in
        (0..6).flat_map(|seed| (0..6).map(move |turn| (seed, turn / 2, (turn / 2 + 1 + turn % 2) % 3)))
    {
        let other = 3 - leads - behind;
        let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
        (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
        let settings = &mut scenario.settings;
        (settings.synchronous_mode, settings.synchronous_node_count) = (SyncMode::Quorum, 1);
        (settings.quorum_takeover, settings.failsafe_mode) = (false, false);
        scenario.fault_phase = 120 * SECONDS;
        scenario.write_interval = SECONDS / 50;
        let at = |tenths: u64, fault| Planned { at: tenths * SECONDS / 10, lasts: 60 * SECONDS, fault };
        scenario.faults = vec![
            at(200, Fault::CutBoth { a: leads, b: behind }),
            at(202, Fault::PowerLoss { host: leads }),
            at(202, Fault::PowerLoss { host: other }),
            at(220, Fault::Configure { change: Change::SyncMode { mode: SyncMode::On, strict: true } }),
        ];
        let outcome = World::new(scenario, bug, Verbosity::Tail).run();
        broken.extend(outcome.violation.map(|broken| broken.invariant));
    }
    broken
}

#[test]
fn votes_that_are_left_out_after_a_change_of_the_mode_are_caught() {
    assert_eq!(mode_changes_while_nobody_leads(Bug::None), [""; 0]);
    let broken = mode_changes_while_nobody_leads(Bug::VotesByMode);
    assert!(broken.contains(&"no_lost_commit"), "{broken:?}");
}

/// Three members, and what is planned for them.
fn play(seed: u64, faults: Vec<Planned>) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    scenario.fault_phase = 120 * SECONDS;
    scenario.faults = faults;
    World::new(scenario, Bug::None, Verbosity::Tail).run()
}

fn planned(at: u64, lasts: u64, fault: Fault) -> Planned {
    Planned { at: at * SECONDS, lasts: lasts * SECONDS, fault }
}

#[test]
fn members_that_leave_come_back_empty_or_are_copied_anew_lose_nothing() {
    for seed in 0..6 {
        for host in 0..3 {
            for fault in [
                Fault::Leaves { host },
                Fault::LosesDisk { host },
                Fault::Reinitialize { host, force: true, from_leader: false },
            ] {
                let other = (host + 1) % 3;
                let faults = vec![
                    planned(10, 100, Fault::Retag { host: other, tag: Tag::CloneFrom }),
                    planned(20, 10, fault.clone()),
                    planned(22, 40, Fault::PowerLoss { host: (host + 2) % 3 }),
                ];
                let outcome = play(seed, faults);
                let story = || outcome.trace.join("\n");
                assert_eq!(outcome.violation, None, "{}\nseed {seed}, {fault:?}", story());
            }
        }
    }
}

/// A voter loses its disk while its leader can reach nobody, and another standby, which lags, offers itself to be copied.
fn copied_while_cut_off(seed: u64, leader: usize, bug: Bug) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    (scenario.ttl, scenario.settings.ttl) = (30 * SECONDS, std::time::Duration::from_secs(30));
    (scenario.settings.failsafe_mode, scenario.settings.quorum_takeover) = (false, false);
    (scenario.settings.synchronous_node_count, scenario.write_interval) = (1, SECONDS / 5);
    scenario.wal_timeout = 8 * SECONDS;
    scenario.fault_phase = 120 * SECONDS;
    let (loses, lags, store) = ((leader + 1) % 3, (leader + 2) % 3, 3);
    scenario.faults = vec![
        planned(2, 100, Fault::Retag { host: lags, tag: Tag::CloneFrom }),
        planned(20, 80, Fault::CutBoth { a: leader, b: lags }),
        planned(22, 80, Fault::CutBoth { a: leader, b: store }),
        planned(24, 80, Fault::CutBoth { a: leader, b: loses }),
        planned(25, 1, Fault::LosesDisk { host: loses }),
    ];
    World::new(scenario, bug, Verbosity::Tail).run()
}

#[test]
fn a_voter_without_data_that_copies_anybody_is_caught() {
    let stories = || (0..6).flat_map(|seed| (0..3).map(move |leader| (seed, leader)));
    for (seed, leader) in stories() {
        let outcome = copied_while_cut_off(seed, leader, Bug::None);
        assert_eq!(outcome.violation, None, "{}\nseed {seed}, leader {leader}", outcome.trace.join("\n"));
    }
    let caught = stories().filter_map(|(seed, leader)| {
        Some(copied_while_cut_off(seed, leader, Bug::CopiesAnybody).violation?.invariant)
    });
    let caught: Vec<_> = caught.collect();
    assert!(caught.contains(&"no_lost_commit"), "{caught:?}");
}

/// Two of two voters confirm each commit, then one of two shall be enough; one of them loses its leader, and is alone soon after.
fn lowered_count(seed: u64, leader: usize, bug: Bug) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    (scenario.settings.failsafe_mode, scenario.settings.quorum_takeover) = (false, false);
    (scenario.settings.synchronous_node_count, scenario.write_interval) = (2, SECONDS / 5);
    scenario.settings.primary_start_timeout = std::time::Duration::from_secs(300);
    scenario.wal_timeout = 8 * SECONDS;
    scenario.fault_phase = 140 * SECONDS;
    let (lags, other) = ((leader + 1) % 3, (leader + 2) % 3);
    scenario.faults = vec![
        planned(20, 110, Fault::Configure { change: Change::NodeCount { count: 1 } }),
        planned(24, 90, Fault::CutBoth { a: leader, b: lags }),
        planned(27, 90, Fault::PowerLoss { host: leader }),
        planned(27, 90, Fault::PowerLoss { host: other }),
    ];
    World::new(scenario, bug, Verbosity::Tail).run()
}

#[test]
fn a_lower_count_that_takes_effect_too_early_is_caught() {
    let stories = || (0..6).flat_map(|seed| (0..3).map(move |leader| (seed, leader)));
    for (seed, leader) in stories() {
        let outcome = lowered_count(seed, leader, Bug::None);
        assert_eq!(outcome.violation, None, "{}\nseed {seed}, leader {leader}", outcome.trace.join("\n"));
    }
    let broken = |(seed, leader)| lowered_count(seed, leader, Bug::CountBeforeSync).violation;
    let caught: Vec<_> = stories().filter_map(broken).map(|violation| violation.invariant).collect();
    assert!(caught.contains(&"no_lost_commit"), "{caught:?}");
}
