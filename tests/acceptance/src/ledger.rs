//! What a client knows: which rows were acknowledged, and how long it had to wait.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Pure; the time is handed in.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub acknowledged: BTreeSet<i64>,
    /// Statements that ended in an error or not at all: their rows may be there or not.
    pub failed: Vec<String>,
    /// Sessions that were opened.
    pub sessions: u32,
    last: Option<Instant>,
    longest_gap: Duration,
}

impl Ledger {
    pub fn acknowledge(&mut self, row: i64, now: Instant) {
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now.duration_since(last));
        }
        self.acknowledged.insert(row);
        self.last = Some(now);
    }

    /// Forgets the longest gap: what comes belongs to another event.
    pub fn begin_event(&mut self) {
        self.longest_gap = Duration::ZERO;
    }

    /// The longest time without an acknowledged write since [`Ledger::begin_event`], the current wait included.
    pub fn longest_gap(&self, now: Instant) -> Duration {
        self.longest_gap.max(self.last.map_or(Duration::ZERO, |last| now.duration_since(last)))
    }

    /// Acknowledged rows that are not among `present`.
    pub fn missing_from(&self, present: &BTreeSet<i64>) -> Vec<i64> {
        self.acknowledged.difference(present).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_belongs_to_its_event_and_an_acknowledged_row_must_be_there() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut ledger = Ledger::default();
        for (row, millis) in [(1, 0), (2, 900), (3, 910)] {
            ledger.acknowledge(row, at(millis));
        }
        assert_eq!(ledger.longest_gap(at(920)), Duration::from_millis(900));
        ledger.begin_event();
        ledger.acknowledge(4, at(960));
        assert_eq!(ledger.longest_gap(at(970)), Duration::from_millis(50));
        assert_eq!(ledger.longest_gap(at(1_960)), Duration::from_secs(1), "the current wait counts");
        assert_eq!(ledger.missing_from(&BTreeSet::from([1, 3, 4, 9])), [2]);
    }
}
