//! The lease keeper and every other conversation with the store.
//!
//! A renewal leaves every fifth of the ttl, with a timeout of the same length, whether the loop is busy or not. Confirmed, it counts
//! from before it left. A key that bears our name is ours only when a renewal says so.

use std::{sync::Arc, time::Duration};

use bellwether_ha::{lease, view::LeaseView};
use bellwether_types::{
    Revision, Term, Timestamp,
    cluster::{Cluster, ConfigDocument},
};

use crate::{
    configuration,
    event::{AgentEvent, Event, HostId},
    random::Random,
    schedule::{MILLIS, Nanos, SECONDS},
    store::{Answer, Key, Operation, Verdict, Write},
    world::World,
};

/// A request that has no answer yet.
#[derive(Debug)]
pub struct Pending {
    pub id: u64,
    pub sent_at: Timestamp,
    pub purpose: Purpose,
}

/// Why the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    FirstRead,
    /// Reading again after the store was silent.
    Read,
    Grant,
    /// A renewal; `holding`: it also asks whether the leader key is ours.
    Renewal {
        holding: bool,
    },
    /// A write of the executor.
    Action {
        id: u64,
    },
    /// The leader key was written; the executor waits until a renewal confirms it.
    /// `over`: it was another member's until then.
    Taken {
        id: u64,
        over: bool,
    },
    Proof {
        id: u64,
        term: Term,
        revision: Revision,
    },
}

impl World {
    /// Sends a request. Without an answer within the timeout of a renewal it counts as unavailable.
    pub(crate) fn ask_store(&mut self, host: HostId, operation: Operation, purpose: Purpose) {
        let (now, clock) = (self.now, self.hosts[host].clock(self.now));
        let agent = &mut self.hosts[host].agent;
        let incarnation = agent.incarnation;
        let id = agent.mind.fresh_id();
        agent.mind.pending.push(Pending { id, sent_at: clock, purpose });
        let place = self.store_place();
        let is_lost = matches!(purpose, Purpose::Renewal { .. }) && self.loses_renewal(host);
        if self.network.is_open(host, place) && !is_lost {
            let mut delay = self.delay(host, place);
            if matches!(operation, Operation::Commit { .. }) {
                delay += self.random.between(MILLIS / 2, 4 * MILLIS);
                delay += self.lateness(|jitter| jitter.store_write);
            }
            let operation = Box::new(operation);
            self.schedule
                .push(now + delay, Event::StoreRequest { from: host, agent: incarnation, id, operation });
        }
        self.later(host, self.renewal_period(), AgentEvent::TimedOut { id });
    }

    /// How long one request may take, and how soon the next renewal follows.
    pub(crate) fn renewal_period(&self) -> Nanos {
        self.scenario.store.guaranteed(self.scenario.ttl) / 5
    }

    /// The server that this host is connected to may lag: what it shows is as old as that. Its own writes and proofs go to the leader.
    fn read_by(&mut self, host: HostId, answer: &mut Answer) {
        let lag = self.lag_of(host);
        if lag > 0 && answer.verdict != Verdict::Read {
            (answer.seen, answer.behind) = (self.store.as_of(self.now.saturating_sub(lag)), lag);
        }
    }

    /// How far behind the server of this host is; another one every few seconds.
    fn lag_of(&self, host: HostId) -> Nanos {
        let spell = self.now / (5 * SECONDS);
        let mut random = Random::new(self.scenario.seed ^ (spell << 8) ^ host as u64);
        let most = self.scenario.store.worst_lag();
        if most > 0 && random.percent(25) { random.between(0, most) } else { 0 }
    }

