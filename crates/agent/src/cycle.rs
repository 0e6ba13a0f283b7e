//! What the loop says in the log.
//!
//! By itself it tells a decision when it changes: a healthy day is nearly silent. Under the name `patroni` it tells the result
//! of every cycle, as the scripts of Patroni's users expect it: one line each `loop_wait`, after `Lock owner: ...` unless
//! nothing is done, with `PAUSE: ` in front while the cluster is paused.

use std::time::Duration;

use bellwether_ha::{Reason, View};
use bellwether_types::Timestamp;
use tracing::{Level, debug, error, info, warn};

use crate::peers::Told;

/// The target of the one line per cycle, by which the log tells it from others.
pub const CYCLE: &str = "bellwether_agent::heartbeat";

/// The answers of other members are told at most so often.
const ASKED_ALOUD: Duration = Duration::from_secs(1);

/// What has been said so far.
#[derive(Debug)]
pub(crate) struct Cycle {
    /// Every cycle is told, not only news.
    as_patroni: bool,
    /// What was told last, and when.
    told: Option<(Reason, bool)>,
    told_at: Timestamp,
    remarks: Vec<Reason>,
    lock_owner: String,
    /// When the other members' answers were told last.
    asked_at: Timestamp,
}

impl Cycle {
    pub(crate) fn new(as_patroni: bool) -> Self {
        Self {
            as_patroni,
            told: None,
            told_at: Timestamp::default(),
            remarks: Vec::new(),
            lock_owner: String::new(),
            asked_at: Timestamp::default(),
        }
    }

    /// When something is to be said again, even if nothing happens.
    pub(crate) fn due_at(&self, view: &View) -> Timestamp {
        if self.as_patroni { self.told_at + view.settings.loop_wait } else { Timestamp::MAX }
    }

    /// Tells the decision: `reasons` has the deciding one first. True if that one is news.
    pub(crate) fn tell(&mut self, view: &View, reasons: &[Reason]) -> bool {
        let Some((reason, remarks)) = reasons.split_first() else { return false };
        let told = Some((reason.clone(), view.settings.pause));
        let is_news = self.told.as_ref().map(|(told, _)| told) != Some(reason);
        let is_due = view.now >= self.due_at(view);
        for remark in remarks.iter().filter(|remark| is_due || !self.remarks.contains(remark)) {
            tell(level(remark), &remark.sentence());
        }
        self.remarks = remarks.to_vec();
        if self.as_patroni && (is_due || self.told != told) {
            self.tell_result(view, reason, is_due);
            self.told_at = view.now;
        } else if is_news {
            info!(reason = reason.code(), leader = ?leader_of(view), "{}", reason.sentence());
        } else {
            debug!(reason = reason.code(), remarks = remarks.len(), "{}", reason.sentence());
        }
        self.told = told;
        is_news
    }

    /// How loud the answers of other members are told: what they said stands in the journal anyhow.
    pub(crate) fn loudness(&mut self, now: Timestamp) -> Told {
        if !self.as_patroni || now.since(self.asked_at) < ASKED_ALOUD {
            return Told::Quietly;
        }
        self.asked_at = now;
        Told::Aloud
    }

    /// A cycle that took longer than the time to the next one.
    pub(crate) fn tell_slow(&self, view: &View, now: Timestamp) {
        let took = now.since(view.now);
        if took > view.settings.loop_wait {
            let took_ms = took.as_millis() as u64;
            if self.as_patroni {
                warn!(took_ms, "Loop time exceeded, rescheduling immediately.");
            } else {
                debug!(took_ms, "a cycle took longer than loop_wait");
            }
        }
    }

    fn tell_result(&mut self, view: &View, reason: &Reason, is_due: bool) {
        let sentence = reason.sentence();
        let owner = format!("Lock owner: {}; I am {}", leader_of(view).unwrap_or("None"), view.me.name);
        // Who reads along wants to know who leads when something is done.
        let is_quiet = sentence.starts_with("no action");
        if tracing::enabled!(Level::DEBUG) || (!is_quiet && (is_due || owner != self.lock_owner)) {
            info!("{owner}");
            self.lock_owner = owner;
        }
        for (weight, line) in before(reason) {
            tell(*weight, line);
        }
        let pause = if view.settings.pause { "PAUSE: " } else { "" };
        match level(reason) {
            Weight::Info => info!(target: CYCLE, "{pause}{sentence}"),
            Weight::Warning => warn!(target: CYCLE, "{pause}{sentence}"),
            Weight::Error => error!(target: CYCLE, "{pause}{sentence}"),
            Weight::Critical => error!(target: CYCLE, critical = true, "{pause}{sentence}"),
        }
    }
}

/// What Patroni says besides, just before the result.
fn before(reason: &Reason) -> &'static [(Weight, &'static str)] {
    const SILENT: (Weight, &str) = (Weight::Error, "Error communicating with DCS");
    match reason {
        Reason::StoreUnreachable | Reason::ContinueByFailsafe => &[SILENT],
        Reason::LeaseRunningOut => {
            &[SILENT, (Weight::Info, "demoting self because DCS is not accessible and I was a leader")]
        }
        Reason::FailingOverAfterCrash => &[(Weight::Info, "Primary crashed. Failing over.")],
        Reason::ReplicaWithoutInitialize => {
            &[(Weight::Error, "Please first start Patroni on the node running as primary")]
        }
        Reason::SyncChangedBySomebody => {
            &[(Weight::Info, "Synchronous replication key updated by someone else")]
        }
        Reason::PrePromoteFailed => {
            &[(Weight::Warning, "Releasing the leader key voluntarily because the pre-promote script failed")]
        }
        Reason::PausedNotRunning | Reason::StartingPrimary | Reason::StartingSecondary => {
            &[(Weight::Warning, "Postgresql is not running.")]
        }
        _ => &[],
    }
}

fn tell(weight: Weight, line: &str) {
    match weight {
        Weight::Info => info!("{line}"),
        Weight::Warning => warn!("{line}"),
        Weight::Error => error!("{line}"),
        Weight::Critical => error!(critical = true, "{line}"),
    }
}

/// The level that people filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Info,
    Warning,
    Error,
    Critical,
}

fn level(reason: &Reason) -> Weight {
    match reason {
        Reason::SystemIdMismatch { .. } => Weight::Critical,
        Reason::ReplicaWithoutInitialize | Reason::ShutdownStopFailed => Weight::Error,
        Reason::PrimaryAlive { .. }
        | Reason::WatchdogNotUsable
        | Reason::RequestAlreadyLeader { .. }
        | Reason::RequestLeaderMismatch { .. }
        | Reason::RequestNeedsCandidate { .. }
        | Reason::RequestNoCandidates { .. }
        | Reason::RequestNoHealthyMembers { .. }
        | Reason::RequestNotInSync { .. }
        | Reason::StaleScheduled { .. }
        | Reason::SyncStrictDelays { .. } => Weight::Warning,
        _ => Weight::Info,
    }
}

fn leader_of(view: &View) -> Option<&str> {
    Some(view.store.cluster.as_ref()?.leader_name()?.as_str())
}
