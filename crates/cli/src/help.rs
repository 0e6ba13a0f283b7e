//! `patronictl --help`, laid out as its users know it.

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::{command::Patronictl, usage::synopsis};

/// Lines are broken there.
const WIDTH: usize = 78;
/// The widest that the column of names gets.
const NAMES: usize = 30;

/// What only we have: it works, and is not shown among what Patroni's users look for.
const OURS: [&str; 10] = [
    "explain",
    "what-if",
    "timing",
    "support-bundle",
    "completion",
    "man",
    "entrypoints",
    "haproxy-config",
    "keepalived-config",
    "pgbouncer-config",
];

/// The whole program's, or one command's.
pub(crate) fn help(command: Option<&str>) -> String {
    let program = Patronictl::command();
    let own = command.and_then(|name| program.find_subcommand(name));
    let (path, synopsis) = match command {
        Some(name) => (format!("patronictl {name}"), synopsis(name)),
        None => ("patronictl".to_owned(), "COMMAND [ARGS]..."),
    };
    let shown = own.unwrap_or(&program);
    let about = shown.get_about().map(|about| about.to_string()).unwrap_or_default();
    let mut text = format!("Usage: {path} [OPTIONS] {synopsis}\n\n");
    for line in wrap(&about, WIDTH - 2) {
        text.push_str(&format!("  {line}\n"));
    }
    let options = shown.get_arguments().filter(|argument| is_shown(argument, own.is_some()));
    let mut rows: Vec<(String, String)> = options.map(option).collect();
    rows.push(("--help".to_owned(), "Show this message and exit.".to_owned()));
    text.push_str("\nOptions:\n");
    text.push_str(&two_columns(&rows));
    if own.is_none() {
        let mut rows: Vec<(String, String)> = commands(&program);
        rows.sort();
        text.push_str("\nCommands:\n");
        text.push_str(&two_columns(&rows));
    }
    text
}

fn commands(program: &Command) -> Vec<(String, String)> {
    let known = program.get_subcommands().filter(|command| !OURS.contains(&command.get_name()));
    known
        .map(|command| {
            let about = command.get_about().map(|about| about.to_string()).unwrap_or_default();
            (command.get_name().to_owned(), about.trim_end_matches('.').to_owned())
        })
        .collect()
}

/// The options that stand before the command are shown there only.
fn is_shown(argument: &Arg, is_command: bool) -> bool {
    let is_global = ["config_file", "insecure"].contains(&argument.get_id().as_str());
    let is_group = argument.get_id().as_str() == "group";
    !argument.is_positional() && !argument.is_hide_set() && if is_command { !is_global } else { !is_group }
}

/// `-f, --format [pretty|tsv]` and what it is for.
fn option(argument: &Arg) -> (String, String) {
    let mut names: Vec<String> = argument.get_short().map(|short| format!("-{short}")).into_iter().collect();
    let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
    names.extend(longs.iter().filter(|long| **long != "yes").map(|long| format!("--{long}")));
    let mut shown = names.join(", ");
    if matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
        let choices: Vec<String> =
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let kind = match (choices.is_empty(), argument.get_id().as_str()) {
            (false, _) => format!("[{}]", choices.join("|")),
            (true, "group" | "port") => "INTEGER".to_owned(),
            (true, "watch") => "FLOAT".to_owned(),
            (true, "file") => "FILENAME".to_owned(),
            (true, _) => "TEXT".to_owned(),
        };
        shown.push_str(&format!(" {kind}"));
    }
    let about = argument.get_help().map(|help| help.to_string()).unwrap_or_default();
    (shown, about.split(" [env:").next().unwrap_or_default().trim_end().to_owned())
}

fn two_columns(rows: &[(String, String)]) -> String {
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let column = widest.min(NAMES) + 2;
    let mut text = String::new();
    for (name, about) in rows {
        let mut lines = wrap(about, WIDTH - column - 2).into_iter();
        let length = name.chars().count();
        match lines.next() {
            None => text.push_str(&format!("  {name}\n")),
            Some(first) if length + 2 <= column => text.push_str(&format!("  {name:<column$}{first}\n")),
            Some(first) => text.push_str(&format!("  {name}\n  {:column$}{first}\n", "")),
        }
        for line in lines {
            text.push_str(&format!("  {:column$}{line}\n", ""));
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_the_layout_that_people_know() {
        let text = help(Some("topology"));
        assert!(
            text.starts_with("Usage: patronictl topology [OPTIONS] [CLUSTER_NAMES]...\n\n  Show the members"),
            "{text}"
        );
        assert!(
            text.contains("\nOptions:\n  -W                 Update the screen every 2 seconds\n"),
            "{text}"
        );
        assert!(text.contains("\n  -w, --watch FLOAT  Update the screen"), "{text}");
        assert!(text.ends_with("\n  --help             Show this message and exit.\n"), "{text}");
        let text = help(None);
        assert!(text.contains("\n  -d, --dcs-url, --dcs TEXT  "), "{text}");
        assert!(text.contains("\nCommands:\n  demote-cluster   ") && !text.contains("explain"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let text = help(Some("restart"));
        assert!(text.contains("\n  -r, --role [leader|primary|standby-leader|replica|standby|any]\n                                  Only"), "{text}");
    }
}
