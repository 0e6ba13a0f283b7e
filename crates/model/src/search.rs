//! Breadth first through everything that can happen, so that the first loss that is found has the shortest story.
//!
//! A state is remembered by a hash of 64 bits: with ten million states the chance that two were taken for one is one in four hundred thousand.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use crate::{Protocol, Step, state::State};

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub states: usize,
    /// There are no others.
    pub is_whole: bool,
    /// The shortest way from where it began to a state in which something acknowledged is lost.
    pub lost_by: Option<Vec<Step>>,
    /// States in which somebody had taken over from a primary that still ran. Without any, nothing is shown.
    pub takeovers: usize,
}

/// Looks at all states that can follow `beginning`, or at so many.
pub fn search(protocol: &Protocol, beginning: State, at_most: usize) -> Report {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::from([hasher.hash_one(beginning)]);
    // How each state was reached: from which one, by which step.
    let mut origins: Vec<(usize, Step)> = vec![(0, Step::Commit)];
    let mut open: VecDeque<(usize, State)> = VecDeque::from([(0, beginning)]);
    let mut report = Report { states: 1, ..Report::default() };
    while let Some((index, state)) = open.pop_front() {
        for step in protocol.steps(&state) {
            let Some(next) = protocol.after(&state, step) else { continue };
            if !seen.insert(hasher.hash_one(next)) {
                continue;
            }
            origins.push((index, step));
            let at = origins.len() - 1;
            report.states += 1;
            report.takeovers += usize::from(next.is_take_over_from_the_living());
            if !protocol.holds(&next) {
                report.lost_by = Some(story(&origins, at));
                return report;
            }
            if report.states >= at_most {
                return report;
            }
            open.push_back((at, next));
        }
    }
    report.is_whole = true;
    report
}

fn story(origins: &[(usize, Step)], end: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = end;
    while at != 0 {
        let (from, step) = origins[at];
        steps.push(step);
        at = from;
    }
    steps.reverse();
    steps
}
