//! What an agent waits for has an end: PostgreSQL that was told to stop for a restart is gone within twice the limit of that stop.

use crate::{
    event::HostId,
    names::letter,
    schedule::{Nanos, SECONDS},
    world::World,
};

/// For a kill to be noticed.
const SLACK: Nanos = SECONDS;

impl World {
    /// A restart has done what it does at this time and goes on waiting for the stop; `limit` is what was decided.
    pub(crate) fn check_stop_of_restart(&mut self, host: HostId, stops_for: Nanos, limit: Nanos) {
        if !self.hosts[host].pg.is_down() && stops_for > 2 * limit + SLACK {
            self.violated("bounded", format!("{} waits without end for the stop of a restart", letter(host)));
        }
    }
}
