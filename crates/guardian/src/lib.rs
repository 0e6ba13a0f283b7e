//! Fencing helper: kills PostgreSQL when the lease of its agent runs out.
//!
//! A primary may accept writes only until the deadline of its lease. The agent stops it in time as long as the agent
//! works; the guardian is for the day when it does not: hung, frozen, killed, or starved of processor time. It is a
//! process of its own (`bellwether guardian`, in its own session) that knows one thing, the deadline, and does one thing,
//! killing every process of the data directory once that deadline has passed, whatever PostgreSQL was doing.
//!
//! What it deliberately does not do: it never renews, pings, restarts or answers anything in the agent's name, it has
//! no network, no async runtime and no configuration, and it allocates no memory after its start ([`main`] says how that
//! is kept). The loss of its agent does not disarm it: the last deadline stays in force. Two guardians at once are
//! harmless, the earliest deadline wins.
//!
//! # Where to start
//!
//! The agent's side is [`Guardian`]: spawn, [`arm`](Guardian::arm), [`extend`](Guardian::extend) after each confirmed
//! renewal, [`disarm`](Guardian::disarm) after PostgreSQL has stopped, [`dismiss`](Guardian::dismiss) at the end. The
//! guardian's own side is `process` (the loop), `state` (the pure rules of arming), `kill` (what happens at the deadline) and
//! `scan` (who belongs to the data directory). `protocol` has the messages between the two.
//!
//! # Unsafe code
//!
//! Four system calls that have no safe wrapper in our dependencies (`close_range`, `sched_setscheduler`, the signal mask
//! and `signalfd`) are made in the module `sys`, each in a function that is safe to call; nothing else is unsafe.

mod client;
mod clock;
mod firing;
mod handover;
mod kill;
mod process;
mod protocol;
mod scan;
mod scratch;
mod state;
mod sys;
mod target;
mod wait;

pub use client::{Acked, ControlError, Guardian, Mode, SpawnError, SpawnOptions};
pub use clock::boottime;
pub use firing::{Firing, FiringError, last_firing};
pub use handover::{Dismissed, HandoverError, dismiss_previous};
pub use process::{is_sealed, main};
pub use target::Target;
