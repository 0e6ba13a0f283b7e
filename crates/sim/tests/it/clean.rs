//! The core keeps its promises in every world that is tried.

use bellwether_sim::{Bug, Verbosity, run};

/// So many seeds by default; about a minute on one core of a development build. `BELLWETHER_SIM_SEEDS=FROM..TO` chooses others.
const SEEDS: std::ops::Range<u64> = 0..10_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("BELLWETHER_SIM_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("BELLWETHER_SIM_SEEDS is FROM..TO");
    let number = |text: &str| text.parse().expect("BELLWETHER_SIM_SEEDS is FROM..TO, both numbers");
    number(from)..number(to)
}

#[test]
fn no_promise_is_broken_in_any_world() {
    for seed in seeds() {
        let outcome = run(seed, Bug::None, Verbosity::Hash);
        if let Some(violation) = outcome.violation {
            let story = run(seed, Bug::None, Verbosity::Tail).trace.join("\n");
            panic!(
                "{story}\n{}\n{} broken: {}\nrepeat with: cargo run -p bellwether-sim -- --seeds {seed} --trace",
                outcome.scenario.summary(),
                violation.invariant,
                violation.text,
            );
        }
    }
}
