//! What `patronictl` says about a command line that makes no sense: the words that its users' scripts and habits know.

use std::ffi::OsString;

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::command::Patronictl;

/// The options that stand before the command and take a value.
const GLOBAL_OPTIONS_WITH_VALUES: [&str; 5] = ["-c", "--config-file", "-d", "--dcs-url", "--dcs"];

/// The command that was typed, if any.
pub(crate) fn command_of(arguments: &[OsString]) -> Option<String> {
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if GLOBAL_OPTIONS_WITH_VALUES.contains(&word.as_ref()) {
            words.next();
        } else if word == "--" {
            return words.next().map(Into::into);
        } else if !word.starts_with('-') {
            return Some(word.into_owned());
        }
    }
    None
}

/// The whole text for a message, with its line end.
pub(crate) fn with_usage(command: Option<&str>, message: &str) -> String {
    let (path, synopsis) = match command {
        Some(command) => (format!("patronictl {command}"), synopsis(command)),
        None => ("patronictl".to_owned(), "COMMAND [ARGS]..."),
    };
    format!("Usage: {path} [OPTIONS] {synopsis}\nTry '{path} --help' for help.\n\nError: {message}\n")
}

/// The arguments of a command, options apart.
pub(crate) fn synopsis(command: &str) -> &'static str {
    match command {
        "list" | "topology" => "[CLUSTER_NAMES]...",
        "restart" | "reload" | "reinit" => "CLUSTER_NAME [MEMBER_NAMES]...",
        // Broken where a line of 78 columns ends.
        "flush" => "CLUSTER_NAME [MEMBER_NAMES]...\n                        {restart|switchover}",
        "remove" => "CLUSTER_NAME",
        "version" => "[CLUSTER_NAME] [MEMBER_NAMES]...",
        _ => "[CLUSTER_NAME]",
    }
}

/// What is wrong, in the words of Patroni's own tool; `None` if the parser's own text has to do.
pub(crate) fn explain(problem: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let command = command_of(arguments).filter(|word| is_command(word));
    let command = command.as_deref();
    let context = |kind| problem.get(kind).and_then(text);
    let message = match problem.kind() {
        ErrorKind::InvalidSubcommand => {
            return Some(with_usage(
                None,
                &format!("No such command '{}'.", context(ContextKind::InvalidSubcommand)?),
            ));
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Some(with_usage(None, "Missing command."));
        }
        ErrorKind::UnknownArgument => {
            let argument = context(ContextKind::InvalidArg)?;
            let at = |word: &str| arguments.iter().position(|typed| typed.to_string_lossy() == word);
            let stands_before = command.is_some_and(|command| at(&argument) < at(command));
            let command = command.filter(|_| !stands_before || at(&argument).is_none());
            return Some(with_usage(command, &unknown(&argument, command, arguments)));
        }
        ErrorKind::InvalidValue
        | ErrorKind::NoEquals
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::TooFewValues => {
            let option = context(ContextKind::InvalidArg)?;
            match context(ContextKind::InvalidValue).filter(|value| !value.is_empty()) {
                None => {
                    return Some(format!(
                        "Error: Option '{}' requires an argument.\n",
                        as_typed(&option, arguments)
                    ));
                }
                Some(value) => {
                    let Some(ContextValue::Strings(choices)) = problem.get(ContextKind::ValidValue) else {
                        return None;
                    };
                    let choices: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
                    format!(
                        "Invalid value for {}: '{value}' is not one of {}.",
                        both_names(&option, command)?,
                        choices.join(", ")
                    )
                }
            }
        }
        ErrorKind::TooManyValues => {
            let option = context(ContextKind::InvalidArg)?;
            return Some(format!("Error: Option '{}' does not take a value.\n", long_name(&option)));
        }
        ErrorKind::ValueValidation => {
            let option = context(ContextKind::InvalidArg)?;
            let kind = if long_name(&option) == "--watch" { "float" } else { "integer" };
            let value = context(ContextKind::InvalidValue)?;
            format!("Invalid value for {}: '{value}' is not a valid {kind}.", both_names(&option, command)?)
        }
        _ => return None,
    };
    Some(with_usage(command, &message))
}

fn text(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// Whether there is such a command.
pub(crate) fn is_command(word: &str) -> bool {
    Patronictl::command().find_subcommand(word).is_some()
}

fn unknown(argument: &str, command: Option<&str>, arguments: &[OsString]) -> String {
    if !argument.starts_with('-') || argument == "-" {
        let words = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned());
        let extra: Vec<String> =
            words.skip_while(|word| word != argument).filter(|word| !word.starts_with('-')).collect();
        let plural = if extra.len() > 1 { "s" } else { "" };
        return format!("Got unexpected extra argument{plural} ({})", extra.join(" "));
    }
    let similar = similar_options(argument, command);
    match similar.as_slice() {
        [] => format!("No such option '{argument}'."),
        [only] => format!("No such option '{argument}'. Did you mean '{only}'?"),
        several => {
            let several: Vec<String> = several.iter().map(|option| format!("'{option}'")).collect();
            format!("No such option '{argument}'. Did you mean one of: {}?", several.join(", "))
        }
    }
}

fn similar_options(argument: &str, command: Option<&str>) -> Vec<String> {
    if !argument.starts_with("--") {
        return Vec::new();
    }
    let program = Patronictl::command();
    let command = command.and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
    let mut options: Vec<String> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default())
        // What only we have must not be suggested.
        .filter(|name| {
            !["config-file", "insecure", "yes", "driver", "reads", "database"].contains(name)
                || command.get_name() == "patronictl"
        })
        .map(|name| format!("--{name}"))
        .collect();
    options.push("--help".to_owned());
    let names: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut found: Vec<String> =
        similar::get_close_matches(argument, &names, 3, 0.6).into_iter().map(str::to_owned).collect();
    found.sort();
    found
}

/// `--format` of `--format <FORMAT>`.
fn long_name(option: &str) -> &str {
    option.split([' ', '=']).next().unwrap_or(option)
}

/// The name under which an option was given.
fn as_typed(option: &str, arguments: &[OsString]) -> String {
    let long = long_name(option);
    let last = arguments.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if last.starts_with('-') && last != "--" { last } else { long.to_owned() }
}

/// `'--format' / '-f'`.
fn both_names(option: &str, command: Option<&str>) -> Option<String> {
    let long = long_name(option);
    let program = Patronictl::command();
    let command = command.and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
    let found = command.get_arguments().find(|argument| argument.get_long() == long.strip_prefix("--"))?;
    Some(match found.get_short() {
        Some(short) if long == "--watch" => format!("'-{short}' / '{long}'"),
        Some(short) => format!("'{long}' / '-{short}'"),
        None => format!("'{long}'"),
    })
}