    /// The request arrives at the store.
    pub(crate) fn store_request(&mut self, from: HostId, agent: u32, id: u64, operation: Operation) {
        let place = self.store_place();
        if self.store.silenced > 0 || !self.network.is_open(from, place) {
            return;
        }
        let before = self.store.cluster().clone();
        let releases = matches!(&operation, Operation::Commit { writes, .. }
            if writes.iter().any(|write| matches!(write, Write::Delete(Key::Leader))));
        let (mut answer, ends) = self.store.carry_out(self.now, operation);
        self.read_by(from, &mut answer);
        if releases && matches!(answer.verdict, Verdict::Applied(_)) {
            self.check_release(from);
        }
        if let Some((lease, at)) = ends {
            self.schedule.push(at, Event::LeaseExpiry { lease });
        }
        self.store_changed(&before);
        if self.network.is_open(place, from) && self.hosts[from].powered {
            let delay = self.delay(place, from);
            let what = AgentEvent::Answered { id, answer };
            self.schedule.push(self.now + delay, Event::Agent { host: from, agent, what });
        }
    }

    pub(crate) fn lease_expiry(&mut self, lease: bellwether_types::LeaseId) {
        let before = self.store.cluster().clone();
        if self.store.silenced > 0 {
            // Nobody can propose an expiry while the store has no leader.
            return self.schedule.push(self.now + 20 * MILLIS, Event::LeaseExpiry { lease });
        }
        if let Some(again) = self.store.expire(self.now, lease) {
            self.schedule.push(again, Event::LeaseExpiry { lease });
        }
        self.store_changed(&before);
    }

    /// Watchers hear of what may concern them. Positions they read with their next renewal.
    pub(crate) fn store_changed(&mut self, before: &Arc<Cluster>) {
        let after = self.store.cluster().clone();
        if after.revision == before.revision {
            return;
        }
        self.store.remember(self.now);
        self.keys_written_anew();
        let config = |cluster: &Cluster| cluster.config.as_ref().map(|keyed| keyed.revision);
        if config(before) != config(&after) {
            self.note_configuration();
        }
        if !concerns_others(before, &after) {
            return;
        }
        let place = self.store_place();
        for host in 0..self.hosts.len() {
            if self.hosts[host].agent.alive && self.network.is_open(place, host) && self.hosts[host].powered {
                let delay = self.delay(place, host) + self.lag_of(host);
                let agent = self.hosts[host].agent.incarnation;
                let what = AgentEvent::Watched { cluster: after.clone() };
                self.schedule.push(self.now + delay, Event::Agent { host, agent, what });
            }
        }
    }

    /// What the store holds, as of a moment after `confirmed_at`.
    pub(crate) fn learn(&mut self, host: HostId, cluster: &Arc<Cluster>, confirmed_at: Option<Timestamp>) {
        let mind = &mut self.hosts[host].agent.mind;
        if let Some(at) = confirmed_at {
            mind.confirmed_at = mind.confirmed_at.max(at);
            mind.unavailable_since = None;
        }
        let newer = mind.cluster.as_ref().is_none_or(|known| known.revision < cluster.revision);
        if !newer {
            return;
        }
        let concerns = match self.scenario.patroni == Some(host) {
            true => Self::wakes_patroni(mind.cluster.as_deref(), cluster),
            false => mind.cluster.as_ref().is_none_or(|known| concerns_others(known, cluster)),
        };
        let config = cluster.config.as_ref();
        let known = mind.cluster.as_ref().and_then(|known| known.config.as_ref());
        if let Some(config) = config
            && known.is_none_or(|known| known.revision != config.revision)
            && let ConfigDocument::Valid(value) = &config.value
        {
            mind.settings = configuration::in_force(&self.scenario.settings, value);
        }
        mind.cluster = Some(cluster.clone());
        if concerns {
            self.wake(host);
        }
    }

