//! A data directory whose rewind was interrupted is not started: PostgreSQL may accept it, with blocks of two histories.

use crate::{event::HostId, names::letter, world::World};

impl World {
    pub(crate) fn check_start(&mut self, host: HostId) {
        if self.hosts[host].pg.data.torn {
            self.violated("no_torn_start", format!("{} starts in the middle of a rewind", letter(host)));
        }
    }
}
