//! From a typed command to an exit status.

use std::ffi::OsString;

use clap::{Parser, error::ErrorKind};

use bellwether_types::{Duty, Failure};

use crate::{
    command::{Command, Globals, Patronictl},
    commands,
    error::CliError,
    help,
    manner::{Manner, Outcome},
    session::{Session, Surroundings},
    terminal::{Dialogue, Terminal},
    usage,
};

/// Carries out one command and gives the exit status. `globals` are the options that stood before the command.
///
/// Dropping the future (Ctrl-C) leaves a request that was already sent to its fate; nothing is half-written by that, since
/// every write is one transaction or one API call.
pub async fn run(command: Command, globals: Globals, manner: Manner, surroundings: Surroundings) -> u8 {
    let Surroundings { stores, terminal, env, program } = surroundings;
    let mut talk = Dialogue::new(terminal, manner);
    match &command {
        Command::Completion(args) => {
            return end(commands::shell::completion(&mut talk, args, program), &mut talk, manner);
        }
        Command::Man(args) => return end(commands::shell::man(&mut talk, args, &program), &mut talk, manner),
        Command::Version(args) if args.names.is_empty() => {
            commands::version::own(&mut talk, manner);
            return 0;
        }
        Command::Explain(args) if manner == Manner::Bellwether => {
            if let Some(failure) = args.cluster.as_deref().and_then(Failure::of_code) {
                talk.terminal.out(commands::explain_failure::section(failure));
                return 0;
            }
        }
        _ => {}
    }
    let globals = globals.overridden_by(&command.globals());
    let name = command.name();
    let mut session = match Session::new(manner, &globals, talk, env, stores) {
        Ok(session) => session,
        Err((error, mut talk)) => return end(Err(error), &mut talk, manner),
    };
    // The commands together make a large future; the heap has room for it.
    let result = Box::pin(dispatch(&mut session, command)).await;
    if let (Err(CliError::Usage(message)), Manner::Patronictl) = (&result, manner) {
        session.talk.terminal.err(&usage::with_usage(Some(name), message));
        return 2;
    }
    end(result, &mut session.talk, manner)
}

async fn dispatch(session: &mut Session, command: Command) -> Result<Outcome, CliError> {
    match command {
        Command::List(args) => commands::list::list(session, &args).await,
        Command::Topology(args) => commands::list::topology(session, &args).await,
        Command::History(args) => commands::history::history(session, &args).await,
        Command::Switchover(args) => commands::leader_change::switchover(session, &args).await,
        Command::Failover(args) => commands::leader_change::failover(session, &args).await,
        Command::Restart(args) => commands::restart::restart(session, &args).await,
        Command::Reload(args) => commands::reload::reload(session, &args).await,
        Command::Reinit(args) => commands::reinit::reinit(session, &args).await,
        Command::Pause(args) => commands::pause::pause(session, &args).await,
        Command::Resume(args) => commands::pause::resume(session, &args).await,
        Command::Drain(args) => commands::routing::set(session, &args, Duty::Drain).await,
        Command::Maint(args) => commands::routing::set(session, &args, Duty::Maint).await,
        Command::Ready(args) => commands::routing::set(session, &args, Duty::Ready).await,
        Command::ShowConfig(args) => commands::show_config::show_config(session, &args).await,
        Command::EditConfig(args) => commands::edit_config::edit_config(session, &args).await,
        Command::Query(args) => commands::query::query(session, &args).await,
        Command::Dsn(args) => commands::dsn::dsn(session, &args).await,
        Command::Entrypoints(args) => commands::interop::entrypoints(session, &args).await,
        Command::HaproxyConfig(args) => commands::interop::haproxy(session, &args).await,
        Command::KeepalivedConfig(args) => commands::interop::keepalived(session, &args),
        Command::PgbouncerConfig(args) => commands::interop::pgbouncer(session, &args),
        Command::Remove(args) => commands::remove::remove(session, &args).await,
        Command::Version(args) => commands::version::version(session, &args).await,
        Command::Flush(args) => commands::flush::flush(session, &args).await,
        Command::DemoteCluster(args) => commands::cluster_role::demote(session, &args).await,
        Command::PromoteCluster(args) => commands::cluster_role::promote(session, &args).await,
        Command::Explain(args) => commands::explain::explain(session, &args).await,
        Command::WhatIf(args) => commands::what_if::what_if(session, &args).await,
        Command::Timing(args) => commands::timing::timing(session, &args).await,
        Command::SupportBundle(args) => commands::support_bundle::support_bundle(session, &args).await,
        Command::Completion(_) | Command::Man(_) => Ok(Outcome::Done), // carried out before there is a session
    }
}

fn end(result: Result<Outcome, CliError>, talk: &mut Dialogue, manner: Manner) -> u8 {
    match result {
        Ok(outcome) => outcome.exit_status(manner),
        Err(error) => {
            talk.terminal.err(&explain(&error, manner));
            error.exit_status()
        }
    }
}

fn explain(error: &CliError, manner: Manner) -> String {
    if matches!(error, CliError::Aborted) {
        return "Aborted!\n".to_owned();
    }
    let mut text = format!("Error: {error}\n");
    if manner == Manner::Bellwether {
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text.push_str(&format!("  because: {inner}\n"));
            cause = inner.source();
        }
        if let Some(help) = error.help() {
            text.push_str(&format!("  help: {help}\n"));
        }
        if let Some(code) = error.failure() {
            text.push_str(&format!("  code: {code}; `bellwether explain {code}` tells more\n"));
        }
    }
    text
}

/// The whole of `patronictl`: reads the command line (its first word is the program's name), carries the command out, and gives
/// the exit status.
pub async fn run_patronictl(arguments: Vec<OsString>, mut surroundings: Surroundings) -> u8 {
    match Patronictl::try_parse_from(&arguments) {
        Ok(Patronictl { globals, dcs_url, command }) => {
            let dcs_url = dcs_url.or_else(|| surroundings.env.get("DCS_URL").cloned());
            let globals = Globals { dcs_url: dcs_url.filter(|url| !url.is_empty()), ..globals };
            run(command, globals, Manner::Patronictl, surroundings).await
        }
        Err(problem) => wrong_words(&problem, &arguments, surroundings.terminal.as_mut()),
    }
}

fn wrong_words(problem: &clap::Error, arguments: &[OsString], terminal: &mut dyn Terminal) -> u8 {
    if matches!(problem.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let command = usage::command_of(arguments).filter(|word| usage::is_command(word));
        terminal.out(&help::help(command.as_deref()));
        return 0;
    }
    if arguments.len() < 2 {
        // Without a word, all there is to know.
        terminal.err(&help::help(None));
        return 2;
    }
    let text = usage::explain(problem, arguments).unwrap_or_else(|| problem.render().to_string());
    terminal.err(&text);
    2
}
