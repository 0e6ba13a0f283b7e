//! What this member publishes about itself.

use std::time::Duration;

use crate::{
    Action,
    action::MemberUpdate,
    draft::Draft,
    memory::{Attempt, Checkpoint},
};

/// Writes the member key when something that was decided here changed, and every `loop_wait` what was observed.
///
/// Comes last in every tick: a write that fails keeps nothing else from happening.
pub(crate) fn publish(draft: &mut Draft) {
    let view = draft.view;
    let Some(cluster) = view.store.usable(view.now, view.patience()) else { return };
    if draft.ends_process() {
        return;
    }
    forget_sync_release(draft);
    let member = update(draft);
    let is_shown = cluster.member(&view.me.name).is_some_and(|known| {
        known.pause == member.pause
            && (known.checkpoint_after_promote == Some(false)) == member.checkpoint_pending
            && known.scheduled_restart.is_some() == member.scheduled_restart.is_some()
            && (!member.release_sync || known.tags.nosync())
            && known.state == Some(view.postgres.state)
            && known.role == Some(view.postgres.role)
    });
    let action = Action::PublishMember { member };
    if is_shown {
        draft.every(view.settings.loop_wait, Attempt::PublishMember, action);
    } else {
        draft.attempt(Attempt::PublishMember, action);
    }
}

/// The last word before the process ends: nobody should take a stopped member for one that runs until its lease is over.
pub(crate) fn say_farewell(draft: &mut Draft) {
    let member = update(draft);
    // Whatever was told a moment ago: this word counts. Only not twice in one instant.
    draft.every(Duration::from_millis(1), Attempt::PublishMember, Action::PublishMember { member });
}

fn update(draft: &Draft) -> MemberUpdate {
    let view = draft.view;
    MemberUpdate {
        release_sync: draft.memory.sync_release_since.is_some(),
        checkpoint_pending: matches!(
            draft.memory.checkpoint_after_promote,
            Checkpoint::Wanted | Checkpoint::Running
        ) && view.is_primary(),
        pause: view.settings.pause,
        scheduled_restart: draft.memory.restart_at.clone(),
    }
}

/// The wish to be released ends with the restart or stop that it was for.
fn forget_sync_release(draft: &mut Draft) {
    let view = draft.view;
    let is_waited_for = view.stopping
        || view.job.is_some()
        || draft.memory.recovering
        || draft.memory.slot_copies.waiting
        || draft.memory.restart_at.is_some()
        || !view.requests.is_empty();
    if !is_waited_for {
        draft.memory.sync_release_since = None;
    }
}
