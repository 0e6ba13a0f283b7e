//! What this member publishes about itself.

use crate::{
    Action,
    action::MemberUpdate,
    draft::Draft,
    memory::{Attempt, Checkpoint},
};

/// Writes the member key when something that was decided here changed, and every `loop_wait` what was observed.
pub(crate) fn publish(draft: &mut Draft) {
    let view = draft.view;
    if view.store.usable(view.now, view.patience()).is_none() {
        return;
    }
    let member = MemberUpdate {
        release_sync: draft.memory.sync_release_since.is_some(),
        checkpoint_pending: matches!(
            draft.memory.checkpoint_after_promote,
            Checkpoint::Wanted | Checkpoint::Running
        ),
        pause: view.settings.pause,
    };
    let known = view.store.cluster.as_ref().and_then(|cluster| cluster.member(&view.me.name));
    let is_shown = known.is_some_and(|known| {
        known.pause == member.pause
            && (known.checkpoint_after_promote == Some(false)) == member.checkpoint_pending
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
