//! Seeds that broke a promise once. The model grows, and the same number may tell another story then; what was learnt is held by the tests
//! that are named in the ledger.

use bellwether_sim::{Bug, Verbosity, run};

/// Each with the promise, and what was wrong.
const SEEDS: [(u64, &str); 7] = [
    (70_036_765, "heals: names of voters that had left stayed in force when the mode was switched off"),
    (70_040_983, "take_over: the model looked at a checkpointer once where the agent looks five times"),
    (70_042_599, "release: PostgreSQL froze as it was promoted"),
    (70_044_538, "bounded_loss: who was far behind led by a switchover whose heir had died"),
    (70_046_521, "paused_alone: in pause the model promoted nobody who had a guardian"),
    (70_046_955, "paused_alone: too strict for a start after a copy that was asked for"),
    (72_012_780, "one_writer: failsafe mode was switched off while a leader went on by it"),
];

#[test]
fn what_was_mended_stays_mended() {
    for (seed, was) in SEEDS {
        let outcome = run(seed, Bug::None, Verbosity::Tail);
        let story = outcome.trace.join("\n");
        assert_eq!(outcome.violation, None, "{story}\n{}\n{was}", outcome.scenario.summary());
    }
}
