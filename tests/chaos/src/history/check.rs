//! Proves from a history and the lists at its end that the cluster behaved as one server does.
//!
//! Lists that only grow by distinct numbers tell their own past: what was appended, in which order. So linearizability per list
//! needs no search. With the final list given, it holds exactly if
//!
//! 1. every number in it was asked for, and is in it once;
//! 2. every list that was told is a beginning of the final one;
//! 3. an acknowledged append ends with its own number, and so is in the final list;
//! 4. of two operations, one ended before the other began, the later never saw less (and, being an append, saw more);
//! 5. nothing was seen before it was asked for;
//! 6. a refused append is not in the final list.
//!
//! Besides, across all lists: once a commit was acknowledged on a timeline, none that began later was acknowledged on an older one.
//! Plain reads are judged apart: one that saw too little is *stale*, not wrong, since a deposed primary may answer reads until its
//! lease ends.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Kind, Operation, Outcome};

/// The lists at the end, by key.
pub type Final = BTreeMap<i64, Vec<i64>>;

/// What was wrong, with what a person needs to find it in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// An acknowledged append is not there.
    Lost { key: i64, number: i64, host: String, ended: u64 },
    /// A refused append is there.
    RefusedButDone { key: i64, number: i64 },
    /// A number that nobody asked for, or that is there twice.
    Invented { key: i64, number: i64 },
    /// A list was told that is no beginning of the final one.
    OtherPast { key: i64, host: String, began: u64 },
    /// An append saw less than was acknowledged before it began.
    SawTooLittle { key: i64, host: String, began: u64, saw: usize, must_see: usize },
    /// Something was seen before it was asked for.
    SawTheFuture { key: i64, host: String, ended: u64, number: i64 },
    /// A commit was acknowledged on an older timeline than one that was acknowledged before it began.
    TwoPrimaries { host: String, began: u64, timeline: u32, newest: u32 },
}

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub appends: usize,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub reads: usize,
    /// Reads that saw too little, and the oldest of them: by how many microseconds it was late.
    pub stale_reads: usize,
    pub stalest_micros: u64,
    pub findings: Vec<Finding>,
}

/// Checks the whole history.
pub fn check(history: &[Operation], end: &Final) -> Verdict {
    let mut verdict = count(history);
    let keys: BTreeSet<i64> = history.iter().map(|operation| operation.key).collect();
    for key in keys {
        let of_key: Vec<&Operation> = history.iter().filter(|operation| operation.key == key).collect();
        let list = end.get(&key).map_or(&[][..], Vec::as_slice);
        check_numbers(key, &of_key, list, &mut verdict);
        check_views(key, &of_key, list, &mut verdict);
        check_order(key, &of_key, &mut verdict);
    }
    check_timelines(history, &mut verdict);
    verdict
}

fn count(history: &[Operation]) -> Verdict {
    let mut verdict = Verdict::default();
    for operation in history {
        match (operation.kind, &operation.outcome) {
            (Kind::Append(_), outcome) => {
                verdict.appends += 1;
                match outcome {
                    Outcome::Done { .. } => verdict.acknowledged += 1,
                    Outcome::Refused(_) => verdict.refused += 1,
                    Outcome::Unknown(_) => verdict.unknown += 1,
                }
            }
            (Kind::Read, Outcome::Done { .. }) => verdict.reads += 1,
            (Kind::Read, _) => {}
        }
    }
    verdict
}

