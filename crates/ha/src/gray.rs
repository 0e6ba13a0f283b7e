//! Gray failures: PostgreSQL runs, the lease is renewed, and all the same nobody is served.
//!
//! [`look`] turns facts ([`crate::view::health`]) into alarms, on every member and in every tick; an alarm stands once its sign has
//! lasted. [`hand_over`] lets a primary in trouble step down, and only where that is sure to help: somebody else is well, has what a
//! stop would otherwise lose, and finds the votes that it needs. Who has stepped down is no heir for [`REST`], unless it is started
//! anew for that, so members that are all in trouble do not pass the leadership round. In the race for a free lock a member in trouble [stands back](stands_back_until) for a moment.
//!
//! A stuck synchronous standby is no reason to step down: it is left out of the next list, see [`is_stuck`].

mod probe;
mod signs;

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{Alarm, Lsn, MemberName, Timestamp, cluster::Cluster, settings::SyncMode};
use serde::{Deserialize, Serialize};

use crate::{
    Reason, View,
    action::DemoteMode,
    candidate::{self, Lag},
    compare,
    draft::Draft,
    fence, switchover,
};

/// Who has stepped down in trouble is not handed the leadership again for so long.
pub const REST: Duration = Duration::from_secs(600);
/// Who is in trouble itself leaves a free lock to others for so long. If nobody takes it, a leader in trouble is better than none.
const STAND_BACK: Duration = Duration::from_secs(1);
/// How soon members are asked again of which none could take over.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The same at first, for so long: one that was just started anew soon can.
const ASK_SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What must be remembered between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrayMemory {
    /// What is seen now, and since when without a break.
    pub signs: BTreeMap<Alarm, Timestamp>,
    /// What lasted, and is told.
    pub alarms: BTreeMap<Alarm, Standing>,
    /// Where the WAL was when a commit was tried last.
    pub tried_at: Option<Lsn>,
    pub gave_up_at: Option<Timestamp>,
    /// Nobody could take over when all were asked last.
    pub no_heir_at: Option<Timestamp>,
    /// Standbys (by `application_name`) that kept commits waiting, and what they must have before they count again.
    pub stuck: BTreeMap<String, Lsn>,
}

/// An alarm, from its first sign to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub since: Timestamp,
    pub last: Timestamp,
}

/// Takes note of what is wrong here. For every member, whatever it is doing.
pub(crate) fn look(draft: &mut Draft) {
    let view = draft.view;
    let now = view.now;
    let seen = signs::of(view, draft.memory.gray.gave_up_at);
    let gray = &mut draft.memory.gray;
    gray.signs.retain(|alarm, _| seen.contains(alarm));
    let mut due = None;
    for alarm in seen {
        let since = *gray.signs.entry(alarm).or_insert(now);
        let told_at = since + signs::patience(view, alarm);
        if told_at <= now {
            gray.alarms.entry(alarm).or_insert(Standing { since, last: now }).last = now;
        } else {
            due = Some(due.map_or(told_at, |due: Timestamp| due.min(told_at)));
        }
    }
    gray.alarms.retain(|alarm, standing| now.since(standing.last) < signs::linger(*alarm));
    if let Some(due) = due {
        draft.wake_by(due);
    }
    leave_out_stuck(draft);
    probe::try_commit(draft);
}

/// Whether a standby keeps commits waiting, and has not caught up since.
pub(crate) fn is_stuck(view: &View, application_name: &str, position: Lsn) -> bool {
    view.memory.gray.stuck.get(application_name).is_some_and(|needed| position < *needed)
}

fn leave_out_stuck(draft: &mut Draft) {
    let view = draft.view;
    let Some(server) = view.server().filter(|server| !server.in_recovery) else {
        draft.memory.gray.stuck.clear();
        return;
    };
    let position = |name: &str| {
        let of_it = server.standbys.iter().filter(|standby| standby.application_name == name);
        of_it.filter_map(|standby| crate::sync::acknowledged(server, standby)).max()
    };
    draft.memory.gray.stuck.retain(|name, needed| position(name).is_none_or(|position| position < *needed));
    let waiting_since = draft.memory.gray.signs.get(&Alarm::CommitsWaitForStandby).copied();
    let (Some(limit), Some(since)) = (view.settings.gray_failure_limit(), waiting_since) else { return };
    let Some(needed) = view.health.probe.as_ref().and_then(|probe| probe.at) else { return };
    if view.now.since(since) < limit {
        draft.wake_by(since + limit);
        return;
    }
    for standby in server.standbys.iter().filter(|standby| standby.sync_state != "async") {
        if position(&standby.application_name).is_some_and(|position| position < needed) {
            draft.memory.gray.stuck.insert(standby.application_name.clone(), needed);
            draft.note(Reason::StandbyLeftOut { name: standby.application_name.clone() });
        }
    }
}

