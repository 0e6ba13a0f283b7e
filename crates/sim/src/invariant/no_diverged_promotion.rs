//! Nobody is promoted whose WAL parted from that of the last leader: its transactions were given up when somebody else was promoted.
//!
//! A candidate can know only what the store tells it. So the promise holds where `/history` already names the newer timeline. A
//! promotion that nobody else had heard of yet (the leader died before it could write `/history`) may be overlooked. With
//! synchronous replication `/sync` decides who has everything that was acknowledged; a timeline on which nothing was acknowledged
//! may then be passed over as well (`no_lost_commit` watches). Such a run is counted, and goes on: the new timeline has another number
//! (`one_number`), so whoever wrote the passed-over one finds out. So is one whom an operator named when nobody led.

use crate::{event::HostId, names::letter, wal::Pos, world::World};

impl World {
    pub(crate) fn check_trunk(&mut self, host: HostId, end: Pos) {
        let Some(trunk) = self.checks.trunk else { return };
        if self.wal.contains(end, trunk) {
            return;
        }
        if self.is_loss_accepted(host) {
            // The loss was accepted: whoever had more is gone.
            self.stats.passed_over_timelines += 1;
            return;
        }
        let (mine, newest) = (self.wal.timeline(end), self.wal.timeline(trunk));
        let diverged = self.wal.diverged(end, trunk);
        let recorded = self.store.cluster().timeline().is_some_and(|timeline| timeline >= newest);
        let protected = self.is_synchronous() && self.store.cluster().active_sync().is_some();
        let text = format!(
            "{} was promoted on timeline {mine} at {} although timeline {newest} had begun (in /history: {recorded})",
            letter(host),
            self.wal.lsn(end),
        );
        if diverged && recorded && !protected {
            self.violated("no_diverged_promotion", format!("{text}, and has WAL that it does not contain"));
        } else if recorded && self.scenario.always_checks_timeline() {
            self.violated("no_diverged_promotion", text);
        } else {
            self.stats.passed_over_timelines += 1;
        }
    }
}
