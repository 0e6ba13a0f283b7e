//! From a typed command to an exit status.

use std::ffi::OsString;

use clap::{Parser, error::ErrorKind};

use bellwether_types::Failure;

use crate::{
    command::{Command, Globals, Patronictl},
    commands,
    error::CliError,
    manner::{Manner, Outcome},
    session::{Session, Surroundings},
    terminal::{Dialogue, Terminal},
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
    let mut session = match Session::new(manner, &globals, talk, env, stores) {
        Ok(session) => session,
        Err((error, mut talk)) => return end(Err(error), &mut talk, manner),
    };
    // The commands together make a large future; the heap has room for it.
    let result = Box::pin(dispatch(&mut session, command)).await;
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
        Command::ShowConfig(args) => commands::show_config::show_config(session, &args).await,
        Command::EditConfig(args) => commands::edit_config::edit_config(session, &args).await,
        Command::Query(args) => commands::query::query(session, &args).await,
        Command::Dsn(args) => commands::dsn::dsn(session, &args).await,
        Command::Remove(args) => commands::remove::remove(session, &args).await,
        Command::Version(args) => commands::version::version(session, &args).await,
        Command::Flush(args) => commands::flush::flush(session, &args).await,
        Command::Explain(args) => commands::explain::explain(session, &args).await,
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
        Ok(Patronictl { dcs_url: Some(url), .. }) => {
            surroundings.terminal.err(&format!("Error: {}\n", dcs_url_problem(&url)));
            1
        }
        Ok(Patronictl { globals, command, .. }) => {
            run(command, globals, Manner::Patronictl, surroundings).await
        }
        Err(problem) => usage(&problem, &arguments, surroundings.terminal.as_mut()),
    }
}

/// `--dcs-url` would replace the sections of external stores.
fn dcs_url_problem(url: &str) -> String {
    const KNOWN: [&str; 5] = ["zookeeper", "exhibitor", "consul", "etcd", "etcd3"];
    match url.split_once("://") {
        Some((scheme, _)) if !KNOWN.contains(&scheme) => format!("Unknown dcs scheme: {scheme}"),
        _ => format!(
            "--dcs-url {url}: this option is not supported yet; name the store in a file, with -c FILE"
        ),
    }
}

fn usage(problem: &clap::Error, arguments: &[OsString], terminal: &mut dyn Terminal) -> u8 {
    match problem.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            terminal.out(&problem.render().to_string());
            0
        }
        ErrorKind::InvalidSubcommand => {
            let wrong = problem.get(clap::error::ContextKind::InvalidSubcommand);
            let word = wrong.map(ToString::to_string).unwrap_or_else(|| format!("{:?}", arguments.last()));
            terminal.err(&format!(
                "Usage: patronictl [OPTIONS] COMMAND [ARGS]...\nTry 'patronictl --help' for help.\n\n\
                 Error: No such command '{word}'.\n"
            ));
            2
        }
        _ => {
            terminal.err(&problem.render().to_string());
            2
        }
    }
}
