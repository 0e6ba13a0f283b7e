//! The order of the branches: what is looked at first, and what wins.
//!
//! Level-triggered: nothing is remembered as "the next step of a procedure"; each tick looks at the whole situation, finds
//! what is missing, and does that. Whoever wants to know what a member does in some situation reads [`tick`] from the top.

use bellwether_types::cluster::Cluster;

use crate::{
    Decision, Reason, View, bootstrap, demote,
    draft::Draft,
    failsafe, fence, following, gray, leading, member, pause, race, recovery, requests, restart, slots,
    takeover,
    view::{DataDirectory, JobKind, LeaseView, Process},
    wiped,
};

/// Chooses what this member does in one tick. Pure: the same view gives the same decision.
pub fn decide(view: &View) -> Decision {
    let mut draft = Draft::new(view);
    remember(&mut draft);
    gray::look(&mut draft);
    let reason = tick(&mut draft);
    member::publish(&mut draft);
    draft.finish(reason)
}

/// The rules in the order of their rank; the first that has something to say ends the tick.
fn tick(draft: &mut Draft) -> Reason {
    if let Some(reason) = fence::lost_right(draft) {
        return reason;
    }
    if let Some(reason) = demote::hand_over(draft) {
        requests::refuse_all(draft);
        return reason;
    }
    if draft.view.stopping {
        requests::refuse_all(draft);
        return demote::shut_down(draft);
    }
    if let Some(reason) = requests::answer(draft) {
        return reason;
    }
    let view = draft.view;
    let Some(cluster) = view.store.usable(view.now, view.patience()) else {
        return failsafe::without_store(draft);
    };
    if view.held().is_none() && is_from_before_our_lock(draft, cluster) {
        draft.note(Reason::ViewOlderThanOurLock);
        return failsafe::without_store(draft);
    }
    // `/history` tells of this cluster's own promotions; what a standby cluster has, it has from another one.
    let without_history;
    let cluster = if view.is_standby_cluster() && cluster.history.is_some() {
        without_history = Cluster { history: None, ..cluster.clone() };
        &without_history
    } else {
        cluster
    };
    pause::notice(draft);
    failsafe::upkeep(draft);
    if let Some(reason) = in_progress(draft, cluster) {
        return reason;
    }
    if let Some(reason) = bootstrap::complete(draft, cluster) {
        return reason;
    }
    if let Some(reason) = takeover::bound(draft, cluster) {
        return reason;
    }
    if let Some(reason) = recovery::end_of_start(draft) {
        return reason;
    }
    if let Some(reason) = recovery::data_directory(draft, cluster) {
        return reason;
    }
    if let Some(reason) = recovery::identity(draft, cluster) {
        return reason;
    }
    if view.postgres.process == Process::NotRunning {
        return recovery::not_running(draft, cluster);
    }
    if let Some(reason) = recovery::starting(draft, cluster) {
        return reason;
    }
    let reason = healthy(draft, cluster);
    if draft.ends_something() {
        return reason;
    }
    let copying = slots::process(draft, cluster);
    restart::scheduled(draft).or(copying).unwrap_or(reason)
}

/// PostgreSQL runs, the store answers: lead, follow or race.
fn healthy(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if let Some(reason) = wiped::keep_leading(draft, cluster) {
        return reason;
    }
    if let Some(held) = view.held() {
        return leading::lead(draft, cluster, held);
    }
    match &cluster.leader {
        None => race::race(draft, cluster),
        Some(leader) if view.is_me(&leader.name) => race::resume(draft, leader),
        Some(leader) => {
            takeover::watch(draft, cluster).unwrap_or_else(|| following::follow(draft, cluster, &leader.name))
        }
    }
}

/// A long action runs beside the loop: what matters is whether it may go on.
fn in_progress(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let job = view.job.as_ref()?;
    let is_in_order = matches!(view.postgres.process, Process::Running { .. })
        && view.postgres.data == DataDirectory::Present
        && draft.memory.bootstrapping.is_none();
    match job.kind {
        // Errands on a running server, which is looked after meanwhile.
        JobKind::Checkpoint | JobKind::CheckDivergence if is_in_order => return None,
        JobKind::Checkpoint => {
            draft.push_aside(&restart::ERRANDS);
        }
        JobKind::Promote if view.held().is_some() && !view.is_before_promotion() => {
            if let Some(reason) = leading::promotion_limit(draft, cluster) {
                return Some(reason);
            }
        }
        JobKind::Start | JobKind::Restart | JobKind::CopySlots | JobKind::CrashRecovery => {
            if let Some(reason) = recovery::start_limit(draft, cluster) {
                return Some(reason);
            }
        }
        _ => {}
    }
    let action = job.kind.as_str().to_owned();
    if let Some(held) = view.held() {
        leading::keep_books(draft, cluster, held);
        return Some(Reason::UpdatedLockDuring { action });
    }
    Some(Reason::InProgress { action })
}

/// It names the leader that this member has replaced since, or none: nobody is followed, raced or judged by it once the lock is gone again.
fn is_from_before_our_lock(draft: &Draft, cluster: &Cluster) -> bool {
    draft.memory.given.is_some_and(|(revision, seen_at)| {
        // A store that was restored counts anew: what it is read to hold after that instant is no older.
        cluster.revision < revision && draft.view.store.confirmed_at <= seen_at
    })
}

/// Keeps what later ticks will need.
fn remember(draft: &mut Draft) {
    let view = draft.view;
    bootstrap::remember(draft);
    wiped::remember(draft);
    if view.held().is_none() {
        draft.memory.promoting_since = None;
    }
    if let LeaseView::Held { revision, .. } = view.lease
        && draft.memory.given.is_none_or(|(given, _)| given != revision)
    {
        draft.memory.given = Some((revision, view.now));
    }
    if let Some(cluster) = &view.store.cluster {
        if cluster.is_unlocked() {
            draft.memory.unlocked_since.get_or_insert(view.now);
        } else {
            draft.memory.unlocked_since = None;
            draft.memory.race_backoff_since = None;
            if draft.memory.last_healthy.as_ref().is_none_or(|last| last.revision != cluster.revision) {
                draft.memory.last_healthy = Some(cluster.clone());
            }
        }
    }
    if let Some(at) = draft.memory.released_at
        && view.now.since(at) >= demote::HOLD_OFF
    {
        draft.memory.released_at = None;
    }
}
