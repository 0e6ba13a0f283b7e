//! A member that speaks like Patroni, and is as slow: what the others have to get along with while a cluster is migrated.
//!
//! It decides by the same core, so it keeps the rules that both have. What differs is all that others see of it, and when it acts:
//!
//! - it announces no protocol of ours in its key, so nobody takes over quickly while it is there;
//! - it does not say when it looked up its position, nor for how long it keeps to a failsafe acceptance, nor that it is at rest;
//! - it takes no numbers for timelines, records no founder, and leaves `/failsafe` as it is when the mode is off;
//! - it looks at the cluster once per `loop_wait`, and in between only when the leader key or `/config` changes;
//! - it renews its lease in that loop alone, and nothing guards its PostgreSQL but itself: faults of its agent are left out.
//!
//! Not modelled: Patroni's own weak spots, such as a belief that is counted from the answer, or names that count before they are in force.

use bellwether_ha::{
    Action, Decision, View,
    view::{AsOf, PeerReport},
};
use bellwether_types::{
    cluster::{Cluster, Member},
    takeover::Word,
};

use crate::{
    bug::Bug,
    event::HostId,
    faults::Fault,
    random::Random,
    scenario::Scenario,
    schedule::{Nanos, SECONDS},
    world::World,
};

impl Scenario {
    /// A few of the worlds have one.
    pub(crate) fn draw_patroni(&mut self, bug: Bug, random: &mut Random) {
        if bug != Bug::None || self.sites || !random.percent(12) {
            return;
        }
        let host = random.index(self.members);
        self.patroni = Some(host);
        // Where Patroni is, its limits hold everywhere.
        let (ttl, loop_wait, retry_timeout) = (30, 10, 10);
        (self.ttl, self.loop_wait) = (ttl * SECONDS, loop_wait * SECONDS);
        self.settings.ttl = std::time::Duration::from_secs(ttl);
        self.settings.loop_wait = std::time::Duration::from_secs(loop_wait);
        self.settings.retry_timeout = std::time::Duration::from_secs(retry_timeout);
        let is_survived = |fault: &Fault| match fault {
            Fault::KillAgent { host: at, .. }
            | Fault::FreezeAgent { host: at }
            | Fault::KillGuardian { host: at }
            | Fault::Suspend { host: at } => *at != host,
            _ => true,
        };
        self.faults.retain(|planned| is_survived(&planned.fault));
        // Its own promises end after 20 s, which is less than the `ttl` that it would have to keep.
        self.faults.retain(|planned| !matches!(planned.fault, Fault::ShorterTtl { .. }));
    }
}

impl World {
    pub(crate) fn is_patroni(&self, host: HostId) -> bool {
        self.scenario.patroni == Some(host)
    }

    /// Its guardian is none.
    pub(crate) fn has_guardian(&self, host: HostId) -> bool {
        self.scenario.guardian && !self.is_patroni(host)
    }

    /// The decision without what Patroni does not do.
    pub(crate) fn decide_for(&self, host: HostId, view: &View) -> Decision {
        let mut decision = self.bug.decide(view);
        if self.is_patroni(host) {
            for action in &mut decision.actions {
                match action {
                    Action::AcquireLease { timeline, .. } => *timeline = None,
                    // It takes the lock first, and writes what is missing afterwards.
                    Action::RestoreKeys(keys) => {
                        *action = Action::AcquireLease { sync: keys.sync_revision, timeline: None };
                    }
                    Action::Promote { taken, .. } => *taken = None,
                    _ => {}
                }
            }
            let is_unknown = |action: &Action| match action {
                Action::WriteFailsafe { map } => map.0.is_empty(),
                action => matches!(action, Action::ProbeCommit),
            };
            decision.actions.retain(|action| !is_unknown(action));
        }
        decision
    }

    pub(crate) fn as_patroni_reports(report: PeerReport) -> PeerReport {
        PeerReport {
            as_of: AsOf::Unsaid,
            takeover: Word::default(),
            at_rest: false,
            holds_lock: false,
            unfit: false,
            ..report
        }
    }

    pub(crate) fn as_patroni_publishes(member: Member) -> Member {
        Member { version: Some("4.1.4".to_owned()), bellwether: None, ..member }
    }

    /// What wakes its loop.
    pub(crate) fn wakes_patroni(before: Option<&Cluster>, after: &Cluster) -> bool {
        let config = |cluster: &Cluster| cluster.config.as_ref().map(|keyed| keyed.revision);
        before.is_none_or(|before| before.leader != after.leader || config(before) != config(after))
    }

    /// How far apart its renewals are.
    pub(crate) fn renewal_pace(&self, host: HostId) -> Nanos {
        if self.is_patroni(host) { self.scenario.loop_wait } else { self.renewal_period() }
    }
}
