//! One file per behaviour; each says in its head what must hold.

mod postgres_killed;
mod tree_killed;
