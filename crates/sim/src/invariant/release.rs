//! The leader lock is given up only when nothing can be lost by it.
//!
//! While PostgreSQL of the leader is still there, that means: its shutdown checkpoint is on disk, and another member has received it.

use crate::{event::HostId, names::letter, world::World};

impl World {
    /// `host` deleted its leader key.
    pub(crate) fn check_release(&mut self, host: HostId) {
        let pg = &self.hosts[host].pg;
        let Some(server) = pg.server().filter(|server| !server.in_recovery) else { return };
        let checkpointed = server.stop.is_some_and(|stop| stop.checkpointed);
        // On disk: the heir may have been killed since it said so.
        let heir = (0..self.hosts.len()).any(|other| {
            other != host && self.wal.contains(self.hosts[other].pg.data.flushed, pg.data.flushed)
        });
        if !self.is_paused() && (!checkpointed || !heir) {
            let text = format!(
                "{} gave the leader lock up while its PostgreSQL was there (shutdown checkpoint: {checkpointed}, another member has everything: {heir})",
                letter(host)
            );
            self.violated("release", text);
        }
    }
}
