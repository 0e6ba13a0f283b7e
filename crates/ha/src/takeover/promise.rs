//! What a promise forbids, and when it is over.

use bellwether_types::{MemberName, Revision, Role, cluster::Cluster, takeover::Takeover};

use super::{Case, PATIENCE, election, epoch, off};
use crate::{
    Action, Reason, View,
    action::StartRole,
    draft::Draft,
    fence,
    memory::Attempt,
    view::{DataDirectory, JobKind, Kept, Process},
};

/// Detaches from everybody and promises to stay so until the epoch is over.
pub(super) fn make(draft: &mut Draft, case: &Case, epoch: &Takeover, revision: Revision) -> Option<Reason> {
    let view = draft.view;
    if let Some(why) = epoch::is_leader_accepted(draft) {
        draft.note(why);
        return None;
    }
    // It asks the leader, who does not answer.
    draft.push_aside(&[JobKind::CheckDivergence]);
    // A position that nobody can tell cannot be promised.
    if !view.server().is_some_and(|server| server.in_recovery && server.has_read_own_wal) || draft.is_busy() {
        draft.note(Reason::TakeoverCannotPromise);
        return None;
    }
    let leader = case.leader.name.clone();
    let action = Action::DetachAndPromise { revision, epoch: epoch.epoch, leader: leader.clone() };
    draft.attempt(Attempt::Promise, action);
    Some(Reason::Promising { leader, epoch: epoch.epoch })
}

/// This member is bound: it receives nothing from anybody, starts as a standby of nobody, copies and rewinds nothing; it takes over if it
/// may. `None`: no promise, or one that is over; what follows may attach it again.
pub(crate) fn bound(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let kept = view.takeover.promise.as_ref()?;
    let revision = kept.promise.revision;
    if is_over(view, cluster, kept) {
        draft.attempt(Attempt::ForgetPromise, Action::ForgetPromise { revision });
        return None;
    }
    let bound = Reason::BoundByPromise { leader: kept.promise.leader.clone(), epoch: kept.promise.epoch };
    if let Process::NotRunning = view.postgres.process {
        start(draft);
    }
    let case = Case::of(view, cluster).filter(|_| is_live(cluster, kept));
    // Over, by a view that may be older than the promise: neither free nor a candidate.
    let Some(case) = case else { return Some(bound) };
    if let Some(why) = give_up(draft, cluster, kept, &case) {
        draft.note(bound);
        return Some(epoch::close(draft, cluster, revision, why));
    }
    draft.wake_by(kept.made_at + PATIENCE);
    match election::step(draft, &case, kept) {
        Ok(taking) => Some(taking),
        Err(why) => {
            draft.note(why);
            Some(bound)
        }
    }
}

/// The transaction that the promise was made for cannot be applied any more: the store shows, later than the promise, that one of the keys
/// that it compares has been written; or this member has the lock. Both cannot become untrue again.
fn is_over(view: &View, cluster: &Cluster, kept: &Kept) -> bool {
    // The promise was made on a view that showed the epoch: a later revision of the store is news.
    let is_news = cluster.revision > kept.promise.revision || view.store.confirmed_at > kept.made_at;
    view.held().is_some() || (!is_live(cluster, kept) && is_news)
}

fn is_live(cluster: &Cluster, kept: &Kept) -> bool {
    cluster.live_epoch().is_some_and(|(_, revision)| revision == kept.promise.revision)
}

/// The server ended while bound.
fn start(draft: &mut Draft) {
    let view = draft.view;
    let is_left_alone = view.settings.pause && !draft.memory.start_wanted;
    if is_left_alone
        || view.postgres.data != DataDirectory::Present
        || draft.is_busy()
        || draft.backing_off(&JobKind::Start)
    {
        return;
    }
    fence::take_down(draft);
    draft.set_role(Role::Replica);
    draft.memory.recovering = true;
    draft.then(Action::Start { role: StartRole::Standby { upstream: None } });
}

fn give_up(draft: &Draft, cluster: &Cluster, kept: &Kept, case: &Case) -> Option<String> {
    let view = draft.view;
    if let Some(why) = off::why_off(&view.settings, cluster, view.store.multi_key_transactions) {
        return Some(why.to_string());
    }
    if let Some(name) = election::veto(draft, case, kept) {
        return Some(format!("{name} hears {}", case.leader.name));
    }
    (view.now.since(kept.made_at) >= PATIENCE).then(|| "nobody could take over in time".to_owned())
}

/// Why this member must not be copied anew now.
pub(crate) fn forbids_copies(view: &View) -> Option<MemberName> {
    view.takeover.promise.as_ref().map(|kept| kept.promise.leader.clone())
}
