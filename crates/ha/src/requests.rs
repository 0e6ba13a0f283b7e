//! What operators asked of this member through its API, one at a time.

use crate::{
    Action, Reason,
    action::{Answer, CallbackEvent},
    draft::Draft,
    memory::ScheduledRestart,
    reinit, restart,
    view::{JobKind, RequestKind},
};

/// Answers the oldest request. `Some` if that is what this tick is about.
pub(crate) fn answer(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let request = view.requests.first()?;
    match &request.kind {
        RequestKind::Restart { conditions, timeout } => {
            restart::requested(draft, request.id, conditions, *timeout)
        }
        RequestKind::Reinitialize { force, from_leader } => {
            reinit::requested(draft, request.id, *force, *from_leader)
        }
        RequestKind::Reload => {
            reply(draft, request.id, Answer::Done);
            if view.postgres.process.exists() {
                draft.then(Action::Reload);
                draft.then(Action::RunCallback { event: CallbackEvent::OnReload, role: view.postgres.role });
            }
            None
        }
        RequestKind::ScheduleRestart { at, text, conditions, timeout } => {
            draft.memory.restart_at = Some(ScheduledRestart {
                at: *at,
                text: text.clone(),
                conditions: conditions.clone(),
                timeout: *timeout,
                postmaster_started_at: view.postgres.postmaster_started_at.clone(),
            });
            reply(draft, request.id, Answer::Done);
            None
        }
        RequestKind::CancelScheduledRestart => {
            let answer = match draft.memory.restart_at.take() {
                Some(_) => Answer::Done,
                None => Answer::Refused { why: "no restarts are scheduled".to_owned() },
            };
            reply(draft, request.id, answer);
            None
        }
    }
}

/// Nothing new is begun while PostgreSQL is being stopped: say so instead of letting people wait.
pub(crate) fn refuse_all(draft: &mut Draft) {
    let running = draft.view.job_kind().map_or("stop", JobKind::as_str);
    for request in &draft.view.requests {
        reply(draft, request.id, Answer::Refused { why: format!("{running} already in progress") });
    }
}

/// Answers first and acts afterwards: a failure of the action must not leave somebody without an answer.
pub(crate) fn reply(draft: &mut Draft, request: u64, answer: Answer) {
    draft.then(Action::Answer { request, answer });
}
