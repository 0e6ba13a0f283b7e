//! Medians and worst cases, for people.

use std::{collections::BTreeMap, fmt::Write as _};

use super::StackReport;

/// The steps of a failover, in their order.
const STEPS: [&str; 6] = ["detect", "decide", "fence", "promote", "route", "total"];

/// Outages of one stack after one event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) event: String,
    pub(super) stack: String,
    pub(super) median: u64,
    pub(super) worst: u64,
    pub(super) rounds: usize,
}

/// By event and stack, in the order in which they were measured first.
pub(super) fn cells(reports: &[StackReport]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for report in reports {
        let mut by_event: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for measured in &report.measured {
            by_event.entry(&measured.event).or_default().push(measured.outage_ms);
        }
        for (event, mut outages) in by_event {
            outages.sort_unstable();
            cells.push(Cell {
                event: event.to_owned(),
                stack: report.stack.clone(),
                median: median(&outages),
                worst: outages.last().copied().unwrap_or_default(),
                rounds: outages.len(),
            });
        }
    }
    cells
}

/// The middle of sorted values; of an even number the mean of the two in the middle.
fn median(sorted: &[u64]) -> u64 {
    match sorted.len() {
        0 => 0,
        length if length % 2 == 1 => sorted[length / 2],
        length => u64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// A table with a row per event, and what was lost below it.
pub(super) fn markdown(reports: &[StackReport]) -> String {
    let cells = cells(reports);
    let mut events: Vec<&str> = Vec::new();
    for cell in &cells {
        if !events.contains(&cell.event.as_str()) {
            events.push(&cell.event);
        }
    }
    let mut text = "| event |".to_owned();
    for report in reports {
        let _ = write!(text, " {} |", report.stack);
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(reports.len()));
    for event in events {
        let _ = write!(text, "| {event} |");
        for report in reports {
            let of_both = |cell: &&Cell| cell.event == event && cell.stack == report.stack;
            let _ = match cells.iter().find(of_both) {
                Some(cell) => write!(text, " {} / {} ms ({}) |", cell.median, cell.worst, cell.rounds),
                None => write!(text, " - |"),
            };
        }
        text.push('\n');
    }
    let _ = write!(text, "| acknowledged rows, lost |");
    for report in reports {
        let _ = write!(text, " {}, {} |", report.acknowledged, report.lost);
    }
    text.push_str("\n\nMedian / worst outage of writes (rounds).\n");
    text.push_str(&decomposition(reports));
    text
}

/// Where the time went, for the stacks that tell it: medians of each step.
fn decomposition(reports: &[StackReport]) -> String {
    let mut rows: BTreeMap<(&str, &str), BTreeMap<&str, Vec<u64>>> = BTreeMap::new();
    for report in reports {
        for measured in &report.measured {
            let row = rows.entry((&measured.event, &report.stack)).or_default();
            for (step, &millis) in &measured.steps {
                row.entry(step).or_default().push(millis);
            }
        }
    }
    rows.retain(|_, steps| !steps.is_empty());
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "\n| event | stack |".to_owned();
    for step in STEPS {
        let _ = write!(text, " {step} |");
    }
    let _ = write!(text, "\n|---|---|{}\n", "---|".repeat(STEPS.len()));
    for ((event, stack), mut steps) in rows {
        let _ = write!(text, "| {event} | {stack} |");
        for step in STEPS {
            let _ = match steps.get_mut(step) {
                Some(values) => {
                    values.sort_unstable();
                    write!(text, " {} |", median(values))
                }
                None => write!(text, " - |"),
            };
        }
        text.push('\n');
    }
    text.push_str("\nWhere the time went by the new leader's journal: medians in milliseconds.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Measured;

    fn report(outages: &[u64]) -> StackReport {
        let measured = outages.iter().map(|&outage_ms| Measured {
            event: "power-off".to_owned(),
            outage_ms,
            whole_after_ms: 0,
            leader_changed: true,
            steps: BTreeMap::from([("detect".to_owned(), outage_ms / 2)]),
            load: 0.0,
        });
        StackReport { stack: "bellwether".to_owned(), measured: measured.collect(), ..StackReport::default() }
    }

    #[test]
    fn a_cell_has_the_median_and_the_worst() {
        let of = |outages: &[u64]| {
            let cells = cells(&[report(outages)]);
            (cells[0].median, cells[0].worst, cells[0].rounds)
        };
        assert_eq!(of(&[900, 1_000, 5_000]), (1_000, 5_000, 3));
        assert_eq!(of(&[5_000, 900, 1_000, 1_200]), (1_100, 5_000, 4));
    }

    #[test]
    fn the_table_has_a_row_per_event_and_tells_losses() {
        let text = markdown(&[report(&[900, 1_000, 5_000])]);
        assert!(text.contains("| power-off | 1000 / 5000 ms (3) |"), "{text}");
        assert!(text.contains("| acknowledged rows, lost | 0, 0 |"), "{text}");
        assert!(text.contains("| power-off | bellwether | 500 | - | - | - | - | - |"), "{text}");
    }
}
