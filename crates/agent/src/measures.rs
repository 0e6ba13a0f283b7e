//! What the agent measures in passing: renewals, tried commits, and how late its own loop wakes up. Nothing is done for the sake of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bellwether_types::{
    Timestamp,
    measured::{Measured, Span},
};

/// Figures of each kind that are kept: ten minutes of renewals at a `ttl` of 5 s.
const KEPT: usize = 600;
/// Shortening them costs a little, and nobody needs it more often.
const SHORTENED_EVERY: Duration = Duration::from_secs(10);

/// Cheap to clone: all clones keep the same figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    store: VecDeque<Duration>,
    commit: VecDeque<Duration>,
    late: VecDeque<Duration>,
    shortened: Measured,
    shortened_at: Option<Timestamp>,
}

impl Measures {
    pub(crate) fn renewed(&self, after: Duration) {
        self.with(|kept| keep(&mut kept.store, after));
    }

    pub(crate) fn committed(&self, after: Duration) {
        self.with(|kept| keep(&mut kept.commit, after));
    }

    pub(crate) fn woke_late(&self, by: Duration) {
        self.with(|kept| keep(&mut kept.late, by));
    }

    /// In short; up to ten seconds old.
    pub(crate) fn in_short(&self, now: Timestamp) -> Measured {
        self.with(|kept| {
            if kept.shortened_at.is_none_or(|at| now.since(at) >= SHORTENED_EVERY) {
                let span = |figures: &VecDeque<Duration>| Span::of(figures.iter().copied().collect());
                kept.shortened =
                    Measured { store: span(&kept.store), commit: span(&kept.commit), late: span(&kept.late) };
                kept.shortened_at = Some(now);
            }
            kept.shortened
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn keep(figures: &mut VecDeque<Duration>, figure: Duration) {
    if figures.len() == KEPT {
        figures.pop_front();
    }
    figures.push_back(figure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_figures_are_told_in_short() {
        let measures = Measures::default();
        for ms in 0..1_000 {
            measures.renewed(Duration::from_millis(1_000 - ms));
        }
        let now = Timestamp::from_millis(50_000);
        let Span { count, worst, .. } = measures.in_short(now).store;
        assert_eq!((count, worst), (600, Duration::from_millis(595)), "the first ones are forgotten");
        (0..10).for_each(|_| measures.renewed(Duration::from_secs(9)));
        assert_eq!(measures.in_short(now).store.worst, worst, "not computed anew each time");
        assert_eq!(measures.in_short(now + SHORTENED_EVERY).store.worst, Duration::from_secs(9));
    }
}
