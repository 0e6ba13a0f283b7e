use bellwether_sim::{Bug, Verbosity, run, scenario::Scenario, shrink, world::World};

#[test]
fn a_seed_run_twice_is_the_same_run() {
    for seed in 0..40 {
        let (first, second) = (run(seed, Bug::None, Verbosity::Hash), run(seed, Bug::None, Verbosity::Hash));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.stats, second.stats, "seed {seed}");
    }
}

#[test]
fn watching_a_run_does_not_change_it() {
    for seed in 0..10 {
        let quiet = run(seed, Bug::None, Verbosity::Hash);
        let told = run(seed, Bug::None, Verbosity::Everything);
        assert_eq!(quiet.hash, told.hash, "seed {seed}");
        assert!(quiet.trace.is_empty() && told.trace.len() > 50, "seed {seed}");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let hashes: std::collections::BTreeSet<u64> =
        (0..40).map(|seed| run(seed, Bug::None, Verbosity::Hash).hash).collect();
    assert_eq!(hashes.len(), 40);
}

#[test]
fn seeds_reach_every_mode_and_much_goes_wrong() {
    let outcomes: Vec<_> = (0..200).map(|seed| run(seed, Bug::None, Verbosity::Hash)).collect();
    let modes: std::collections::BTreeSet<String> =
        outcomes.iter().map(|outcome| format!("{:?}", outcome.scenario.settings.synchronous_mode)).collect();
    assert_eq!(modes.len(), 3, "{modes:?}");
    let sum = |what: fn(&bellwether_sim::Stats) -> u64| {
        outcomes.iter().map(|outcome| what(&outcome.stats)).sum::<u64>()
    };
    for (what, count) in [
        ("acknowledged writes", sum(|stats| stats.acknowledged)),
        ("promotions", sum(|stats| stats.promotions)),
        ("rewinds", sum(|stats| stats.rewinds)),
        ("copies", sum(|stats| stats.clones)),
        ("guardian kills", sum(|stats| stats.guardian_kills)),
        ("answered requests", sum(|stats| stats.requests_accepted)),
    ] {
        assert!(count > 5, "hardly any {what}: {count}");
    }
}

#[test]
fn a_story_is_told_with_the_faults_that_it_needs_and_no_others() {
    let bug = Bug::SilenceIsHealth;
    let broken = |scenario: &Scenario| World::new(scenario.clone(), bug, Verbosity::Hash).run().violation;
    let (seed, promise) = (0..20)
        .find_map(|seed| Some((seed, run(seed, bug, Verbosity::Hash).violation?.invariant)))
        .expect("a seed that catches it");
    let whole = Scenario::draw(seed, bug);
    let least = shrink(&whole, bug).expect("it breaks a promise");
    assert!(least.faults.len() < whole.faults.len(), "of {} faults all are needed?", whole.faults.len());
    assert_eq!(broken(&least).map(|violation| violation.invariant), Some(promise));
    for index in 0..least.faults.len() {
        let mut less = least.clone();
        less.faults.remove(index);
        assert_ne!(
            broken(&less).map(|violation| violation.invariant),
            Some(promise),
            "{index} is not needed"
        );
    }
    assert!(shrink(&whole, Bug::None).is_none(), "without the bug there is nothing to tell");
}
