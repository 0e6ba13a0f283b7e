//! The protocol of quorum take-over, checked exhaustively in small clusters.
//!
//! The protocol is written down in `docs/src/internals/quorum-takeover.md`. Here are its state and its steps, in any order, as often as the
//! bounds allow: crashes, messages that are late or lost, stale views of the store, lists of synchronous standbys that walsenders read late,
//! changes of `/sync` that may yet land. Suspicion is not modelled: anybody may suspect anybody at any time, because safety must not hang
//! on it. Nor is time: a lease ends when its holder has stopped, or never.
//!
//! What the simulator (crate `sim`) finds in the code by chance, this finds in the protocol for certain, and the other way round.
//!
//! Start with [`Protocol`] (the steps), [`state`] (what is known where), [`overlap`] (the rules of `ha::sync`, in bits),
//! [`guard`] (what happens if one of the protocol's guards is left out), and [`mod@search`].

pub mod guard;
pub mod overlap;
pub mod postgres;
pub mod protocol;
pub mod search;
pub mod state;

pub use guard::Guard;
pub use protocol::{Bounds, Protocol, Step};
pub use search::{Report, search};
