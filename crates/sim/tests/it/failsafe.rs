//! Failsafe mode, switched off while a leader goes on by it.

use bellwether_sim::{
    Bug, Coverage, Outcome, Verbosity,
    configuration::Change,
    faults::{Fault, Planned},
    scenario::Scenario,
    schedule::SECONDS,
    world::World,
};
use bellwether_types::settings::SyncMode;

/// Two members, of whom `first` is cut off until its key is gone; then the other one, by a list that names it alone. Seed 72012780.
fn left_alone(seed: u64, first: usize) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding) = (2, true, None);
    (scenario.ttl, scenario.settings.ttl) = (20 * SECONDS, std::time::Duration::from_secs(20));
    let settings = &mut scenario.settings;
    (settings.synchronous_mode, settings.quorum_takeover) = (SyncMode::Off, false);
    settings.failsafe_mode = true;
    scenario.fault_phase = 150 * SECONDS;
    let planned = |at: u64, until: u64, fault: Fault| Planned {
        at: at * SECONDS,
        lasts: (until - at) * SECONDS,
        fault,
    };
    scenario.faults = vec![
        planned(20, 70, Fault::Isolate { host: first }),
        planned(65, 140, Fault::Isolate { host: 1 - first }),
        planned(95, 130, Fault::Configure { change: Change::Failsafe { on: false } }),
    ];
    World::new(scenario, Bug::None, Verbosity::Tail).run()
}

#[test]
fn a_leader_that_goes_on_alone_is_not_outvoted_by_an_option() {
    let mut coverage = Coverage::default();
    for seed in 0..4 {
        for first in 0..2 {
            let outcome = left_alone(seed, first);
            assert_eq!(outcome.violation, None, "{}\nseed {seed}, {first}", outcome.trace.join("\n"));
            coverage.merge(&outcome.coverage);
        }
    }
    assert!(coverage.given("continue_by_failsafe") > 0 && coverage.given("not_in_failsafe") > 0);
}