/// Rules 1, 3 and 6: who is in the final list.
fn check_numbers(key: i64, history: &[&Operation], list: &[i64], verdict: &mut Verdict) {
    let present: BTreeSet<i64> = list.iter().copied().collect();
    let mut asked_for = BTreeSet::new();
    for operation in history {
        let Kind::Append(number) = operation.kind else { continue };
        asked_for.insert(number);
        match &operation.outcome {
            Outcome::Done { list: told, .. }
                if told.last() != Some(&number) || !present.contains(&number) =>
            {
                let (host, ended) = (operation.host.clone(), operation.ended);
                verdict.findings.push(Finding::Lost { key, number, host, ended });
            }
            Outcome::Refused(_) if present.contains(&number) => {
                verdict.findings.push(Finding::RefusedButDone { key, number });
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    for &number in list {
        if !seen.insert(number) || !asked_for.contains(&number) {
            verdict.findings.push(Finding::Invented { key, number });
        }
    }
}

/// Rules 2 and 5: each told list alone.
fn check_views(key: i64, history: &[&Operation], list: &[i64], verdict: &mut Verdict) {
    let asked: BTreeMap<i64, u64> = history
        .iter()
        .filter_map(|operation| match operation.kind {
            Kind::Append(number) => Some((number, operation.began)),
            Kind::Read => None,
        })
        .collect();
    for operation in history {
        let Some(told) = operation.list() else { continue };
        let host = operation.host.clone();
        if !list.starts_with(told) {
            verdict.findings.push(Finding::OtherPast { key, host, began: operation.began });
            continue;
        }
        let too_early = |number: &&i64| asked.get(*number).is_some_and(|&began| began > operation.ended);
        if let Some(&number) = told.iter().find(too_early) {
            verdict.findings.push(Finding::SawTheFuture { key, host, ended: operation.ended, number });
        }
    }
}

/// Rule 4: what ended before another began was seen by it.
fn check_order(key: i64, history: &[&Operation], verdict: &mut Verdict) {
    let mut by_end: Vec<&&Operation> =
        history.iter().filter(|operation| operation.list().is_some()).collect();
    by_end.sort_by_key(|operation| operation.ended);
    let mut by_beginning = by_end.clone();
    by_beginning.sort_by_key(|operation| operation.began);
    let (mut ended, mut must_see, mut since) = (0, 0, 0);
    for operation in by_beginning {
        while let Some(earlier) = by_end.get(ended).filter(|earlier| earlier.ended < operation.began) {
            let saw = earlier.list().map_or(0, <[i64]>::len);
            if saw > must_see {
                (must_see, since) = (saw, earlier.ended);
            }
            ended += 1;
        }
        let saw = operation.list().map_or(0, <[i64]>::len);
        match operation.kind {
            Kind::Read if saw < must_see => {
                verdict.stale_reads += 1;
                verdict.stalest_micros = verdict.stalest_micros.max(operation.began - since);
            }
            Kind::Append(_) if saw <= must_see => {
                let (host, began) = (operation.host.clone(), operation.began);
                verdict.findings.push(Finding::SawTooLittle { key, host, began, saw, must_see });
            }
            _ => {}
        }
    }
}

/// The timelines of acknowledged commits never go back.
fn check_timelines(history: &[Operation], verdict: &mut Verdict) {
    let commits = history.iter().filter(|operation| matches!(operation.kind, Kind::Append(_)));
    let mut by_end: Vec<(&Operation, u32)> = commits
        .filter_map(|operation| match operation.outcome {
            Outcome::Done { timeline, .. } => Some((operation, timeline)),
            _ => None,
        })
        .collect();
    let mut by_beginning = by_end.clone();
    by_end.sort_by_key(|(operation, _)| operation.ended);
    by_beginning.sort_by_key(|(operation, _)| operation.began);
    let (mut ended, mut newest) = (0, 0);
    for (operation, timeline) in by_beginning {
        while let Some((_, earlier)) =
            by_end.get(ended).filter(|(earlier, _)| earlier.ended < operation.began)
        {
            newest = newest.max(*earlier);
            ended += 1;
        }
        if timeline < newest {
            let (host, began) = (operation.host.clone(), operation.began);
            verdict.findings.push(Finding::TwoPrimaries { host, began, timeline, newest });
        }
    }
}

#[cfg(test)]
mod tests;
