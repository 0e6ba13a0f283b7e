//! The part of a story that matters: which of its faults are needed for a promise to be broken.

use crate::{
    bug::Bug,
    scenario::Scenario,
    trace::Verbosity,
    world::{Outcome, World},
};

/// The scenario with as few faults as break the same promise: none of those that are left can be taken out. `None` if it breaks none.
///
/// Each fault that is taken out makes another run, so the promise may be broken in another way than at first.
pub fn shrink(scenario: &Scenario, bug: Bug) -> Option<Scenario> {
    let run = |scenario: &Scenario| World::new(scenario.clone(), bug, Verbosity::Hash).run();
    let broken = |outcome: Outcome| outcome.violation.map(|violation| violation.invariant);
    let promise = broken(run(scenario))?;
    let mut least = scenario.clone();
    loop {
        let smaller = simpler(&least).find(|simpler| broken(run(simpler)) == Some(promise));
        match smaller {
            Some(smaller) => least = smaller,
            None => return Some(least),
        }
    }
}

/// What is left if one thing is taken out. Late faults first: what matters came before the end.
fn simpler(scenario: &Scenario) -> impl Iterator<Item = Scenario> + '_ {
    let without = (0..scenario.faults.len()).rev().map(|index| {
        let mut less = scenario.clone();
        less.faults.remove(index);
        less
    });
    let undisturbed = scenario.founding.is_some().then(|| Scenario { founding: None, ..scenario.clone() });
    without.chain(undisturbed)
}
