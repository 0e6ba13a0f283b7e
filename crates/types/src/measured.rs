//! How fast things are where a member runs, as its agent measured it in passing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an agent measured lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// A lease renewal: from the request to the store's answer.
    pub store: Span,
    /// A tried commit: the flush of the WAL and, where commits wait for standbys, their acknowledgement.
    pub commit: Span,
    /// How late the loop woke up.
    pub late: Span,
}

/// Figures in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// How many; the rest is zero without any.
    pub count: u32,
    /// The median.
    pub typical: Duration,
    /// 99 of 100 are no worse.
    pub worst: Duration,
}

impl Span {
    /// In short what these figures say, in any order.
    pub fn of(mut figures: Vec<Duration>) -> Self {
        figures.sort_unstable();
        let count = u32::try_from(figures.len()).unwrap_or(u32::MAX);
        let typical = figures.get(figures.len() / 2).copied().unwrap_or_default();
        let worst = figures.get(figures.len() * 99 / 100).copied().unwrap_or_default();
        Self { count, typical, worst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_short() {
        let ms = Duration::from_millis;
        assert_eq!(Span::of(vec![]), Span::default());
        assert_eq!(Span::of((0..200).map(ms).collect()).worst, ms(198), "one in a hundred does not count");
        assert_eq!(Span::of(vec![ms(9), ms(1), ms(2)]), Span { count: 3, typical: ms(2), worst: ms(9) });
    }
}
