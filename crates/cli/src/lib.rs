//! Operators' commands and their rendering: everything that `patronictl` does, and what only we have (`explain`, `what-if`, `timing`, `support-bundle`).
//!
//! [`run`] carries out one [`Command`] in one of two [`Manner`]s and gives the exit status; [`run_patronictl`] also reads the
//! command line. A binary embeds [`Command`] in its own and brings the [`Surroundings`]: the terminal, the environment, and
//! an [`OpenStore`], because only the binary knows the stores' adapters.
//!
//! In both manners data goes to standard output. A command that changes something shows its plan, asks, carries it out, and
//! in our own manner looks whether it happened. Exit statuses of our own manner: 0 done, 1 failed or refused, 2 usage, 3 sent
//! but not confirmed. Patroni's: 0 also for failures that were only reported, as its users' scripts expect.
//!
//! What is deliberately not here: no decision about the cluster. Changes go through the members' REST API, which checks them,
//! or, where no member answers, as a request into the store; the agents decide. `bellwether dcs` is the binary's own.
//!
//! Start with [`command`] (what can be typed), `session` (what commands work with), then a file of `commands/`. `render/` is
//! pure: from a cluster to text.

pub mod command;
mod commands;
mod error;
mod groups;
mod help;
mod interop;
mod journal;
mod manner;
mod members;
mod render;
mod run;
mod schedule;
mod session;
mod terminal;
mod usage;

pub use command::{Command, Globals, Patronictl};
pub use error::{CliError, OpenError};
pub use interop::drivers::Driver;
pub use manner::Manner;
pub use render::{output::Format, yaml::block as yaml};
pub use run::{run, run_patronictl};
pub use session::{OpenStore, Surroundings};
pub use terminal::{Console, Terminal};
