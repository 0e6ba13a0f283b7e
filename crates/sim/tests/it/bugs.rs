//! Each known bug, put back, is caught within a bounded number of seeds, by the promise that it breaks.

use bellwether_sim::{Bug, Verbosity, run};

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
    bites(Bug::NamesLoosenedFirst, 300, &["no_lost_commit", "no_diverged_promotion"]);
}

#[test]
fn names_that_count_before_the_checkpointer_has_read_them_are_caught() {
    bites(Bug::ShownIsInForce, 1_000, &["no_lost_commit"]);
}

#[test]
fn numbers_that_postgresql_chose_alone_are_caught() {
    bites(Bug::NumbersNotTaken, 300, &["one_number"]);
}

#[test]
fn a_restart_that_waits_for_its_stop_without_limit_is_caught() {
    bites(Bug::RestartWithoutLimit, 300, &["bounded"]);
}
