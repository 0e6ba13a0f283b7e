//! Is the leader gone? What this member hears, what the leader's agent answers, and what the others hear. Asking changes nothing, so one
//! member that has gone deaf disturbs nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{MemberName, Timestamp};

use super::Case;
use crate::{
    Action, Reason, View, candidate,
    draft::Draft,
    memory::{Attempt, TakeoverMemory},
    view::{PeerAnswer, PeerReport},
};

/// How soon the electorate is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// An answer of the leader's agent is waited for no longer than this, and no less.
const LEADER_PATIENCE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// A silence of a leader that lived all the same makes the next one suspicious only after so many halves of it, for so long: links that are
/// slow at times, or a machine that is busy, cost time and no take-over. Silence is no more than twice `detect_timeout` long, whatever was seen.
const SURVIVED: u32 = 3;
const REMEMBERED: Duration = Duration::from_secs(600);

/// Since when this member got nothing from the leader, if it listens to it at all.
fn heard_at(view: &View, case: &Case) -> Option<Timestamp> {
    let hearing = view.takeover.hearing.as_ref()?;
    hearing.upstream.same_standby(&case.leader.name).then_some(hearing.heard_at)
}

/// This member has got nothing for so long that it would suspect the leader.
pub(super) fn is_deaf(view: &View, case: &Case) -> bool {
    heard_at(view, case).is_some_and(|at| view.now.since(at) >= view.settings.detect_timeout)
}

/// It has been quiet for so long that asking is worth it. Wakes the loop when that will be so.
pub(super) fn is_silent(draft: &mut Draft, case: &Case) -> bool {
    let view = draft.view;
    if draft.memory.takeover.leader != Some(case.leader.revision) {
        let TakeoverMemory { closed, survived, .. } = draft.memory.takeover;
        let leader = Some(case.leader.revision);
        draft.memory.takeover = TakeoverMemory { leader, closed, survived, ..TakeoverMemory::default() };
    }
    // Who streams from somebody else has nothing to tell of the leader; it may confirm what others suspect.
    let Some(heard_at) = heard_at(view, case) else { return case.live_epoch().is_some() };
    learn_from_silence(draft, heard_at);
    let half = view.settings.detect_timeout / 2;
    draft.wake_by(later(view.now, heard_at + half));
    draft.wake_by(later(view.now, heard_at + view.settings.detect_timeout));
    draft.wake_by(later(view.now, heard_at + view.settings.detect_timeout + indulgence(draft)));
    view.now.since(heard_at) >= half
}

/// Remembers how long the leader was silent when it was heard again.
fn learn_from_silence(draft: &mut Draft, heard_at: Timestamp) {
    let now = draft.view.now;
    let silence = now.since(heard_at);
    let memory = &mut draft.memory.takeover;
    let Some((before, longest)) = memory.quiet else {
        memory.quiet = Some((heard_at, silence));
        return;
    };
    // The same moment may be told with a few milliseconds more or less.
    if heard_at < before + longest / 2 {
        memory.quiet = Some((before, longest.max(silence)));
        return;
    }
    memory.quiet = Some((heard_at, silence));
    let is_longer = memory.survived.is_none_or(|(most, at)| longest >= most || now.since(at) >= REMEMBERED);
    if is_longer {
        memory.survived = Some((longest, now));
    }
}

/// How much longer than `detect_timeout` this leader may be silent, after what was seen of late.
fn indulgence(draft: &Draft) -> Duration {
    let detect = draft.view.settings.detect_timeout;
    let survived = draft.memory.takeover.survived;
    let survived = survived.filter(|(_, at)| draft.view.now.since(*at) < REMEMBERED);
    survived
        .map_or(Duration::ZERO, |(longest, _)| (longest * SURVIVED / 2).saturating_sub(detect).min(detect))
}

/// Moments that have passed are no reason to wake up.
fn later(now: Timestamp, at: Timestamp) -> Timestamp {
    if at > now { at } else { Timestamp::MAX }
}

