//! What the client knows: which rows were acknowledged, and how long it had to wait. Pure; the time is handed in.

use std::time::Duration;

use tokio::time::Instant;

/// A gap between two acknowledged writes that a user would notice.
const OUTAGE: Duration = Duration::from_millis(250);

/// A set of row numbers that grows almost without gaps, so it is kept as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// Ascending, not touching; both ends are in.
    ranges: Vec<(i64, i64)>,
}

impl Rows {
    /// Adds a row; numbers only grow.
    fn push(&mut self, row: i64) {
        match self.ranges.last_mut() {
            Some((_, last)) if *last + 1 == row => *last = row,
            _ => self.ranges.push((row, row)),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| (last - first + 1).unsigned_abs()).sum()
    }

    /// Those that are not among `present`, which is ascending.
    pub(super) fn missing_from(&self, present: &[i64]) -> Vec<i64> {
        let mut present = present.iter().copied().peekable();
        let all = self.ranges.iter().flat_map(|&(first, last)| first..=last);
        all.filter(|&row| {
            while present.next_if(|&other| other < row).is_some() {}
            present.peek() != Some(&row)
        })
        .collect()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    acknowledged: Rows,
    /// Sent, but the answer never came: it may be there or not.
    unknown: u64,
    /// Refused: certainly not there.
    refused: u64,
    last: Option<Instant>,
    longest_gap: Duration,
    outages: u64,
    longest_outage: Duration,
}

impl Ledger {
    pub(super) fn acknowledge(&mut self, row: i64, now: Instant) {
        if let Some(last) = self.last {
            let gap = now.duration_since(last);
            self.longest_gap = self.longest_gap.max(gap);
            if gap >= OUTAGE {
                self.outages += 1;
                self.longest_outage = self.longest_outage.max(gap);
            }
        }
        self.acknowledged.push(row);
        self.last = Some(now);
    }

    pub(super) fn lose_sight_of(&mut self) {
        self.unknown += 1;
    }

    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Forgets the longest gap: what comes belongs to another event.
    pub(super) fn begin_event(&mut self) {
        self.longest_gap = Duration::ZERO;
    }

    /// The longest time without an acknowledged write since [`Ledger::begin_event`], the current wait included.
    pub(super) fn longest_gap(&self, now: Instant) -> Duration {
        self.longest_gap.max(self.silence(now))
    }

    /// How long ago the last write was acknowledged.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::ZERO, |last| now.duration_since(last))
    }

    pub(super) fn acknowledged(&self) -> &Rows {
        &self.acknowledged
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// How many outages there were, and the longest.
    pub(super) fn outages(&self) -> (u64, Duration) {
        (self.outages, self.longest_outage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: &[i64]) -> Rows {
        let mut rows = Rows::default();
        numbers.iter().for_each(|&row| rows.push(row));
        rows
    }

    #[test]
    fn a_lost_row_is_found_wherever_it_is() {
        let acknowledged = rows(&[1, 2, 3, 7, 8, 20]);
        assert_eq!(acknowledged.len(), 6);
        // What was not acknowledged may be there.
        assert_eq!(acknowledged.missing_from(&[1, 2, 3, 4, 7, 8, 9, 20, 21]), Vec::<i64>::new());
        assert_eq!(acknowledged.missing_from(&[2, 3, 7, 20]), [1, 8]);
        assert_eq!(acknowledged.missing_from(&[1, 2, 3, 7, 8]), [20]);
        assert_eq!(acknowledged.missing_from(&[]), [1, 2, 3, 7, 8, 20]);
    }

    #[test]
    fn the_outage_of_an_event_is_its_longest_gap_even_if_it_lasts() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut ledger = Ledger::default();
        for (row, millis) in [(1, 0), (2, 10), (3, 910), (4, 920)] {
            ledger.acknowledge(row, at(millis));
        }
        assert_eq!(ledger.longest_gap(at(925)), Duration::from_millis(900));
        assert_eq!(ledger.outages(), (1, Duration::from_millis(900)));
        ledger.begin_event();
        assert_eq!(ledger.longest_gap(at(925)), Duration::from_millis(5));
        assert_eq!(ledger.longest_gap(at(3_920)), Duration::from_millis(3_000), "nothing has come since");
    }
}