/// The lock is free, and others may have it before this member, which is in trouble. Whom an operator has named does not wait.
pub(crate) fn stands_back_until(draft: &Draft, cluster: &Cluster) -> Option<Timestamp> {
    let view = draft.view;
    let until = draft.memory.unlocked_since? + STAND_BACK;
    let is_unfit = draft.memory.gray.alarms.keys().any(|alarm| alarm.makes_unfit());
    let request = switchover::due_request(view, cluster);
    let is_named = request.is_some_and(|request| request.candidate.as_ref() == Some(&view.me.name));
    (is_unfit && !view.is_primary() && !is_named && view.now < until).then_some(until)
}

/// The leader is in trouble for long enough: steps down if somebody is better off.
pub(crate) fn hand_over(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let limit = view.settings.gray_failure_limit()?;
    if view.settings.pause || !view.is_primary() || view.is_standby_cluster() || draft.is_busy() {
        return None;
    }
    let (alarm, remedy) = worst(draft, limit, has_voters(view, cluster))?;
    let began_at = draft.memory.gray.signs.get(&alarm).copied().unwrap_or(view.now);
    let (soon, at_first) = ASK_SOON;
    let pause = if view.now.since(began_at) < at_first { soon } else { ASK_AGAIN };
    if draft.memory.gray.no_heir_at.is_some_and(|at| view.now.since(at) < pause) {
        draft.wake_in(pause);
        return None;
    }
    let candidates = candidate::successors(view, cluster);
    let Some(peers) = candidate::fresh_answers(draft, &candidates) else { return Some(Reason::PollingPeers) };
    // Whoever wins by votes has all that was acknowledged. Where nobody votes, the last known end must be there.
    let end = view.postgres.server.as_ref().map_or(Lsn::ZERO, |server| server.position);
    let needs_end = remedy != DemoteMode::Graceful && !has_voters(view, cluster);
    let lag = if needs_end { Lag::AtLeast(end) } else { Lag::Tolerable };
    let is_well = |name: &&MemberName| {
        candidate::report(peers, name).is_some_and(|report| !report.unfit)
            && candidate::fit_to_lead(view, cluster, name, peers, lag).is_ok()
    };
    let heir = candidates.keys().find(is_well).cloned();
    let heir = heir.filter(|_| votes_suffice(view, cluster, &candidates.keys().collect::<Vec<_>>(), peers));
    let Some(heir) = heir else {
        draft.memory.gray.no_heir_at = Some(view.now);
        draft.note(Reason::TroubleWithoutHeir { alarm: alarm.code().to_owned() });
        return None;
    };
    // A frozen server is killed and started anew: what was wrong with it ends there, and the kernel does not report it by mistake.
    if alarm != Alarm::PostgresFrozen {
        draft.memory.gray.gave_up_at = Some(view.now);
    }
    draft.memory.gray.no_heir_at = None;
    let reason = Reason::TroubleHandingOver { alarm: alarm.code().to_owned(), heir };
    Some(fence::stop(draft, remedy, reason))
}

/// What was acknowledged is with those who elect, however this server ends.
fn has_voters(view: &View, cluster: &Cluster) -> bool {
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    sync.is_some_and(|sync| !sync.voters.is_empty())
}

/// Whoever wins the race needs so many answers.
fn votes_suffice(view: &View, cluster: &Cluster, voters: &[&MemberName], peers: &crate::view::Peers) -> bool {
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    let Some(sync) = sync.filter(|sync| compare::asks_for_votes(view, sync)) else { return true };
    let answering = voters.iter().filter(|name| sync.has_voter(name));
    let answering = answering
        .filter(|name| candidate::report(peers, name).is_some_and(|report| report.position.is_some()));
    answering.count() > sync.quorum as usize
}

/// The trouble that has lasted long enough, and the kind of stop that fits it.
fn worst(draft: &mut Draft, limit: Duration, has_voters: bool) -> Option<(Alarm, DemoteMode)> {
    let now = draft.now();
    let remedies = [
        // Where nobody votes, the last commits may be here alone, and are only lost if it is killed: that is left to people.
        (
            Alarm::PostgresFrozen,
            DemoteMode::Immediate,
            if has_voters { signs::FROZEN_FOR } else { Duration::MAX },
        ),
        // Nothing can be written any more, not even a checkpoint: what is there is what is.
        (Alarm::DiskReadOnly, DemoteMode::Immediate, signs::READ_ONLY_FOR),
        (Alarm::CommitsStall, DemoteMode::Immediate, limit),
        // Sessions that are there still work: everything is handed over in order.
        (Alarm::PostmasterFrozen, DemoteMode::Graceful, limit),
        (Alarm::WalDiskFull, DemoteMode::Graceful, signs::FULL_FOR),
    ];
    for (alarm, remedy, after) in remedies {
        let Some(&since) = draft.memory.gray.signs.get(&alarm) else { continue };
        if after == Duration::MAX {
            continue;
        }
        if now.since(since) >= after {
            return Some((alarm, remedy));
        }
        draft.wake_by(since + after);
    }
    None
}
