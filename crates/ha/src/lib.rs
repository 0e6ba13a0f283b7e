//! The decision core: a [`View`] in, a [`Decision`] out; nothing else.
//!
//! [`decide`] chooses what one member does in one tick. It has no clock, socket, file, thread, randomness or logger: the same
//! view gives the same decision, in production, in the simulator and in `what-if`. What must survive between ticks is
//! the [`Memory`] inside the view, returned anew by every decision.
//!
//! Start with [`view`] (what is known), then [`decide`](decide::decide) (the order of the branches), then the branch that
//! interests you: each file is one subject.

mod bootstrap;
mod candidate;
mod demote;
mod draft;
mod facts;
mod failsafe;
mod fence;
mod following;
mod leading;
mod member;
mod race;
mod recovery;
mod rewind;
pub mod sync;

pub mod action;
pub mod decide;
pub mod decision;
pub mod lease;
pub mod memory;
pub mod reason;
pub mod view;

pub use action::{Action, Fence};
pub use decide::decide;
pub use decision::Decision;
pub use memory::Memory;
pub use reason::Reason;
pub use view::View;
