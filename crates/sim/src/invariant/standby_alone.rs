//! In a standby cluster nobody is promoted: an agent that knows of it begins no promotion.

use bellwether_ha::view::JobKind;

use crate::{event::HostId, names::letter, world::World};

impl World {
    /// A job begins.
    pub(crate) fn check_standby(&mut self, host: HostId, kind: &JobKind) {
        if self.hosts[host].agent.mind.settings.standby_cluster.is_some() && *kind == JobKind::Promote {
            self.violated(
                "standby_alone",
                format!("{} began a promotion in a standby cluster", letter(host)),
            );
        }
    }
}
