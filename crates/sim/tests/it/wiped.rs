//! A store that loses everything under a cluster to which nothing else happens, and under one whose leader or another member is lost with it.

use bellwether_sim::{
    Bug, Outcome, Verbosity,
    faults::{Fault, Planned},
    scenario::Scenario,
    schedule::SECONDS,
    store::StoreKind,
    trouble::keys::LostKey,
    world::World,
};

/// All keys go after ten seconds.
fn wiped(seed: u64, also: impl FnOnce(&Scenario) -> Vec<Planned>) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::None);
    (scenario.founding, scenario.patroni, scenario.guardian) = (None, None, true);
    (scenario.restores, scenario.same_backup) = (false, false);
    scenario.settings.standby_cluster = None;
    // A store that shows nothing late: where the refusal of a renewal comes before the empty store is seen, the leader stops at once.
    scenario.store = StoreKind::Embedded;
    scenario.fault_phase = 120 * SECONDS;
    scenario.faults = also(&scenario);
    let fault = Fault::KeyGone { key: LostKey::All };
    scenario.faults.push(Planned { at: 10 * SECONDS, lasts: 0, fault });
    scenario.faults.sort_by_key(|planned| planned.at);
    let outcome = World::new(scenario, Bug::None, Verbosity::Tail).run();
    assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
    outcome
}

#[test]
fn the_leader_writes_its_keys_anew_and_nobody_is_promoted() {
    for seed in 0..60 {
        let outcome = wiped(seed, |_| Vec::new());
        assert_eq!(outcome.stats.promotions, 0, "seed {seed}");
        assert_eq!(outcome.stats.operator_failovers, 0, "seed {seed}");
        assert!(outcome.coverage.given("restoring_keys") > 0, "seed {seed}");
    }
}

#[test]
fn where_somebody_is_lost_with_the_keys_people_decide_and_nothing_forks() {
    for seed in 0..120 {
        let host = usize::try_from(seed % 2).unwrap();
        wiped(seed, |_| {
            vec![Planned { at: 9 * SECONDS, lasts: 60 * SECONDS, fault: Fault::PowerLoss { host } }]
        });
    }
}
