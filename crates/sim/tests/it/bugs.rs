//! Each known bug, put back, is caught within a bounded number of seeds, by the promise that it breaks.

use bellwether_sim::{
    Bug, Verbosity,
    faults::{Fault, Planned},
    run,
    scenario::Scenario,
    schedule::SECONDS,
    world::World,
};

/// The first seed that catches `bug`, and the promise that was broken.
fn caught(bug: Bug, seeds: u64) -> Option<(u64, &'static str)> {
    (0..seeds).find_map(|seed| Some((seed, run(seed, bug, Verbosity::Hash).violation?.invariant)))
}

#[track_caller]
fn bites(bug: Bug, seeds: u64, promises: &[&str]) {
    match caught(bug, seeds) {
        Some((seed, promise)) => assert!(promises.contains(&promise), "seed {seed} broke {promise}"),
        None => panic!("{} was not caught within {seeds} seeds", bug.as_str()),
    }
}

#[test]
fn a_leader_that_takes_silence_for_health_is_caught() {
    bites(Bug::SilenceIsHealth, 20, &["one_writer"]);
}

#[test]
fn a_lease_counted_from_the_answer_is_caught() {
    bites(Bug::LeaseFromAnswer, 1_000, &["one_writer"]);
}

#[test]
fn a_guardian_that_never_got_a_deadline_is_caught() {
    bites(Bug::GuardianNeverArmed, 50, &["one_writer"]);
}

#[test]
fn a_promotion_without_asking_anybody_is_caught() {
    bites(Bug::BlindPromotion, 300, &["no_lost_commit", "no_diverged_promotion", "bounded_loss"]);
}

#[test]
fn following_without_comparing_histories_is_caught() {
    bites(Bug::NoDivergenceCheck, 100, &["heals", "no_diverged_promotion"]);
}

#[test]
fn a_lock_given_up_too_early_is_caught() {
    bites(Bug::EarlyRelease, 50, &["release"]);
}

#[test]
fn names_loosened_before_the_backends_are_gone_are_caught() {
    // One that was taken over from, while its lease lasted, could acknowledge again.
    bites(Bug::NamesLoosenedFirst, 300, &["no_lost_commit", "no_diverged_promotion", "one_writer"]);
}

#[test]
fn names_that_count_before_the_checkpointer_has_read_them_are_caught() {
    bites(Bug::ShownIsInForce, 3_000, &["no_lost_commit"]);
}

#[test]
fn numbers_that_postgresql_chose_alone_are_caught() {
    bites(Bug::NumbersNotTaken, 300, &["one_number"]);
}

#[test]
fn a_restart_that_waits_for_its_stop_without_limit_is_caught() {
    bites(Bug::RestartWithoutLimit, 300, &["bounded"]);
}

/// The operator lowers `ttl` while `leader` is cut off from the store and goes on by failsafe; then nobody hears of it any more.
fn lowered_ttl(seed: u64, leader: usize, bug: Bug) -> Option<&'static str> {
    // Asynchronous, failsafe mode on, a ttl of 30 s.
    let mut scenario = Scenario::draw(seed, Bug::ShortPromise);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    scenario.fault_phase = 130 * SECONDS;
    let planned = |at: u64, lasts: u64, fault| Planned { at: at * SECONDS, lasts: lasts * SECONDS, fault };
    scenario.faults = vec![
        planned(2, 120, Fault::CutBoth { a: leader, b: 3 }),
        planned(3, 120, Fault::ShorterTtl { seconds: 2 }),
        planned(28, 60, Fault::Isolate { host: leader }),
    ];
    Some(World::new(scenario, bug, Verbosity::Hash).run().violation?.invariant)
}

#[test]
fn a_failsafe_promise_that_is_shorter_than_the_belief_in_it_is_caught() {
    // Whoever founded the cluster leads it.
    let runs = || (0..6).flat_map(|seed| (0..3).map(move |leader| (seed, leader)));
    let broken = |bug| runs().filter_map(move |(seed, leader)| lowered_ttl(seed, leader, bug));
    assert_eq!(broken(Bug::None).next(), None);
    assert!(broken(Bug::ShortPromise).any(|promise| promise == "one_writer"));
}

#[test]
fn a_founder_that_forgets_what_it_began_is_caught() {
    bites(Bug::ForgetfulFounder, 50, &["founders", "heals", "exit"]);
}

#[test]
fn a_founder_that_leads_unguarded_is_caught() {
    bites(Bug::UnguardedFounder, 5, &["founders"]);
}

/// The only standby hangs when its leader loses its power.
fn hanging_heir(seed: u64, leader: usize, bug: Bug) -> Option<&'static str> {
    let mut scenario = Scenario::draw(seed, Bug::ShortPromise);
    (scenario.members, scenario.guardian, scenario.founding) = (2, true, None);
    scenario.settings.maximum_lag_on_failover = 1 << 40;
    scenario.fault_phase = 130 * SECONDS;
    let planned = |at: u64, lasts: u64, fault| Planned { at: at * SECONDS, lasts: lasts * SECONDS, fault };
    scenario.faults = vec![
        planned(2, 80, Fault::FreezePostgres { host: 1 - leader }),
        planned(6, 100, Fault::PowerLoss { host: leader }),
    ];
    Some(World::new(scenario, bug, Verbosity::Hash).run().violation?.invariant)
}

#[test]
fn a_hanging_server_that_is_believed_is_caught() {
    let runs = || (0..6).flat_map(|seed| (0..2).map(move |leader| (seed, leader)));
    let broken = |bug| runs().filter_map(move |(seed, leader)| hanging_heir(seed, leader, bug));
    assert_eq!(broken(Bug::None).next(), None);
    assert!(broken(Bug::HungServerBelieved).any(|promise| promise == "fit_winner"));
}

/// The agent of the leader freezes: its PostgreSQL acknowledges until the guardian's deadline. `cut_at`, a moment before it, one standby
/// loses the leader. The other one hears late that the lock is free, so what it published last is from before the cut.
fn late_listener(seed: u64, leader: usize, cut_at: u64, bug: Bug) -> Option<&'static str> {
    let mut scenario = Scenario::draw(seed, Bug::LastTickCounts);
    (scenario.members, scenario.guardian, scenario.founding) = (3, true, None);
    scenario.fault_phase = 130 * SECONDS;
    let (behind, late, store) = ((leader + 1) % 3, (leader + 2) % 3, 3);
    let planned = |at: u64, fault| Planned { at, lasts: 80 * SECONDS, fault };
    scenario.faults = vec![
        planned(10 * SECONDS, Fault::FreezeAgent { host: leader }),
        planned(10 * SECONDS, Fault::Slow { from: store, to: late, by: 3 * SECONDS }),
        planned(10 * SECONDS + cut_at, Fault::CutBoth { a: leader, b: behind }),
    ];
    Some(World::new(scenario, bug, Verbosity::Hash).run().violation?.invariant)
}

#[test]
fn a_vote_counted_by_the_last_tick_is_caught() {
    let broken = |bug| {
        (0..8u64).flat_map(move |seed| {
            (0..3).flat_map(move |leader| {
                (14..28u64).filter_map(move |cut| late_listener(seed, leader, cut * SECONDS, bug))
            })
        })
    };
    assert_eq!(broken(Bug::None).next(), None);
    assert!(broken(Bug::LastTickCounts).any(|promise| promise == "no_lost_commit"));
}
