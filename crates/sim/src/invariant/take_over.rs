//! Who takes over from a leader has, at that moment, everything that was ever acknowledged; and a leader that was replaced acknowledges nothing
//! that its successor lacks, however late.
//!
//! And a leader whose host loses its power is replaced within [`BUDGET`], if take-over is on and possible: nothing else has gone wrong since the
//! cluster was last whole, which is long enough ago, or goes wrong meanwhile, and those who are left can elect.

use bellwether_types::settings::SyncMode;

use crate::{
    event::{Event, HostId},
    names::letter,
    schedule::{Nanos, SECONDS},
    wal::Pos,
    world::World,
};

/// `detect_timeout` (one second), questions to an agent that does not answer, promises, a transaction, fences and a promotion: two seconds and
/// a half where nothing is slow. Half of that again for messages of three milliseconds and for disks.
const BUDGET: Nanos = 4 * SECONDS;
/// Attempts that failed, standbys that were away and acceptances by failsafe are forgotten after so long, and two `ttl`.
const CALM: Nanos = 10 * SECONDS;

impl World {
    /// The power of `host` is about to go.
    pub(crate) fn expect_take_over(&mut self, host: HostId) {
        if self.is_take_over_possible(host) {
            self.stats.takeovers_expected += 1;
            let disturbance = self.checks.disturbances + 1;
            // Each step is seen as late as the store shows it.
            let lag = 3 * self.scenario.store.worst_lag();
            let hook = if self.scenario.pre_promote { self.scenario.hook_lasts } else { 0 };
            let budget = BUDGET + lag + hook + self.election_after_loss_of(host);
            self.schedule.push(self.now + budget, Event::TakenOver { from: host, disturbance });
        }
    }

    fn is_take_over_possible(&self, leader: HostId) -> bool {
        let settings = &self.in_force;
        let cluster = self.store.cluster();
        let is_on = settings.quorum_takeover && settings.sync_mode() == SyncMode::Quorum && !self.is_paused();
        let is_calm = self.scenario.patroni.is_none()
            && self.active_faults == 0
            && self.checks.disturbed_at + 2 * self.scenario.ttl + CALM < self.now
            && self.checks.resumed_at + 2 * self.scenario.ttl + CALM < self.now;
        let is_whole = is_on && is_calm && self.checks.founded && self.illness().is_none();
        let knows = |host: &crate::host::Host| {
            let mind = &host.agent.mind;
            let is_plain = host.tags.0.is_empty() && !host.absent;
            is_plain
                && mind.settings.standby_cluster.is_none()
                && mind.unavailable_since.is_none()
                && mind.job.is_none()
        };
        let name = self.names.of(leader);
        let sync = cluster.active_sync().filter(|sync| !sync.voters.is_empty());
        let left = |sync: &bellwether_types::cluster::SyncState| {
            let others = cluster.members.keys().filter(|member| *member != name && sync.includes(member));
            others.count() > usize::try_from(sync.quorum).unwrap_or(usize::MAX)
        };
        is_whole
            && self.primary() == Some(leader)
            && cluster.failover_request().is_none()
            && self.hosts.iter().all(knows)
            && sync.is_some_and(left)
    }

    pub(crate) fn check_taken_over(&mut self, from: HostId, disturbance: u64) {
        if self.checks.disturbances != disturbance {
            return;
        }
        if self.primary().is_none_or(|primary| primary == from) {
            let text = format!("{} lost its power, and nobody has taken over in time", letter(from));
            self.violated("take_over", text);
        }
    }

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
