//! The rules of the decision core, one test per rule, named after its number; the decision tables; and what holds for every
//! view.

mod bootstrap;
mod citus;
mod elections;
mod failsafe;
mod gray;
mod gray_signs;
mod handover;
mod hanging;
mod lock;
mod logical_slots;
mod mandate;
mod operators;
mod pause;
mod postgres;
mod properties;
mod rewind;
mod schedules;
mod slots;
mod small_shapes;
mod standby_cluster;
mod starts;
mod stories;
mod tables;
mod time;
mod timelines;
mod votes;
mod what_if;
mod wiped;

use bellwether_types::Lsn;

use crate::{Action, Decision, action::DemoteMode, testing::POSITION, view::JobOutcome};

const BEFORE: Lsn = Lsn(POSITION.0 - 0x100);
const BEYOND: Lsn = Lsn(POSITION.0 + 0x100);

/// The way in which PostgreSQL is told to stop as primary, if it is.
fn demotion(decision: &Decision) -> Option<DemoteMode> {
    decision.actions.iter().find_map(|action| match action {
        Action::Demote { mode, .. } => Some(*mode),
        _ => None,
    })
}

fn promotes(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::Promote { .. }))
}

fn acquires(decision: &Decision) -> bool {
    decision
        .actions
        .iter()
        .any(|action| matches!(action, Action::AcquireLease { .. } | Action::RestoreKeys(_)))
}

fn releases(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::ReleaseLease { .. }))
}

fn failed() -> JobOutcome {
    JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false }
}
