//! What counts as a sign of trouble, and how long it must last before it is an alarm.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{Alarm, Timestamp, settings::WalDiskMode};

use super::REST;
use crate::{
    View,
    timing::{self, Verdict},
    view::{
        Process,
        health::{Disk, ProbeFailure, ProbeStage, Stopped},
    },
};

/// A healthy server may take so long for a commit, a busy one with a `loop_wait` that is longer.
const SLOW: Duration = Duration::from_secs(2);
/// Commits are tried no more often.
pub(super) const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// Tools that look into a process may stop it for a moment.
pub(super) const FROZEN_FOR: Duration = Duration::from_secs(1);
pub(super) const READ_ONLY_FOR: Duration = Duration::from_secs(1);
pub(super) const FULL_FOR: Duration = Duration::from_secs(2);
/// PostgreSQL stops with a PANIC when it finds no room for the next segment of 16 MB.
const NO_ROOM: u64 = 2 * 16 * 1024 * 1024;

/// A machine may be slow for a moment.
const UNUSUAL_FOR: Duration = Duration::from_secs(60);

/// All that is seen now.
pub(super) fn of(view: &View, gave_up_at: Option<Timestamp>) -> BTreeSet<Alarm> {
    let mut seen = BTreeSet::new();
    let mut add = |is_seen: bool, alarm: Alarm| {
        if is_seen {
            seen.insert(alarm);
        }
    };
    let leads = view.is_primary() && view.held().is_some();
    let runs = matches!(view.postgres.process, Process::Running { .. });
    add(runs && view.health.stopped == Stopped::Everything, Alarm::PostgresFrozen);
    add(runs && view.health.stopped == Stopped::Postmaster, Alarm::PostmasterFrozen);
    if leads && runs && view.health.stopped != Stopped::Everything {
        commits(view, &mut add);
        let activity = view.health.activity.as_ref().filter(|_| view.server().is_some());
        let is_exhausted =
            activity.is_some_and(|seen| seen.clients_allowed > 0 && seen.clients >= seen.clients_allowed);
        add(is_exhausted, Alarm::ConnectionsExhausted);
    }
    if let Some(disks) = &view.health.disks {
        if view.settings.wal_disk_guard.mode != WalDiskMode::Off {
            add(is_full(&disks.wal), Alarm::WalDiskFull);
            let is_filling =
                disks.wal.full_in.is_some_and(|left| left <= view.settings.wal_disk_guard.forecast);
            add(is_filling && leads, Alarm::WalDiskFilling);
            add(is_full(&disks.data), Alarm::DataDiskFull);
        }
        add(disks.wal.read_only || disks.data.read_only, Alarm::DiskReadOnly);
    }
    let least = Duration::from_secs(1);
    let verdict = timing::verdict(view.settings.ttl, &view.health.measured, least);
    add(verdict == Verdict::TooTight, Alarm::TimingTooTight);
    add(view.health.checksum_failures > 0, Alarm::ChecksumFailures);
    add(gave_up_at.is_some_and(|at| view.now.since(at) < REST), Alarm::GaveUpLeading);
    seen
}

fn commits(view: &View, add: &mut impl FnMut(bool, Alarm)) {
    let slow = slow(view);
    // A server that says nothing at all commits nothing either. (On a busy machine an answer may be late.)
    let is_silent = view.server().is_none()
        && view.postgres.server.as_ref().is_some_and(|last| view.now.since(last.answered_at) >= 2 * slow);
    add(is_silent, Alarm::CommitsStall);
    let Some(probe) = &view.health.probe else { return };
    let lasts = view.now.since(probe.began_at);
    match &probe.stage {
        ProbeStage::Committing if lasts >= slow && !is_silent => {
            let waits = view.health.activity.as_ref().is_some_and(|seen| seen.probe_waits_for_standbys);
            add(true, if waits { Alarm::CommitsWaitForStandby } else { Alarm::CommitsStall });
        }
        ProbeStage::Failed { why } => match why {
            ProbeFailure::NoConnectionLeft => add(true, Alarm::ConnectionsExhausted),
            ProbeFailure::NoConnection => add(true, Alarm::PostmasterFrozen),
            ProbeFailure::DiskFull => add(true, Alarm::WalDiskFull),
            ProbeFailure::Other(_) => {}
        },
        ProbeStage::Connecting | ProbeStage::Committing | ProbeStage::Committed { .. } => {}
    }
}

/// A commit that takes longer is told of.
pub(super) fn slow(view: &View) -> Duration {
    SLOW.max(view.settings.loop_wait)
}

fn is_full(disk: &Disk) -> bool {
    disk.size > 0 && disk.free < NO_ROOM
}

/// How long a sign must last before it is an alarm.
pub(super) fn patience(view: &View, alarm: Alarm) -> Duration {
    match alarm {
        Alarm::ConnectionsExhausted | Alarm::PostmasterFrozen => slow(view),
        Alarm::PostgresFrozen => FROZEN_FOR,
        Alarm::DiskReadOnly => READ_ONLY_FOR,
        Alarm::WalDiskFull | Alarm::DataDiskFull => FULL_FOR,
        Alarm::TimingTooTight => UNUSUAL_FOR,
        // The probe itself was waited for.
        _ => Duration::ZERO,
    }
}

/// An alarm stands for so long after its last sign: what comes and goes is told once.
pub(super) fn linger(alarm: Alarm) -> Duration {
    match alarm {
        Alarm::GaveUpLeading => Duration::from_nanos(1),
        Alarm::TimingTooTight => 10 * UNUSUAL_FOR,
        _ => Duration::from_secs(10),
    }
}