/// This member is sure enough to act: silence for `detect_timeout`, and no word from the leader's agent.
pub(super) fn is_gone(draft: &mut Draft, case: &Case) -> bool {
    let view = draft.view;
    let detect = view.settings.detect_timeout;
    let heard_at = heard_at(view, case);
    learn(draft, case);
    let memory = &draft.memory.takeover;
    let since = heard_at.map_or(Timestamp::ZERO, |at| at + detect / 2);
    let is_recent = |at: &Timestamp| *at >= since && view.now.since(*at) < detect + detect;
    if !memory.unanswered_at.as_ref().is_some_and(is_recent) {
        if memory.answered_at.as_ref().is_some_and(is_recent) {
            draft.note(Reason::TakeoverLeaderAnswers { leader: case.leader.name.clone() });
        } else {
            draft.note(Reason::SuspectingLeader { leader: case.leader.name.clone() });
        }
        ask_everybody(draft, case);
        return false;
    }
    let patience = detect + indulgence(draft);
    heard_at.is_none_or(|at| view.now.since(at) >= patience)
}

/// Takes in the last round of answers.
fn learn(draft: &mut Draft, case: &Case) {
    let peers = &draft.view.peers;
    let Some(polled_at) = peers.polled_at else { return };
    match peers.answers.get(&case.leader.name) {
        Some(PeerAnswer::Answered(_)) => {
            draft.memory.takeover.answered_at = Some(polled_at);
            draft.memory.takeover.unanswered_at = None;
        }
        Some(PeerAnswer::Unreachable { .. }) => draft.memory.takeover.unanswered_at = Some(polled_at),
        None => return,
    }
    // A round that asks the dead lasts as long as it may: those who answered are asked alone.
    let answered = peers.answers.iter().filter(|(_, answer)| matches!(answer, PeerAnswer::Answered(_)));
    draft.memory.takeover.living = answered.map(|(name, _)| name.clone()).collect();
}

fn ask_everybody(draft: &mut Draft, case: &Case) {
    let view = draft.view;
    let mut members = case.others(&view.me.name);
    let leader = case.cluster.leader_member().and_then(|leader| leader.api_url.clone());
    members.extend(leader.map(|url| (case.leader.name.clone(), url)));
    let [shortest, longest] = LEADER_PATIENCE;
    // Up to the moment at which its silence would be enough.
    let timeout = (view.settings.detect_timeout / 2).clamp(shortest, longest) + indulgence(draft);
    draft.every(timeout + ASK_AGAIN, Attempt::AskSuspect, Action::PollPeers { members, timeout });
}

/// What those say who answered in the last round: asks them again, and again.
pub(super) fn ask_the_living(draft: &mut Draft, case: &Case, again: Duration) {
    let living: BTreeSet<MemberName> = draft.memory.takeover.living.clone();
    let members: BTreeMap<MemberName, String> =
        case.others(&draft.view.me.name).into_iter().filter(|(name, _)| living.contains(name)).collect();
    if !members.is_empty() {
        let timeout = candidate::timeout(draft.view);
        draft.every(again, Attempt::AskVoters, Action::PollPeers { members, timeout });
    }
}

/// Enough of the electorate has stopped hearing the leader, and nobody hears it.
pub(super) fn is_shared(draft: &mut Draft, case: &Case) -> Result<(), Reason> {
    let view = draft.view;
    let mut deaf = 1;
    for (name, report) in reports(view, case) {
        if hears(view, case, report) {
            return Err(Reason::TakeoverVeto { name: name.clone(), leader: case.leader.name.clone() });
        }
        deaf += 1;
    }
    if case.is_enough(deaf) { Ok(()) } else { Err(Reason::TakeoverTooFew { quorum: case.sync.quorum }) }
}

/// A member that heard the leader a moment ago.
pub(super) fn hears(view: &View, case: &Case, report: &PeerReport) -> bool {
    report.takeover.heard.as_ref().is_some_and(|heard| {
        heard.from.same_standby(&case.leader.name)
            && Duration::from_millis(heard.ago_ms) < view.settings.detect_timeout
    })
}

/// What the electorate said in the last round.
pub(super) fn reports<'v>(
    view: &'v View,
    case: &'v Case,
) -> impl Iterator<Item = (&'v MemberName, &'v PeerReport)> {
    view.peers
        .answers
        .keys()
        .filter(|name| case.elects(name) && !view.is_me(name))
        .filter_map(|name| candidate::report(&view.peers, name).map(|report| (name, report)))
}

/// The last round began when the leader had been silent long enough for everybody to notice; or nobody is left to be asked.
pub(super) fn is_late_enough(draft: &Draft, case: &Case) -> bool {
    let view = draft.view;
    if !draft.memory.takeover.living.iter().any(|name| case.elects(name)) {
        return true;
    }
    let since = heard_at(view, case).map_or(Timestamp::ZERO, |at| at + view.settings.detect_timeout);
    view.peers.polled_at.is_some_and(|at| at >= since)
}
