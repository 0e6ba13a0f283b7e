//! What the loop says in the log.
//!
//! By itself it tells a decision when it changes: a healthy day is nearly silent. Under the name `patroni` it tells the result
//! of every cycle, as the scripts of Patroni's users expect it: one line each `loop_wait`, after `Lock owner: ...` unless
//! nothing is done, with `PAUSE: ` in front while the cluster is paused.

use std::time::Duration;

use bellwether_ha::{Reason, View, view::JobKind};
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
    /// Remarks, and when each came up last: one that comes and goes is told once.
    remarks: Vec<(Reason, Timestamp)>,
    lock_owner: String,
    /// Where the copy that runs, or ran last, comes from: `from leader 'a'`.
    copy: Option<String>,
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
            copy: None,
            asked_at: Timestamp::default(),
        }
    }

    /// When something is to be said again, even if nothing happens.
    pub(crate) fn due_at(&self, view: &View) -> Timestamp {
        if self.as_patroni { self.told_at + view.settings.loop_wait } else { Timestamp::MAX }
    }

    /// Tells the decision: `reasons` has the deciding one first. True if that one is news.
    pub(crate) fn tell(&mut self, view: &View, reasons: &[Reason]) -> bool {
        let Some(reason) = reasons.first() else { return false };
        let scene = Scene {
            now: view.now,
            forget_after: 2 * view.settings.loop_wait,
            is_due: view.now >= self.due_at(view),
            is_paused: view.settings.pause,
            leader: leader_of(view),
            me: view.me.name.as_str(),
            everything: tracing::enabled!(Level::DEBUG),
        };
        let is_news = self.told.as_ref().map(|(told, _)| told) != Some(reason);
        let lines = self.lines(&scene, reasons);
        let is_told = lines.iter().any(|line| line.is_result);
        for line in &lines {
            line.tell();
        }
        if is_told {
            self.told_at = view.now;
        } else if is_news {
            info!(reason = reason.code(), leader = ?scene.leader, "{}", reason.sentence());
        } else {
            debug!(reason = reason.code(), remarks = reasons.len() - 1, "{}", reason.sentence());
        }
        is_news
    }

    /// What is to be said now: remarks that are new, and under the name `patroni` the result.
    fn lines(&mut self, scene: &Scene, reasons: &[Reason]) -> Vec<Line> {
        let Some((reason, remarks)) = reasons.split_first() else { return Vec::new() };
        self.remarks.retain(|(_, at)| scene.now.since(*at) < scene.forget_after);
        let mut lines = Vec::new();
        for remark in remarks {
            let known = self.remarks.iter_mut().find(|(known, _)| known == remark);
            if known.is_none() || scene.is_due {
                lines.push(Line::new(weight(remark), remark.sentence()));
            }
            match known {
                Some((_, at)) => *at = scene.now,
                None => self.remarks.push((remark.clone(), scene.now)),
            }
        }
        self.copy = copy_of(reason).or(self.copy.take());
        let told = Some((reason.clone(), scene.is_paused));
        if self.as_patroni && (scene.is_due || self.told != told) {
            self.add_result(scene, reason, &mut lines);
        }
        self.told = told;
        lines
    }

    fn add_result(&mut self, scene: &Scene, reason: &Reason, lines: &mut Vec<Line>) {
        let sentence = match (reason, &self.copy) {
            (Reason::InProgress { action }, Some(copy)) if *action == JobKind::Clone.as_str() => {
                format!("bootstrap {copy} in progress")
            }
            _ => reason.sentence(),
        };
        let owner = format!("Lock owner: {}; I am {}", scene.leader.unwrap_or("None"), scene.me);
        // Who reads along wants to know who leads when something is done.
        let is_quiet = sentence.starts_with("no action");
        if scene.everything || (!is_quiet && (scene.is_due || owner != self.lock_owner)) {
            lines.push(Line::new(Weight::Info, owner.clone()));
            self.lock_owner = owner;
        }
        lines.extend(before(reason).iter().map(|(weight, text)| Line::new(*weight, (*text).to_owned())));
        // The last line is not that of a cycle.
        let has_prefix = scene.is_paused && *reason != Reason::ShutdownPaused;
        let pause = if has_prefix { "PAUSE: " } else { "" };
        lines.push(Line { is_result: true, ..Line::new(weight(reason), format!("{pause}{sentence}")) });
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
}

