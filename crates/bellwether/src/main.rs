//! One binary that keeps a PostgreSQL cluster writable.
//!
//! Arguments, wiring, logging, signals and exit statuses; everything else is in the crates beside this one. The name that it
//! is called by matters: `patroni FILE` runs the agent, `patronictl ...` the command line, both as Patroni's users know them.

// The futures of an agent and of the demo are nested deeper than the compiler's usual limit.
#![recursion_limit = "256"]

mod adopt;
mod arguments;
mod config_commands;
mod control;
mod dcs_commands;
mod demo;
mod entrypoints;
mod exit;
mod failure;
mod generate_config;
mod init;
mod logging;
mod proxy;
mod reader;
#[cfg(test)]
mod reference;
mod reload;
mod run;
#[cfg(feature = "consul")]
mod service;
mod store;
mod validate_config;
mod vip_commands;
mod witness;

use std::{ffi::OsString, path::Path, process::ExitCode};

use arguments::Called;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: the guardian starts no runtime and allocates nothing once it runs.
    if arguments.get(1).is_some_and(|word| word == "guardian") {
        return bellwether_guardian::main(arguments.into_iter().skip(2));
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nobody has chosen a TLS provider before");
    let name = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let called = if name == "patroni" {
        Called::Patroni
    } else if name == "patronictl" {
        Called::Patronictl
    } else {
        Called::Bellwether
    };
    arguments::dispatch(called, arguments)
}
