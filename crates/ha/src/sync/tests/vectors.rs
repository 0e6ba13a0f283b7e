//! The resolver's table, as the specification has it: situation, then steps.

use std::collections::BTreeSet;

use crate::sync::{
    overlap::{Acknowledging, Electorate},
    resolver::{Situation, Step, resolve},
};

/// `bcd` is the set of b, c and d; `-` is nobody.
fn set(names: &str) -> BTreeSet<String> {
    names.chars().filter(|&c| c != '-').map(|c| c.to_string()).collect()
}

/// `S1bc` sets the names, `Q1bc` writes `/sync`, `R` is a restart.
fn show(steps: &[Step]) -> String {
    let join = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<String>();
    let show = |step: &Step| match step {
        Step::Electorate(e) => format!("Q{}{}@{}", e.quorum, join(&e.voters), e.leader),
        Step::Acknowledging(a) => format!("S{}{}", a.count, join(&a.names)),
        Step::Restart => "R".to_owned(),
    };
    steps.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Situation, recorded leader, `/sync`, names, confirmed, active, wanted, me, steps.
type Case = (
    &'static str,
    &'static str,
    (usize, &'static str),
    (usize, &'static str),
    usize,
    &'static str,
    usize,
    &'static str,
    &'static str,
);

const CASES: [Case; 20] = [
    ("first replica appears", "a", (0, "-"), (0, "-"), 0, "b", 1, "a", "S1b R"),
    ("names set, not caught up", "a", (0, "-"), (1, "b"), 0, "b", 1, "a", "R"),
    ("caught up", "a", (0, "-"), (1, "b"), 1, "b", 1, "a", "Q0b@a"),
    ("two at once", "a", (0, "-"), (0, "-"), 0, "bc", 1, "a", "S1bc R"),
    ("one of two caught up", "a", (0, "-"), (1, "bc"), 1, "bc", 1, "a", "Q1bc@a"),
    ("second joins", "a", (0, "b"), (1, "b"), 1, "bc", 1, "a", "Q1bc@a S1bc"),
    ("two join, count raised to 2", "a", (0, "b"), (1, "b"), 1, "bcd", 2, "a", "S2bc Q2bcd@a S2bcd"),
    ("1 of 3 lost, count 1", "a", (2, "bcd"), (1, "bcd"), 3, "bc", 1, "a", "S1bc Q1bc@a"),
    ("1 of 3 lost, count 2", "a", (1, "bcd"), (2, "bcd"), 3, "bc", 2, "a", "S2bc Q0bc@a"),
    ("1 of 2 lost, count 2", "a", (0, "bc"), (2, "bc"), 2, "b", 2, "a", "Q0b@a S1b"),
    ("last one lost", "a", (0, "b"), (1, "b"), 0, "-", 1, "a", "Q0@a S0"),
    ("count 1 to 2", "a", (1, "bc"), (1, "bc"), 2, "bc", 2, "a", "S2bc Q0bc@a"),
    ("count 1 to 2, one lagging", "a", (1, "bc"), (1, "bc"), 1, "bc", 2, "a", "S2bc"),
    ("count 2 to 1", "a", (0, "bc"), (2, "bc"), 2, "bc", 1, "a", "Q1bc@a S1bc"),
    ("b promoted, nobody connected", "a", (1, "bc"), (1, "ac"), 0, "-", 1, "b", "Q1ac@b"),
    ("b promoted, names empty", "a", (1, "bc"), (0, "-"), 0, "-", 1, "b", "S1ac Q1ac@b"),
    ("b promoted, c connected", "a", (1, "bc"), (1, "ac"), 0, "c", 1, "b", "Q1ac@b S1c Q0c@b"),
    ("names ran ahead of voters", "a", (0, "b"), (1, "bc"), 1, "bc", 1, "a", "Q1bc@a"),
    ("voters ran ahead", "a", (1, "bc"), (1, "b"), 1, "bc", 1, "a", "S1bc"),
    ("names reset by hand", "a", (1, "bc"), (0, "-"), 0, "bc", 1, "a", "Q0@a S1bc R"),
];

#[test]
fn the_resolver_takes_the_steps_of_the_table() {
    for (case, recorded, (quorum, voters), (count, names), confirmed, active, wanted, me, steps) in CASES {
        let situation = Situation {
            electorate: Electorate { leader: recorded.to_owned(), quorum, voters: set(voters) },
            acknowledging: Acknowledging { count, names: set(names) },
            confirmed,
            active: set(active),
            wanted,
            leader: me.to_owned(),
        };
        assert_eq!(show(&resolve(&situation)), steps, "{case}");
    }
}
