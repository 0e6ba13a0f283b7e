//! Where nothing is broken nobody is replaced, however late messages, disks, the store and loops are within the envelope.

use bellwether_sim::{
    Bug, Outcome, Verbosity, calm::Jitter, scenario::Scenario, schedule::SECONDS, world::World,
};

/// Ten minutes of the worst that is promised.
fn play(seed: u64, bug: Bug) -> Outcome {
    let mut scenario = Scenario::draw_calm(seed, bug);
    scenario.jitter = Some(Jitter::WORST);
    scenario.fault_phase = 600 * SECONDS;
    World::new(scenario, bug, Verbosity::Tail).run()
}

#[test]
fn nobody_is_replaced_for_nothing() {
    for seed in 0..12 {
        let outcome = play(seed, Bug::None);
        assert_eq!(outcome.violation, None, "{}\nseed {seed}", outcome.trace.join("\n"));
        assert!(outcome.stats.acknowledged > 50, "seed {seed}: {:?}", outcome.stats);
    }
}

#[track_caller]
fn is_caught(bug: Bug) {
    let broken: Vec<_> = (0..12).filter_map(|seed| Some(play(seed, bug).violation?.invariant)).collect();
    assert!(!broken.is_empty() && broken.iter().all(|promise| *promise == "calm"), "{broken:?}");
}

#[test]
fn a_leader_that_steps_down_at_the_first_sign_of_trouble_is_caught() {
    is_caught(Bug::HastyTrouble);
}

#[test]
fn a_leader_that_believes_in_half_of_its_lease_is_caught() {
    is_caught(Bug::HastyLease);
}
