//! Never two members able to acknowledge a write at the same instant.
//!
//! "Able" is [`World::can_acknowledge`]. Stronger, and checked at every acknowledgement: the store still knows the member as leader. It
//! must hold even when nobody else is there to take over, because leases are counted so that a leader falls silent before the
//! store forgets it. Failsafe mode is the exception by design.

use std::time::Duration;

use bellwether_ha::view::LeaseView;

use crate::{event::HostId, names::letter, wal::Pos, world::World};

impl World {
    /// Called whenever `host` reported a commit or became a primary.
    pub(crate) fn check_two_writers(&mut self, host: HostId) {
        if !self.can_acknowledge(host) || self.is_beginning(host) {
            return;
        }
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if self.can_acknowledge(other) && !self.is_beginning(other) {
                let text = format!("{} and {} can both acknowledge writes", letter(host), letter(other));
                self.violated("one_writer", text);
            }
        }
    }

    /// A database in the making that never led: another identity, which nobody was told of, and which is set aside if its agent died.
    fn is_beginning(&self, host: HostId) -> bool {
        let is_leader = self.store.cluster().leader_name() == Some(self.names.of(host));
        self.hosts[host].pg.data.in_the_making && !is_leader
    }

    /// The leader of a cluster whose keys are gone goes on for as long as its last confirmation is good, while it asks all others.
    fn goes_on_in_wiped_store(&self, host: HostId) -> bool {
        let until = match self.hosts[host].agent.mind.lease_view {
            LeaseView::Held { until, .. } => until,
            LeaseView::Rejected { good_until, .. } => good_until + Duration::from_secs(1),
            LeaseView::NotHeld => return false,
        };
        let cluster = self.store.cluster();
        let is_nobodys = cluster.leader_name().is_none() && cluster.system_id().is_none();
        let led = self.checks.wiped.is_some_and(|wiped| wiped.leader == Some(host));
        is_nobodys && led && self.hosts[host].clock(self.now) < until
    }

    pub(crate) fn check_lock(&mut self, host: HostId, pos: Pos) {
        let cluster = self.store.cluster();
        // A paused primary goes on without the lock, and needs a moment to stop once the pause has ended.
        let paused = self.hosts[host].agent.mind.settings.pause || self.is_paused();
        let resumed = self.now.saturating_sub(self.checks.resumed_at) < self.scenario.ttl;
        if paused || resumed || self.scenario.may_use_failsafe() || !self.checks.founded {
            return;
        }
        if cluster.leader_name() != Some(self.names.of(host)) {
            if self.is_confirmed_by_successor(host, pos) || self.goes_on_in_wiped_store(host) {
                return;
            }
            let leader = cluster.leader_name().map_or("nobody".to_owned(), ToString::to_string);
            let text =
                format!("{} acknowledged a write while the store knew {leader} as leader", letter(host));
            self.violated("one_writer", text);
        }
    }
}
