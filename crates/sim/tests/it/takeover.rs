//! Quorum take-over of an isolated leader, and what happens without its guards.

use bellwether_sim::{
    Bug, Outcome, Verbosity,
    faults::{Fault, Planned},
    run,
    scenario::Scenario,
    schedule::{MILLIS, SECONDS},
    world::World,
};

/// Three members in mode quorum; a fault that hits one of them after ten seconds.
fn story(seed: u64, fault: Fault, bug: Bug) -> Outcome {
    story_at(10 * SECONDS, seed, fault, bug)
}

fn story_at(at: u64, seed: u64, fault: Fault, bug: Bug) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    scenario.settings.primary_start_timeout = std::time::Duration::from_secs(300);
    // Two acknowledgements of two voters would have to wait for a third member that is lost.
    scenario.settings.synchronous_node_count = 1;
    scenario.write_interval = 100 * MILLIS;
    scenario.latency = MILLIS / 4;
    scenario.fault_phase = at + 120 * SECONDS;
    scenario.faults = vec![Planned { at, lasts: 80 * SECONDS, fault }];
    World::new(scenario, bug, Verbosity::Hash).run()
}

#[test]
fn a_leader_that_is_cut_off_from_its_voters_alone_is_replaced_or_goes_on_but_never_both() {
    for seed in 0..6 {
        for host in 0..3 {
            let outcome = story(seed, Fault::Isolate { host }, Bug::None);
            assert_eq!(outcome.violation, None, "seed {seed}, host {host}");
        }
    }
}

#[test]
fn a_leader_whose_power_goes_is_replaced_in_time() {
    let mut replaced = 0;
    for seed in 0..12 {
        for host in 0..3 {
            let outcome = story(seed, Fault::PowerLoss { host }, Bug::None);
            assert_eq!(outcome.violation, None, "seed {seed}, host {host}");
            let took = outcome.stats.takeover_took;
            assert!(
                took < 3 * SECONDS,
                "seed {seed}, host {host}: writes were away for {} ms",
                took / MILLIS
            );
            replaced += outcome.stats.takeovers;
        }
    }
    assert!(replaced >= 10, "in most worlds one of the three hosts leads, and is replaced: {replaced}");
}

#[test]
fn a_take_over_that_never_comes_is_noticed() {
    let seen = (0..12).flat_map(|seed| {
        let lost = move |host| story_at(100 * SECONDS, seed, Fault::PowerLoss { host }, Bug::NobodyPromises);
        (0..3).filter_map(move |host| lost(host).violation)
    });
    let promises: Vec<&str> = seen.map(|violation| violation.invariant).collect();
    assert!(promises.len() >= 8 && promises.iter().all(|promise| *promise == "take_over"), "{promises:?}");
}

/// The first seed that catches `bug`.
#[track_caller]
fn bites(bug: Bug, seeds: u64) {
    let promises = ["no_lost_commit", "no_diverged_promotion", "one_writer", "take_over", "bounded_loss"];
    let caught =
        (0..seeds).find_map(|seed| Some((seed, run(seed, bug, Verbosity::Hash).violation?.invariant)));
    match caught {
        Some((seed, promise)) => assert!(promises.contains(&promise), "seed {seed} broke {promise}"),
        None => panic!("{} was not caught within {seeds} seeds", bug.as_str()),
    }
}

#[test]
fn a_voter_that_promises_and_goes_on_receiving_is_caught() {
    bites(Bug::PromisesAndListens, 1_000);
}

#[test]
fn a_voter_that_forgets_its_promise_is_caught() {
    bites(Bug::ForgetfulVoter, 2_000);
}

#[test]
fn a_voter_that_attaches_again_too_early_is_caught() {
    bites(Bug::WithdrawsEarly, 2_000);
}

#[test]
fn a_take_over_with_one_promise_too_few_is_caught() {
    bites(Bug::OnePromiseLess, 1_000);
}

#[test]
fn a_take_over_by_an_old_sync_is_caught() {
    bites(Bug::TakesOverByOldSync, 2_000);
}
