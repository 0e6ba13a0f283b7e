//! How long a cluster would be without a leader that accepts writes. Arithmetic only.

use std::time::Duration;

use bellwether_types::settings::Settings;

use crate::lease;

/// Shortest time that a promotion took on an idle machine.
const FASTEST: Duration = Duration::from_millis(60);
/// What it usually takes to choose and promote a leader, without a past to look at.
const USUAL: Duration = Duration::from_millis(300);
/// The same on a busy machine.
const SLOW: Duration = Duration::from_secs(2);

/// How the store treats the lease of a leader that has fallen silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseManner {
    /// For how long a confirmed renewal is good.
    pub guaranteed: Duration,
    pub renewed_every: Duration,
    /// How much longer the store may keep the key.
    pub lingers: Duration,
}

impl LeaseManner {
    /// A store that takes the key away soon after the time has passed. `by_loop`: the leader renews once per `loop_wait`, as Patroni.
    pub fn punctual(settings: &Settings, by_loop: bool) -> Self {
        Self {
            guaranteed: settings.ttl,
            renewed_every: if by_loop { settings.loop_wait } else { lease::renewal_period(settings.ttl) },
            lingers: Duration::from_millis(500),
        }
    }

    /// Consul: sessions of half a `ttl`, which may outlive their time by as much.
    pub fn consul(settings: &Settings, by_loop: bool) -> Self {
        let guaranteed = settings.ttl / 2;
        let renewed_every = if by_loop { settings.loop_wait } else { lease::renewal_period(guaranteed) };
        Self { guaranteed, renewed_every, lingers: guaranteed }
    }
}

/// From, usually, to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub min: Duration,
    pub typical: Duration,
    pub max: Duration,
}

/// Where the time would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Until the store has taken the lost leader's lock away.
    pub detection: Span,
    /// From then on until the new one accepts writes.
    pub takeover: Span,
    /// How many past changes of leader [`Forecast::takeover`] rests on; 0 = on common experience.
    pub past: usize,
}

impl Forecast {
    pub fn total(&self) -> Span {
        Span {
            min: self.detection.min + self.takeover.min,
            typical: self.detection.typical + self.takeover.typical,
            max: self.detection.max + self.takeover.max,
        }
    }
}

/// After the loss of a leader's host. `past`: how long earlier changes of leader took once the lock was free.
pub fn after_silent_loss(settings: &Settings, lease: LeaseManner, past: &[Duration]) -> Forecast {
    let renewed_every = lease.renewed_every.min(lease.guaranteed);
    let latest = lease.guaranteed - renewed_every;
    let detection = Span {
        min: latest,
        typical: latest + renewed_every / 2 + lease.lingers / 2,
        max: lease.guaranteed + lease.lingers,
    };
    // A host that is gone refuses nothing: whoever asks it waits for the whole of the time that an answer may take.
    let silence = crate::candidate::answer_limit(settings.ttl);
    let backoff = settings.primary_race_backoff;
    let mut past = past.to_vec();
    past.sort_unstable();
    let takeover = match (past.first(), past.get(past.len() / 2), past.last()) {
        (Some(&min), Some(&median), Some(&max)) => Span {
            min: min.min(median),
            typical: median.max(silence),
            max: max.max(silence + SLOW) + backoff,
        },
        _ => Span { min: FASTEST, typical: silence + USUAL, max: silence + SLOW + backoff },
    };
    Forecast { detection, takeover, past: past.len() }
}

impl Forecast {
    /// The same where voters may replace a leader that they do not hear any more, without waiting for its lease.
    pub fn with_quorum_takeover(mut self, settings: &Settings) -> Self {
        let heard_last = settings.detect_timeout;
        self.detection.min = self.detection.min.min(heard_last);
        self.detection.typical = self.detection.typical.min(heard_last + USUAL).max(self.detection.min);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(ttl: u64, loop_wait: u64) -> Settings {
        Settings {
            ttl: Duration::from_secs(ttl),
            loop_wait: Duration::from_secs(loop_wait),
            ..Settings::default()
        }
    }

    #[test]
    fn the_lease_is_most_of_it() {
        let settings = settings(5, 1);
        let forecast = after_silent_loss(&settings, LeaseManner::punctual(&settings, false), &[]);
        assert_eq!(forecast.detection.min, Duration::from_secs(4));
        assert_eq!(forecast.detection.max, Duration::from_millis(5_500));
        assert_eq!(forecast.total().typical, Duration::from_millis(4_750 + 800));
        let by_loop = after_silent_loss(&settings, LeaseManner::punctual(&settings, true), &[]);
        assert_eq!(by_loop.detection.min, Duration::from_secs(4), "a Patroni leader renews each loop_wait");
        let consul = after_silent_loss(&settings, LeaseManner::consul(&settings, false), &[]);
        assert_eq!(
            (consul.detection.min, consul.detection.max),
            (Duration::from_secs(2), Duration::from_secs(5))
        );
    }

    #[test]
    fn the_clusters_own_past_counts_more_than_experience() {
        let settings = settings(5, 1);
        let past = [4_000, 900, 7_000].map(Duration::from_millis);
        let forecast = after_silent_loss(&settings, LeaseManner::punctual(&settings, false), &past);
        let Span { min, typical, max } = forecast.takeover;
        assert_eq!((min, typical, max), (past[1], past[0], past[2]));
        assert_eq!(forecast.past, 3);
    }

    proptest! {
        #[test]
        fn a_span_is_in_order(
            ttl in 1u64..600, loop_wait in 1u64..60, backoff in 0u64..60, by_loop: bool, consul: bool,
            past in proptest::collection::vec(0u64..100_000, 0..6),
        ) {
            let settings = Settings { primary_race_backoff: Duration::from_secs(backoff), ..settings(ttl, loop_wait) };
            let manner = if consul { LeaseManner::consul } else { LeaseManner::punctual };
            let past: Vec<Duration> = past.into_iter().map(Duration::from_millis).collect();
            let forecast = after_silent_loss(&settings, manner(&settings, by_loop), &past);
            let quick = forecast.with_quorum_takeover(&settings);
            for span in [forecast.detection, forecast.takeover, forecast.total(), quick.detection, quick.total()] {
                prop_assert!(span.min <= span.typical && span.typical <= span.max, "{forecast:?}");
            }
        }
    }
}