    pub(crate) fn store_answered(&mut self, host: HostId, id: u64, answer: Answer) {
        let now = self.hosts[host].clock(self.now);
        let mind = &mut self.hosts[host].agent.mind;
        let Some(index) = mind.pending.iter().position(|pending| pending.id == id) else { return };
        let Pending { sent_at, purpose, .. } = mind.pending.swap_remove(index);
        let was_silent = mind.unavailable_since.is_some();
        let as_of = if self.bug.sees_lag() { answer.behind } else { 0 };
        let confirmed_at = sent_at.saturating_sub(Duration::from_nanos(as_of));
        self.learn(host, &answer.seen, Some(confirmed_at));
        if was_silent {
            self.wake(host);
        }
        match (purpose, answer.verdict) {
            (Purpose::FirstRead, _) => self.begin_loop(host),
            (Purpose::Grant, Verdict::Granted(lease)) => self.hosts[host].agent.mind.lease = Some(lease),
            (Purpose::Renewal { holding }, verdict) => self.renewed(host, verdict, holding, sent_at, now),
            (Purpose::Action { id }, verdict) => {
                self.action_answered(host, id, matches!(verdict, Verdict::Applied(_)));
            }
            (Purpose::Taken { id, over }, verdict) => self.taken(host, (id, over), verdict, &answer.cluster),
            (Purpose::Proof { id, term, revision }, verdict) => {
                self.proved(host, id, term, revision, verdict, (sent_at, now));
            }
            _ => {}
        }
    }

    pub(crate) fn store_timed_out(&mut self, host: HostId, id: u64) {
        let now = self.hosts[host].clock(self.now);
        let mind = &mut self.hosts[host].agent.mind;
        let Some(index) = mind.pending.iter().position(|pending| pending.id == id) else { return };
        let Pending { purpose, .. } = mind.pending.swap_remove(index);
        mind.unavailable_since.get_or_insert(now);
        if let LeaseView::Held { unavailable_since, .. } = &mut mind.lease_view
            && matches!(purpose, Purpose::Renewal { .. })
        {
            unavailable_since.get_or_insert(now);
        }
        match purpose {
            Purpose::FirstRead => self.ask_store(host, Operation::Snapshot, Purpose::FirstRead),
            Purpose::Action { id } | Purpose::Taken { id, .. } | Purpose::Proof { id, .. } => {
                self.action_answered(host, id, false);
            }
            _ => {}
        }
        self.wake(host);
    }

    /// The keeper's turn.
    pub(crate) fn keep_alive(&mut self, host: HostId) {
        let ttl = self.scenario.ttl;
        let late = self.lateness(|jitter| jitter.wake_up);
        self.later(host, self.renewal_pace(host) + late, AgentEvent::KeepAlive);
        if self.is_loop_stuck(host) {
            return;
        }
        let mind = &self.hosts[host].agent.mind;
        match mind.lease {
            None => self.ask_store(host, Operation::Grant { ttl }, Purpose::Grant),
            Some(lease) => {
                let holding = matches!(mind.lease_view, LeaseView::Held { .. });
                self.ask_store(host, Operation::KeepAlive { lease, holding }, Purpose::Renewal { holding });
            }
        }
    }

    fn renewed(&mut self, host: HostId, verdict: Verdict, holding: bool, sent_at: Timestamp, now: Timestamp) {
        match verdict {
            Verdict::Valid { guaranteed } if holding => {
                let limits = self.limits(sent_at, now, guaranteed);
                self.extend_guardian(host, limits.until);
                let mind = &mut self.hosts[host].agent.mind;
                if let LeaseView::Held { until, demote_at, unavailable_since, .. } = &mut mind.lease_view {
                    *until = limits.until.max(*until);
                    *demote_at = limits.demote_at.max(*demote_at);
                    *unavailable_since = None;
                }
            }
            Verdict::Gone | Verdict::NotHolding => {
                let mind = &mut self.hosts[host].agent.mind;
                if verdict == Verdict::Gone {
                    mind.lease = None;
                    let ttl = self.scenario.ttl;
                    self.ask_store(host, Operation::Grant { ttl }, Purpose::Grant);
                }
                let mind = &mut self.hosts[host].agent.mind;
                if let LeaseView::Held { demote_at, .. } = mind.lease_view {
                    mind.lease_view = LeaseView::Rejected { at: now, good_until: demote_at };
                    self.note(host, "lease", &[2], || "renewal rejected".to_owned());
                    self.wake(host);
                }
            }
            _ => {}
        }
    }

