//! Nobody is promoted whose WAL parted from that of the last leader: its transactions were given up when somebody else was promoted.

use crate::{event::HostId, names::letter, wal::Pos, world::World};

impl World {
    pub(crate) fn check_trunk(&mut self, host: HostId, end: Pos) {
        let Some(trunk) = self.checks.trunk else { return };
        if self.wal.diverged(end, trunk) {
            let text = format!(
                "{} was promoted on timeline {} at {}, which parted from timeline {}",
                letter(host),
                self.wal.timeline(end),
                self.wal.lsn(end),
                self.wal.timeline(trunk),
            );
            self.violated("no_diverged_promotion", text);
        } else if !self.wal.contains(end, trunk) {
            // Behind the fork: no harm to its own WAL, but its timeline gets a number that exists already.
            self.stats.duplicate_timelines += 1;
        }
    }
}
