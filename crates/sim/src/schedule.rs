//! Virtual time and what is going to happen: a heap ordered by time and, for equal times, by the order of scheduling.

use std::{cmp::Ordering, collections::BinaryHeap};

/// An instant or a length of virtual time, in nanoseconds since the world began.
pub type Nanos = u64;

pub const MICROS: Nanos = 1_000;
pub const MILLIS: Nanos = 1_000_000;
pub const SECONDS: Nanos = 1_000_000_000;

/// What happens next.
#[derive(Debug)]
pub struct Schedule<E> {
    heap: BinaryHeap<Entry<E>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    sequence: u64,
    event: E,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Schedule<E> {
    pub fn push(&mut self, at: Nanos, event: E) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    /// The earliest event, with its time and its number.
    pub fn pop(&mut self) -> Option<(Nanos, u64, E)> {
        self.heap.pop().map(|entry| (entry.at, entry.sequence, entry.event))
    }
}

// The heap gives the greatest first, so the order is reversed: earlier is greater.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_the_order_of_scheduling() {
        let mut schedule = Schedule::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            schedule.push(at, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop()).map(|(at, _, event)| (at, event)).collect();
        assert_eq!(order, [(1, "a"), (1, "b"), (5, "c"), (5, "d")]);
    }
}
