//! The runtime: observe, decide, act.
//!
//! One loop ([`agent`]) looks at the local PostgreSQL, the store and the peers ([`observe`]), asks [`bellwether_ha::decide`] and does
//! what it says ([`execute`]). Beside it run the lease keeper ([`lease`]), the owner of the SQL connection ([`monitor`]), one long
//! job at a time ([`job`], [`work`]), and the guardian process ([`fencing`]).
//!
//! Deliberately not here: any rule about who may lead, when to stop, or what is safe. Those are in `ha`, which knows nothing of
//! sockets and files, and can be simulated.
//!
//! Start with [`start::start`] and [`agent::Agent::run`]; talk to it through [`handle::AgentHandle`].

pub mod agent;
mod budget;
mod changes;
mod citus;
pub mod clock;
mod cycle;
mod event;
mod execute;
mod failed_bootstraps;
mod failsafe;
mod fencing;
pub mod handle;
mod health;
mod hearing;
mod interrupted;
mod job;
pub mod journal;
mod kept_configuration;
mod lease;
mod level;
mod local;
mod local_history;
mod look;
mod measures;
mod monitor;
mod news;
mod notes;
mod observe;
mod pace;
mod peers;
mod pg_settings;
mod promise;
mod publications;
mod publish;
mod reloads;
mod requests;
mod rewind_source;
mod role_changes;
mod service_manager;
mod settings;
mod slot_keeper;
mod start;
mod story;
#[cfg(test)]
mod testing;
mod watchdog;
mod work;

pub use agent::{Agent, AgentEnd};
pub use citus::Groups;
pub use cycle::CYCLE;
pub use handle::{AgentHandle, ConfigEnd, DeletedSwitchover, SwitchoverEnd};
pub use journal::Journal;
pub use publish::PROTOCOL_LEVEL;
pub use reloads::{LoadAgain, ReloadError, ReloadSource, Reloaded};
pub use start::{AgentOptions, StartError, runtime_dir, start};
