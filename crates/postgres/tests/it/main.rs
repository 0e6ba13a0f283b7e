//! Against a real PostgreSQL (15 on Debian). Run as root the tests become user `postgres` first.

mod bootstrap_and_clone;
mod checkpointer;
mod detach;
mod encrypted;
mod lifecycle;
mod rewind;
mod running;
mod server_under_test;
mod stop_watch;
mod timelines;
