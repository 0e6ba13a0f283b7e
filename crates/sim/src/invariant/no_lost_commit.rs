//! With synchronous replication no acknowledged write is lost; without it, the loss is bounded.
//!
//! Checked at every promotion (a new leader must have everything) and once more at the end. A record counts as covered when
//! `/sync` was active in the store at the moment of the acknowledgement. Without synchronous replication the promise is
//! smaller: nobody is promoted who is further than `maximum_lag_on_failover` behind the last published position.

use bellwether_types::settings::SyncMode;

use crate::{event::HostId, invariant::Acknowledged, names::letter, wal::Pos, world::World};

impl World {
    pub(crate) fn remember_acknowledged(&mut self, pos: Pos) {
        if !self.checks.founded {
            // A beginning may be set aside: nobody leads anybody to it.
            return;
        }
        let is_kept = || self.checks.wiped.is_some_and(|wiped| wiped.is_synchronous);
        let covered = self.is_synchronous() && (self.store.cluster().active_sync().is_some() || is_kept());
        let entry = self.checks.acknowledged.entry(pos.branch);
        let entry = entry.or_insert(Acknowledged { count: 0, covered: 0 });
        entry.count = entry.count.max(pos.count);
        if covered {
            entry.covered = entry.covered.max(pos.count);
        }
    }

    pub(crate) fn check_loss(&mut self, host: HostId, end: Pos, start: Pos) {
        self.check_lag(host, end);
        let mut lost = Vec::new();
        for (&branch, &Acknowledged { count, covered }) in &self.checks.acknowledged {
            if !self.wal.contains(start, Pos { branch, count }) {
                lost.push((branch, count, covered));
            }
        }
        for (branch, count, covered) in lost {
            // What was covered must be there; the rest is counted.
            let accepted = self.is_loss_accepted(host);
            if covered > 0 && !accepted && !self.wal.contains(start, Pos { branch, count: covered }) {
                let at = self.wal.lsn(Pos { branch, count: covered });
                let text = format!(
                    "{} was promoted at {} without an acknowledged synchronous commit that ends at {at}",
                    letter(host),
                    self.wal.lsn(end),
                );
                self.violated("no_lost_commit", text);
            }
            let kept = self.wal.common(start, Pos { branch, count }).filter(|kept| kept.branch == branch);
            let kept = kept.map_or(0, |kept| kept.count);
            self.stats.lost += u64::from(count - kept);
            self.checks.acknowledged.insert(branch, Acknowledged { count: kept, covered: covered.min(kept) });
        }
    }

    /// Commits wait for standbys, by the configuration as it is now.
    pub(super) fn is_synchronous(&self) -> bool {
        self.in_force.synchronous_mode != SyncMode::Off
    }

    /// Without a request for this very member nobody leads who is too far behind.
    fn check_lag(&mut self, host: HostId, end: Pos) {
        let cluster = self.store.cluster();
        let requested = cluster.failover_request().is_some() || self.is_loss_accepted(host);
        let behind = cluster.optime() - self.wal.lsn(end);
        let allowed = self.scenario.largest_lag();
        if !requested && !self.is_paused() && behind > allowed {
            let text = format!("{} was promoted {behind} bytes behind the published position", letter(host));
            self.violated("bounded_loss", text);
        }
    }

    /// At the end: the leader has everything that was covered.
    pub(crate) fn check_final_loss(&mut self, leader: HostId) {
        let tip = self.hosts[leader].pg.data.flushed;
        let missing = self.checks.acknowledged.iter().find(|(branch, acknowledged)| {
            // Of a timeline that was passed over whole nothing is left, which is no loss if nothing of it was covered.
            acknowledged.covered > 0
                && !self.wal.contains(tip, Pos { branch: **branch, count: acknowledged.covered })
        });
        if let Some((&branch, acknowledged)) = missing {
            let at = self.wal.lsn(Pos { branch, count: acknowledged.covered });
            let text =
                format!("the last leader {} lacks an acknowledged commit that ends at {at}", letter(leader));
            self.violated("no_lost_commit", text);
        }
    }
}
