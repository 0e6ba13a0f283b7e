//! Nobody wins the race whose PostgreSQL hangs: it would hold the lock and not lead, while others could. Nor does who must not lead
//! (`nofailover`).

use crate::{event::HostId, names::letter, schedule::SECONDS, world::World};

impl World {
    /// `host` was given a lock that it did not have, as no primary yet.
    pub(crate) fn check_winner_may_lead(&mut self, host: HostId) {
        let h = &self.hosts[host];
        let is_known = h.tagged_at + self.scenario.ttl < self.now;
        let is_named = self.store.cluster().failover_request().is_some();
        if h.tags.nofailover() && is_known && !is_named && !h.pg.is_primary() {
            self.violated("fit_winner", format!("{} took the lock in spite of nofailover", letter(host)));
        }
    }

    /// `host` was given a free lock.
    pub(crate) fn check_winner_answers(&mut self, host: HostId) {
        let silence = self.silence(host);
        // The store takes its time, and the decision was made before that.
        let allowed = self.answers_count_for() + self.scenario.ttl * 2 / 5;
        if self.hosts[host].pg.frozen && silence > allowed {
            let seconds = silence / SECONDS;
            let text = format!("{} took the lock with a PostgreSQL that hangs for {seconds} s", letter(host));
            self.violated("fit_winner", text);
        }
    }
}
