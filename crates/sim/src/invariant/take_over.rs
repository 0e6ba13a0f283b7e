//! Who takes over from a leader has, at that moment, everything that was ever acknowledged; and a leader that was replaced acknowledges nothing
//! that its successor lacks, however late.

use crate::{event::HostId, names::letter, wal::Pos, world::World};

impl World {
    /// `host` was given a lock that another member had.
    pub(crate) fn check_take_over(&mut self, host: HostId) {
        self.stats.takeovers += 1;
        self.checks.taking_over_since = Some((host, self.checks.last_acknowledged_at));
        self.note(host, "take-over", &[1], || "took over".to_owned());
        let tip = self.hosts[host].pg.data.flushed;
        let covered = self.checks.acknowledged.iter().filter(|(_, acknowledged)| acknowledged.covered > 0);
        let lacks = covered
            .map(|(&branch, acknowledged)| Pos { branch, count: acknowledged.covered })
            .find(|pos| !self.wal.contains(tip, *pos));
        if let Some(pos) = lacks {
            let at = self.wal.lsn(pos);
            self.violated(
                "take_over",
                format!("{} took over without a commit that ends at {at}", letter(host)),
            );
        }
    }

    /// A leader that was replaced may still tell its clients of commits that its voters had confirmed before they stopped listening.
    pub(crate) fn is_confirmed_by_successor(&self, host: HostId, pos: Pos) -> bool {
        let cluster = self.store.cluster();
        let takeover = cluster.takeover.as_ref().and_then(|keyed| keyed.value.as_ref());
        let Some(taken) = takeover.and_then(|takeover| takeover.taken.as_ref()) else { return false };
        let tip = self.hosts[self.names.index_of(&taken.by)].pg.data.flushed;
        taken.from == *self.names.of(host) && self.wal.contains(tip, pos)
    }

    /// Writes go on.
    pub(crate) fn note_end_of_take_over(&mut self, host: HostId) {
        if let Some((_, since)) = self.checks.taking_over_since.take_if(|(by, _)| *by == host) {
            self.stats.takeover_took = self.stats.takeover_took.max(self.now - since);
        }
    }
}
