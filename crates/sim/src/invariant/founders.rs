//! A cluster is founded whole, whatever happens to the member that founds it; and that one is fenced before it leads.

use crate::{event::HostId, names::letter, world::World};

impl World {
    /// `host` was given the leader lock.
    pub(crate) fn check_founder_is_guarded(&mut self, host: HostId) {
        let h = &self.hosts[host];
        let founds = h.agent.mind.memory.bootstrapping.is_some();
        let guarded = self.has_guardian(host) && self.bug.arms_guardian();
        if guarded && founds && h.pg.is_primary() && h.guardian.deadline.is_none() {
            let text =
                format!("{} accepts writes and leads before its guardian has a deadline", letter(host));
            self.violated("founders", text);
        }
    }

    /// Everybody streams from `leader`: the cluster is founded.
    pub(crate) fn check_founded_whole(&mut self, leader: HostId) {
        let data = &self.hosts[leader].pg.data;
        if !data.has_roles {
            self.violated("founders", "the cluster was founded without its roles".to_owned());
        } else if data.in_the_making {
            self.violated("founders", "the founded data directory is still marked as unfinished".to_owned());
        }
    }
}
