//! The decision core: a [`View`] in, a [`Decision`] out; nothing else.
//!
//! [`decide`] chooses what one member does in one tick. It has no clock, socket, file, thread, randomness or logger: the same
//! view gives the same decision, in production, in the simulator and in `what-if`. What must survive between ticks is
//! the [`Memory`] inside the view, returned anew by every decision.
//!
//! Start with [`view`] (what is known), then [`decide`](decide::decide) (the order of the branches), then the branch that
//! interests you: each file is one subject.

pub mod action;
pub mod citus;
pub mod decide;
pub mod decision;
pub mod draft;
pub mod gray;
pub mod lease;
pub mod memory;
pub mod reason;
pub mod sync;
pub mod takeover;
pub mod timing;
pub mod view;
pub mod what_if;

mod bootstrap;
mod candidate;
mod compare;
mod demote;
mod facts;
mod failsafe;
mod fence;
mod following;
mod history;
mod leading;
mod mandate;
mod member;
mod pause;
mod race;
mod recovery;
mod reinit;
mod requests;
mod restart;
mod rewind;
mod schedule;
mod slots;
mod standby_cluster;
mod switchover;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod timelines;
mod wiped;

pub use action::{Action, Fence};
pub use decide::decide;
pub use decision::Decision;
pub use memory::Memory;
pub use reason::Reason;
pub use slots::published as published_slots;
pub use view::View;
