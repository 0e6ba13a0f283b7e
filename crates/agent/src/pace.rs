//! How often the store is asked whether anything has changed while its watch tells of nothing.
//!
//! Where each proof of life is a request to a server that others use, too (etcd), twice a second is dear. It is what a member needs that
//! waits for something: a race, an answer to its own write. One that found everything in order needs a proof only before its view
//! grows too old to act on.

use std::time::Duration;

use bellwether_dcs::mirror;
use bellwether_ha::view::LeaseView;
use bellwether_types::settings::Settings;

use crate::agent::Agent;

/// A proof that is asked for has so long to arrive before the view is too old.
const ARRIVES_WITHIN: Duration = Duration::from_millis(600);
/// With less patience than this there is nothing to spare.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// The watch compares all keys with each proof. Reading them beside it is for mistakes of ours.
const CYCLES_BETWEEN_READS: u32 = 30;

impl Agent {
    /// Sets the pace after a decision. `calm`: nothing is to be done again at once.
    pub(crate) fn pace_the_store(&self, calm: bool) {
        let is_settled = || {
            let state = self.mirror.state();
            state.error.is_none() && state.cluster.is_some_and(|cluster| !cluster.is_unlocked())
        };
        let waits = matches!(self.lease.state().view, LeaseView::Rejected { .. });
        let is_calm = calm && self.routine && !waits && is_settled();
        self.mirror.set_pace(if is_calm { calm_pace(&self.effective.settings) } else { mirror::PACE });
    }
}

/// How far apart proofs are while all is well.
fn calm_pace(settings: &Settings) -> Duration {
    // `View::patience`: a view that is older is acted on no more. And entry points believe it for a `ttl`.
    let patience = settings.retry_timeout.min(settings.ttl / 2);
    if patience < LEAST_PATIENCE { mirror::PACE } else { patience - ARRIVES_WITHIN }
}

/// The longest time between two reads of everything.
pub(crate) fn between_reads(settings: &Settings) -> Duration {
    settings.loop_wait * CYCLES_BETWEEN_READS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_arrives_before_the_view_is_too_old() {
        for (ttl, retry_timeout, expected) in [(30, 10, 9_400), (5, 2, 500), (20, 3, 500), (60, 60, 29_400)] {
            let seconds = Duration::from_secs;
            let settings =
                Settings { ttl: seconds(ttl), retry_timeout: seconds(retry_timeout), ..Settings::default() };
            assert_eq!(calm_pace(&settings), Duration::from_millis(expected), "{ttl} {retry_timeout}");
            assert!(calm_pace(&settings) < settings.retry_timeout);
        }
    }
}