    /// The leader key was written, or not.
    fn taken(&mut self, host: HostId, (id, over): (u64, bool), verdict: Verdict, cluster: &Cluster) {
        let mind = &self.hosts[host].agent.mind;
        let (Verdict::Applied(revision), Some(lease)) = (verdict, mind.lease) else {
            return self.action_answered(host, id, false);
        };
        // A key that changes hands keeps the revision of its creation.
        let known = cluster.leader.as_ref().filter(|_| !over);
        let term = known.map_or(Term(revision.0), |leader| leader.term);
        if over {
            self.check_take_over(host);
        }
        let proof = Purpose::Proof { id, term, revision };
        self.ask_store(host, Operation::KeepAlive { lease, holding: true }, proof);
    }

    fn proved(
        &mut self,
        host: HostId,
        id: u64,
        term: Term,
        revision: Revision,
        verdict: Verdict,
        (sent_at, now): (Timestamp, Timestamp),
    ) {
        let Verdict::Valid { guaranteed } = verdict else { return self.action_answered(host, id, false) };
        let limits = self.limits(sent_at, now, guaranteed);
        self.hosts[host].agent.mind.lease_view = LeaseView::Held {
            until: limits.until,
            demote_at: limits.demote_at,
            term,
            revision,
            unavailable_since: None,
        };
        self.check_founder_is_guarded(host);
        if term.0 == revision.0 {
            self.check_winner_answers(host);
            self.check_winner_may_lead(host);
        }
        self.note(host, "lease", &[1, term.0], || format!("holds the leader lock, term {}", term.0));
        self.extend_guardian(host, limits.until);
        self.action_answered(host, id, true);
        self.wake(host);
    }

    fn limits(&self, sent_at: Timestamp, answered_at: Timestamp, guaranteed: Nanos) -> lease::LeaseLimits {
        let guaranteed = self.bug.guaranteed(guaranteed, self.scenario.ttl);
        lease::limits(self.bug.lease_begins(sent_at, answered_at), Duration::from_nanos(guaranteed))
    }

    /// A guardian that holds a deadline gets the new one; arming one is a decision.
    fn extend_guardian(&mut self, host: HostId, until: Timestamp) {
        if self.hosts[host].guardian.deadline.is_some() {
            self.arm_guardian(host, until);
        }
    }

    /// Every member accepted: as good as a renewal.
    pub(crate) fn extend_by_failsafe(&mut self, host: HostId, began_at: Timestamp, good_for: Duration) {
        let limits = lease::limits(began_at, good_for);
        if !matches!(self.hosts[host].agent.mind.lease_view, LeaseView::Held { .. }) {
            return;
        }
        self.extend_guardian(host, limits.until);
        if let LeaseView::Held { until, demote_at, .. } = &mut self.hosts[host].agent.mind.lease_view {
            *until = limits.until.max(*until);
            *demote_at = limits.demote_at.max(*demote_at);
        }
    }
}

/// Anything but positions and times changed.
fn concerns_others(before: &Cluster, after: &Cluster) -> bool {
    let same_members = before.members.len() == after.members.len()
        && before.members.values().zip(after.members.values()).all(|(a, b)| {
            a.revision == b.revision
                || (a.name == b.name
                    && a.role == b.role
                    && a.state == b.state
                    && a.timeline == b.timeline
                    && a.checkpoint_after_promote == b.checkpoint_after_promote
                    && a.pause == b.pause
                    && a.tags == b.tags)
        });
    let revision = |keyed: Option<Revision>| keyed;
    !same_members
        || before.leader != after.leader
        || before.initialize != after.initialize
        || revision(before.config.as_ref().map(|k| k.revision)) != after.config.as_ref().map(|k| k.revision)
        || before.failover != after.failover
        || before.sync != after.sync
        || before.takeover != after.takeover
}