/// What the lines of a cycle depend on besides its reasons.
struct Scene<'a> {
    now: Timestamp,
    /// A remark that has not come up for so long is news again.
    forget_after: Duration,
    is_due: bool,
    is_paused: bool,
    leader: Option<&'a str>,
    me: &'a str,
    /// At this level nothing is left out.
    everything: bool,
}

/// A line to be told.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    weight: Weight,
    text: String,
    is_result: bool,
}

impl Line {
    fn new(weight: Weight, text: String) -> Self {
        Self { weight, text, is_result: false }
    }

    fn tell(&self) {
        let text = &self.text;
        match (self.weight, self.is_result) {
            (Weight::Info, true) => info!(target: CYCLE, "{text}"),
            (Weight::Info, false) => info!("{text}"),
            (Weight::Warning, true) => warn!(target: CYCLE, "{text}"),
            (Weight::Warning, false) => warn!("{text}"),
            (Weight::Error, true) => error!(target: CYCLE, "{text}"),
            (Weight::Error, false) => error!("{text}"),
            (Weight::Critical, true) => error!(target: CYCLE, critical = true, "{text}"),
            (Weight::Critical, false) => error!(critical = true, "{text}"),
        }
    }
}

/// Where a copy comes from that this decision begins.
fn copy_of(reason: &Reason) -> Option<String> {
    match reason {
        Reason::CloneFromLeader { name } => Some(format!("from leader '{name}'")),
        Reason::CloneFromReplica { name } => Some(format!("from replica '{name}'")),
        Reason::CloneWithoutLeader => Some("(without leader)".to_owned()),
        _ => None,
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

/// The level that people filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Info,
    Warning,
    Error,
    Critical,
}

fn weight(reason: &Reason) -> Weight {
    match reason {
        Reason::SystemIdMismatch { .. } => Weight::Critical,
        Reason::ReplicaWithoutInitialize | Reason::ShutdownStopFailed | Reason::SlotNameTaken { .. } => {
            Weight::Error
        }
        Reason::PrimaryAlive { .. }
        | Reason::FeedbackIsOff
        | Reason::LogicalSlotMismatch { .. }
        | Reason::LogicalSlotsHaveNoRoom { .. }
        | Reason::LogicalSlotsNotReady { .. }
        | Reason::SlotMissingOnPrimary { .. }
        | Reason::SlotNameShared { .. }
        | Reason::WatchdogNotUsable
        | Reason::RequestAlreadyLeader { .. }
        | Reason::RequestLeaderMismatch { .. }
        | Reason::RequestNeedsCandidate { .. }
        | Reason::RequestNoCandidates { .. }
        | Reason::RequestNoHealthyMembers { .. }
        | Reason::RequestNotInSync { .. }
        | Reason::StandbyLeftOut { .. }
        | Reason::TroubleHandingOver { .. }
        | Reason::TroubleWithoutHeir { .. }
        | Reason::StaleScheduled { .. }
        | Reason::SyncStrictDelays { .. } => Weight::Warning,
        _ => Weight::Info,
    }
}

fn leader_of(view: &View) -> Option<&str> {
    Some(view.store.cluster.as_ref()?.leader_name()?.as_str())
}

#[cfg(test)]
mod tests {
    use bellwether_types::MemberName;

    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn following() -> Reason {
        Reason::SecondaryFollowing { me: name("b"), leader: name("a") }
    }

    fn scene() -> Scene<'static> {
        Scene {
            now: Timestamp::from_millis(100_000),
            forget_after: Duration::from_secs(20),
            is_due: false,
            is_paused: false,
            leader: Some("a"),
            me: "b",
            everything: false,
        }
    }

    fn texts(cycle: &mut Cycle, scene: Scene<'_>, reasons: &[Reason]) -> Vec<String> {
        cycle.lines(&scene, reasons).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_cycle_is_told_when_it_is_due_or_news() {
        let mut cycle = Cycle::new(true);
        let line = "no action. I am (b), a secondary, and following a leader (a)";
        assert_eq!(texts(&mut cycle, scene(), &[following()]), [line]);
        assert!(texts(&mut cycle, scene(), &[following()]).is_empty(), "nothing new, and not due");
        assert_eq!(texts(&mut cycle, Scene { is_due: true, ..scene() }, &[following()]), [line]);
        let paused = Scene { is_paused: true, ..scene() };
        assert_eq!(texts(&mut cycle, paused, &[following()]), [format!("PAUSE: {line}")]);
        let last = "Leader key is not deleted and Postgresql is not stopped due paused state";
        let paused = Scene { is_paused: true, ..scene() };
        assert_eq!(
            texts(&mut cycle, paused, &[Reason::ShutdownPaused]).last().map(String::as_str),
            Some(last)
        );
        let everything = Scene { everything: true, ..scene() };
        assert_eq!(texts(&mut cycle, everything, &[following()]), ["Lock owner: a; I am b", line]);
        assert!(texts(&mut Cycle::new(false), scene(), &[following()]).is_empty(), "as bellwether");
    }

    #[test]
    fn who_leads_is_told_before_something_is_done() {
        let mut cycle = Cycle::new(true);
        let unlocked = || Scene { leader: None, ..scene() };
        let remark = || Reason::PeerAhead { name: name("c") };
        let lost = [Reason::NotHealthiest, remark()];
        assert_eq!(
            texts(&mut cycle, unlocked(), &lost),
            [
                "Wal position of c is ahead of my wal position",
                "Lock owner: None; I am b",
                "following a different leader because i am not the healthiest node",
            ]
        );
        assert!(texts(&mut cycle, unlocked(), &lost).is_empty(), "remarks are not repeated either");
        assert_eq!(
            texts(&mut cycle, unlocked(), &[Reason::StoreUnreachable]),
            ["Error communicating with DCS", "DCS is not accessible"],
            "the owner was told a moment ago"
        );
    }

    #[test]
    fn a_remark_that_comes_and_goes_is_told_once() {
        let mut cycle = Cycle::new(false);
        let remark = Reason::PeerAhead { name: name("c") };
        let mut told_at = |seconds: u64, reasons: &[Reason]| {
            let now = Timestamp::from_millis(seconds * 1_000);
            texts(&mut cycle, Scene { now, ..scene() }, reasons).len()
        };
        let (with, without) = ([following(), remark], [following()]);
        assert_eq!(told_at(100, &with), 1);
        assert_eq!((told_at(101, &without), told_at(102, &with), told_at(121, &with)), (0, 0, 0));
        assert_eq!(told_at(142, &with), 1, "long ago");
    }

    #[test]
    fn a_copy_is_told_with_its_source() {
        let mut cycle = Cycle::new(true);
        texts(&mut cycle, scene(), &[Reason::CloneFromReplica { name: name("c") }]);
        let running = Reason::InProgress { action: JobKind::Clone.as_str().to_owned() };
        assert_eq!(texts(&mut cycle, scene(), &[running]), ["bootstrap from replica 'c' in progress"]);
    }

    #[test]
    fn levels_are_those_that_people_filter_by() {
        for (reason, expected) in [
            (following(), Weight::Info),
            (Reason::PrimaryAlive { name: name("c") }, Weight::Warning),
            (Reason::ReplicaWithoutInitialize, Weight::Error),
        ] {
            assert_eq!(weight(&reason), expected, "{reason:?}");
        }
    }
}
