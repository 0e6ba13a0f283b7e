//! Commands and their options, as clap knows them.

use std::fmt::Write;

use clap::{Arg, Command};

use super::{code, head, row};
use crate::arguments;

const INTRO: &str = "\
# Commands

A link named `patroni` to the binary runs `patroni FILE`, one named `patronictl` the operators' commands as Patroni's users know them.
`bellwether COMMAND --help` says the same as this page, `bellwether man` prints it as manual pages, `bellwether completion` makes a shell
complete it. Exit statuses are told [on a page of their own](exit-codes.md).
";

pub(super) fn page() -> String {
    let mut program = arguments::program();
    program.build();
    let mut page = INTRO.to_owned();
    let globals: Vec<&Arg> = program.get_arguments().collect();
    page.push_str("\n## Before every command\n\n");
    arguments_of(&mut page, globals.iter().copied());
    for command in shown(&program) {
        describe(&mut page, command, "bellwether", &globals);
    }
    page
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
}

fn describe(page: &mut String, command: &Command, above: &str, globals: &[&Arg]) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(page, "\n## {name}\n\n{about}\n\n```text\n{usage}\n```\n");
    let is_known = |arg: &&Arg| !globals.iter().any(|global| global.get_id() == arg.get_id());
    let own: Vec<&Arg> = command.get_arguments().filter(is_known).collect();
    if own.iter().any(|arg| is_shown(arg)) {
        page.push('\n');
        arguments_of(page, own.into_iter());
    }
    for inner in shown(command) {
        describe(page, inner, &name, globals);
    }
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
}

fn arguments_of<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str(&head(&["argument", "default", "meaning"]));
    for arg in arguments.filter(|arg| is_shown(arg)) {
        let defaults: Vec<_> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let takes_value = arg.get_action().takes_values();
        let default = if takes_value { defaults.join(" ") } else { String::new() };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        page.push_str(&row(&[&code(&written(arg)), &code(&default), &help]));
    }
}

/// `-f, --format FORMAT`, or `CLUSTER_NAME`.
fn written(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string);
    let values = values.collect::<Vec<_>>().join(" ");
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    match (names.is_empty(), arg.get_action().takes_values()) {
        (true, _) => values,
        (false, true) => format!("{} {values}", names.join(", ")),
        (false, false) => names.join(", "),
    }
}
