//! Getting the lock and giving it up: the lease, the key that hangs on it, the proof that both are ours, and promises that extend it.

use std::time::Duration;

use bellwether_dcs::{
    Check, CommitOutcome, Deadline, Key, Renewal, StoreError, Write,
    codec::{self, keys},
};
use bellwether_ha::{lease, view::LeaseView};
use bellwether_types::{LeaseId, Revision, Term, Timestamp, cluster::TimelineClaim};
use tracing::{debug, warn};

use super::{Acquired, LeaseKeeper, Released, Wanted};
use crate::clock;

impl LeaseKeeper {
    /// Our lease, granted if there is none or if `ttl` has changed; keys move to the new one as they are next written.
    pub(super) async fn current_lease(&mut self, by: Deadline) -> Option<LeaseId> {
        let ttl = *self.ttl.borrow();
        let present = self.state.borrow().lease;
        if let (Some(lease), true) = (present, ttl == self.granted_ttl) {
            return Some(lease);
        }
        match self.store.grant_lease(ttl, by).await {
            Ok(lease) => {
                debug!(?lease, ?ttl, "granted a lease");
                if !self.move_leadership(lease, by).await {
                    // The key still hangs on the old lease, or nobody can say: that one is renewed, and this is tried again.
                    return present;
                }
                self.granted_ttl = ttl;
                self.guaranteed = None;
                self.state.send_modify(|state| state.lease = Some(lease));
                Some(lease)
            }
            Err(error) => {
                debug!(%error, "no lease granted");
                self.next_renewal = clock::now() + self.period() / 5;
                present
            }
        }
    }

    /// Hangs a leader key that we hold on another lease of ours. True if no key of ours hangs on the old one any more.
    async fn move_leadership(&mut self, lease: LeaseId, by: Deadline) -> bool {
        let LeaseView::Held { revision, .. } = self.state.borrow().view else { return true };
        let checks = [Check::at(keys::LEADER, revision)];
        let writes = [Write::put_leased(keys::LEADER, self.me.as_str(), lease)];
        match self.store.commit(&checks, &writes, by).await {
            CommitOutcome::Applied(new) => {
                self.state.send_modify(|state| {
                    if let LeaseView::Held { revision, .. } = &mut state.view {
                        *revision = new;
                    }
                });
                true
            }
            CommitOutcome::Refused { .. } => {
                self.set_view(self.rejected());
                true
            }
            CommitOutcome::Unknown(error) => {
                warn!(%error, "moving the leader key to a new lease: outcome unknown");
                let leader = Key::new(keys::LEADER);
                // The time of the first attempt is over, and the answer decides whether the lock is still ours.
                let asked = self.store.keep_alive(lease, Some(&leader), self.budget()).await;
                matches!(asked, Renewal::Valid { .. })
            }
        }
    }

    pub(super) async fn acquire(&mut self, wanted: Wanted) -> Acquired {
        // For all steps: a lease if there is none, the lock, the proof. Limits of their own would add up.
        let by = Deadline::after(self.period() * 3 / 2);
        let Some(lease) = self.current_lease(by).await else {
            return Acquired::Unknown(StoreError::TimedOut);
        };
        let still = |key: &'static str, revision: Option<Revision>| match revision {
            None => Check::absent(key),
            Some(revision) => Check::at(key, revision),
        };
        let mut checks = vec![still(keys::LEADER, wanted.present), still(keys::SYNC, wanted.sync)];
        let mut writes = vec![Write::put_leased(keys::LEADER, self.me.as_str(), lease)];
        if let Some(next) = wanted.timeline {
            let claim = TimelineClaim { timeline: next.timeline, leader: self.me.clone() };
            checks.push(still(keys::TIMELINE, next.expect));
            writes.push(Write::put(keys::TIMELINE, codec::encode_timeline_claim(&claim)));
        }
        checks.extend(wanted.also.checks);
        writes.extend(wanted.also.writes);
        if let Some(over) = wanted.over {
            checks.push(Check::at(keys::TAKEOVER, over.opened_at));
            writes.push(Write::put(keys::TAKEOVER, codec::encode_takeover(&over.takeover)));
            writes.push(Write::put(keys::SYNC, over.sync));
        }
        match self.store.commit(&checks, &writes, by).await {
            CommitOutcome::Applied(revision) => self.prove(lease, revision, by).await,
            CommitOutcome::Refused { .. } => Acquired::No,
            CommitOutcome::Unknown(error) => Acquired::Unknown(error),
        }
    }

    /// The key is ours; how long the lease behind it is good for only a renewal can tell.
    async fn prove(&mut self, lease: LeaseId, revision: Revision, by: Deadline) -> Acquired {
        let leader = Key::new(keys::LEADER);
        let sent_at = clock::now();
        match self.store.keep_alive(lease, Some(&leader), by).await {
            Renewal::Valid { guaranteed } => {
                self.guaranteed = Some(guaranteed);
                let limits = lease::limits(sent_at, guaranteed);
                let term = Term(revision.0);
                self.set_view(LeaseView::Held {
                    until: limits.until,
                    demote_at: limits.demote_at,
                    term,
                    revision,
                    unavailable_since: None,
                });
                self.next_renewal = sent_at + self.pace();
                self.store.member_leads(true).await;
                Acquired::Yes { term }
            }
            Renewal::Gone | Renewal::NotHolding => Acquired::No,
            Renewal::Unavailable(error) => Acquired::Unknown(error),
        }
    }

    pub(super) async fn release(&mut self, status: Option<Vec<u8>>) -> Released {
        // From here on nobody on this node may believe in the lease, whatever the store answers.
        self.set_view(LeaseView::NotHeld);
        self.store.member_leads(false).await;
        let checks = [Check::has_value(keys::LEADER, self.me.as_str())];
        let mut writes: Vec<Write> =
            status.into_iter().map(|value| Write::put(keys::STATUS, value)).collect();
        writes.push(Write::delete(keys::LEADER));
        match self.store.commit(&checks, &writes, self.budget()).await {
            CommitOutcome::Applied(_) => Released::Yes,
            CommitOutcome::Refused { .. } => Released::No,
            CommitOutcome::Unknown(error) => Released::Unknown(error),
        }
    }

    pub(super) async fn extend(&mut self, began_at: Timestamp, good_for: Duration) {
        if matches!(self.state.borrow().view, LeaseView::Held { .. }) {
            // Not beyond what a renewal at that time would have been good for.
            let limits = lease::limits(began_at, self.at_most_guaranteed(good_for));
            self.fencing.extend(limits.until);
            self.state.send_modify(|state| {
                if let LeaseView::Held { until, demote_at, .. } = &mut state.view {
                    *until = limits.until.max(*until);
                    *demote_at = limits.demote_at.max(*demote_at);
                }
            });
            self.fencing.ping(limits.until);
        }
    }
}
