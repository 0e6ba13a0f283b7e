//! `edit-config`: change the dynamic configuration, in an editor or by options, by compare-and-set.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bellwether_config::{Floors, dynamic, parse_yaml, patch, same};
use bellwether_dcs::{CommitOutcome, codec, ops};
use bellwether_types::cluster::ConfigDocument;
use serde_json::{Map, Value};
use similar::TextDiff;

use crate::{
    command::EditConfigArgs,
    error::CliError,
    manner::{Manner, Outcome},
    render::yaml,
    session::{Session, deadline},
};

/// Where a text comes from that is not a file.
const STANDARD_INPUT: &str = "-";

pub(crate) async fn edit_config(session: &mut Session, args: &EditConfigArgs) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let snapshot = target.snapshot().await?;
    let before = match codec::decode(&snapshot).config.map(|keyed| keyed.value) {
        None => {
            return Err(CliError::refused(format!(
                "The config key does not exist in the cluster {}",
                target.name
            )));
        }
        Some(ConfigDocument::Valid(document)) => document,
        Some(ConfigDocument::Invalid) => Value::Object(Map::new()),
    };
    let after = changed(session, args, target.name.as_str(), &before)?;
    let (text_before, text_after) = (yaml::block(&before), yaml::block(&after));
    // Patroni's tool compares what it shows.
    let is_same = match session.manner {
        Manner::Patronictl => text_before == text_after,
        Manner::Bellwether => same(&before, &after),
    };
    if is_same {
        session.talk.line("Not changed");
        return Ok(Outcome::Done);
    }
    if session.manner == Manner::Bellwether {
        check(&after)?;
    }
    if !args.quiet {
        show(session, &diff(&text_before, &text_after))?;
    }
    let from_stdin = [&args.apply, &args.replace].into_iter().flatten().any(|file| file == STANDARD_INPUT);
    if from_stdin && !args.force.force {
        session.talk.line("Use --force option to apply changes");
        return Ok(Outcome::Failed);
    }
    if !args.force.force && !session.talk.confirm("Apply these changes?")? {
        return Ok(Outcome::Failed);
    }
    let seen = ops::Seen::in_snapshot(&snapshot, codec::keys::CONFIG);
    match ops::write_config(target.store.as_ref(), &after, seen, &[], deadline()).await {
        CommitOutcome::Applied(_) => {
            session.talk.line("Configuration changed");
            Ok(Outcome::Done)
        }
        CommitOutcome::Refused { .. } => Err(CliError::with_help(
            "Config modification aborted due to concurrent changes",
            "look at the configuration again and repeat the change",
        )),
        CommitOutcome::Unknown(error) => {
            session.talk.note(format!("Not confirmed: {error}; `show-config` tells whether it was written"));
            Ok(Outcome::Unconfirmed)
        }
    }
}

/// The document as it is to be: replaced, then patched, then with single keys set; or out of an editor.
fn changed(
    session: &mut Session,
    args: &EditConfigArgs,
    cluster_name: &str,
    before: &Value,
) -> Result<Value, CliError> {
    let mut after = before.clone();
    let by_options =
        args.replace.is_some() || args.apply.is_some() || !args.set.is_empty() || !args.pg.is_empty();
    if !by_options {
        return parse_map(&edited(session, cluster_name, &yaml::block(before))?, "the edited text");
    }
    if let Some(file) = &args.replace {
        let replacement = parse_map(&read(session, file)?, file)?;
        after = Value::Object(Map::new());
        patch(&mut after, &replacement);
    }
    if let Some(file) = &args.apply {
        let change = parse_map(&read(session, file)?, file)?;
        patch(&mut after, &change);
    }
    let parameters = args.pg.iter().map(|setting| format!("postgresql.parameters.{setting}"));
    for setting in parameters.chain(args.set.iter().cloned()) {
        set(&mut after, &setting)?;
    }
    Ok(after)
}

fn read(session: &mut Session, file: &str) -> Result<String, CliError> {
    let text = match file {
        STANDARD_INPUT => session.talk.terminal.read_all(),
        file => std::fs::read_to_string(file),
    };
    text.map_err(|cause| CliError::io(format!("could not read {file}: {cause}"), cause))
}

fn parse_map(text: &str, what: &str) -> Result<Value, CliError> {
    match parse_yaml(text, what) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(CliError::refused(format!("{what} is no YAML mapping"))),
        Err(problem) => Err(CliError::refused(problem.to_string())),
    }
}

/// `a.b.c=value`, where the value is YAML and null deletes.
fn set(document: &mut Value, setting: &str) -> Result<(), CliError> {
    let invalid = || CliError::refused(format!("Invalid parameter setting {setting}"));
    let (path, text) = setting.split_once('=').ok_or_else(invalid)?;
    let value = parse_yaml(text, "the value").map_err(|_| invalid())?;
    let path = keys(path.trim());
    if path.iter().any(|key| key.is_empty()) {
        return Err(invalid());
    }
    put(document, &path, value);
    Ok(())
}

/// Keys are separated by dots, but the name of a PostgreSQL parameter may contain some.
fn keys(path: &str) -> Vec<&str> {
    match path.strip_prefix("postgresql.parameters.") {
        Some(parameter) => vec!["postgresql", "parameters", parameter],
        None => path.split('.').collect(),
    }
}

/// Sets a value at a path, making maps on the way; null deletes, and maps that become empty by that vanish.
fn put(document: &mut Value, path: &[&str], value: Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if !document.is_object() {
        if value.is_null() {
            return;
        }
        *document = Value::Object(Map::new());
    }
    let map = document.as_object_mut().expect("it was made one");
    if rest.is_empty() {
        match value {
            Value::Null => drop(map.shift_remove(*key)),
            value => drop(map.insert((*key).to_owned(), value)),
        }
        return;
    }
    if value.is_null() && !map.contains_key(*key) {
        return;
    }
    let deletes = value.is_null();
    let inner = map.entry((*key).to_owned()).or_insert_with(|| Value::Object(Map::new()));
    put(inner, rest, value);
    if deletes && inner.as_object().is_some_and(Map::is_empty) {
        map.shift_remove(*key);
    }
}

/// A document that no agent would take into use is not written.
fn check(document: &Value) -> Result<(), CliError> {
    match dynamic::parse(document, Floors::bellwether(std::time::Duration::ZERO)) {
        Ok(_) => Ok(()),
        Err(error) => Err(CliError::with_help(
            error.to_string(),
            "correct the values; agents would keep the previous configuration as a whole",
        )),
    }
}

fn diff(before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after).unified_diff().context_radius(3).header("", "").to_string()
}

/// On a terminal through a pager, otherwise as it is.
fn show(session: &mut Session, diff: &str) -> Result<(), CliError> {
    if !session.talk.terminal.is_interactive() {
        session.talk.terminal.out(diff);
        return Ok(());
    }
    let Some((program, options)) = pager(session) else {
        if session.manner == Manner::Bellwether {
            session.talk.terminal.out(diff);
            return Ok(());
        }
        return Err(CliError::refused(
            "No pager could be found. Either set PAGER environment variable with your pager or install either \"less\" \
             or \"more\" in the host.",
        ));
    };
    let failed = |cause| CliError::io(format!("could not run the pager {}", program.display()), cause);
    let mut child = Command::new(&program).args(options).stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A pager that was left early has shown enough.
        let _ = stdin.write_all(diff.as_bytes());
    }
    child.wait().map_err(failed)?;
    Ok(())
}

fn pager(session: &Session) -> Option<(PathBuf, &'static [&'static str])> {
    let path = session.env.get("PATH").map(String::as_str).unwrap_or_default();
    let chosen = session.env.get("PAGER").filter(|pager| !pager.is_empty());
    if let Some(program) = chosen.and_then(|pager| find_program(pager, path)) {
        return Some((program, &[]));
    }
    // Less ends by itself if everything fits on the screen.
    find_program("less", path)
        .map(|less| (less, &["-F", "-R", "-X"][..]))
        .or_else(|| find_program("more", path).map(|more| (more, &[][..])))
}

fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.into());
    }
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|candidate| candidate.is_file())
}

/// What an editor makes of a text.
fn edited(session: &mut Session, cluster_name: &str, text: &str) -> Result<String, CliError> {
    let editor = editor(session).ok_or_else(|| {
        CliError::refused("EDITOR environment variable is not set. editor or vi are not available")
    })?;
    let file = Draft::create(cluster_name, text)
        .map_err(|cause| CliError::io("could not write a file for the editor", cause))?;
    // `$EDITOR` may hold options: the shell's words are its words. Patroni takes it for one program, which works as well here.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(&file.path)
        .status()
        .map_err(|cause| CliError::io(format!("could not run the editor {editor}"), cause))?;
    if !status.success() {
        let code = status.code().map_or_else(|| status.to_string(), |code| code.to_string());
        return Err(CliError::refused(format!("Editor exited with return code {code}")));
    }
    std::fs::read_to_string(&file.path).map_err(|cause| CliError::io("could not read the edited file", cause))
}

fn editor(session: &Session) -> Option<String> {
    if let Some(editor) = session.env.get("EDITOR").filter(|editor| !editor.is_empty()) {
        return Some(editor.clone());
    }
    let path = session.env.get("PATH").map(String::as_str).unwrap_or_default();
    ["editor", "vi"].iter().find_map(|name| find_program(name, path)).map(|path| path.display().to_string())
}

/// The file that an editor works on; only its owner may read it, and it vanishes with this value.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn create(cluster_name: &str, text: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let random: u64 = rand::random();
        let path = std::env::temp_dir().join(format!("{cluster_name}-config-{random:016x}.yaml"));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let draft = Self { path };
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Left behind it would do no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_yaml_at_dotted_paths() {
        let before = json!({"ttl": 30, "postgresql": {"parameters": {"a.b": 1}}, "slots": {"x": {"type": "physical"}}});
        for (setting, after) in [
            (
                "ttl=20",
                json!({"ttl": 20, "postgresql": {"parameters": {"a.b": 1}}, "slots": {"x": {"type": "physical"}}}),
            ),
            (
                "ttl=null",
                json!({"postgresql": {"parameters": {"a.b": 1}}, "slots": {"x": {"type": "physical"}}}),
            ),
            ("postgresql.parameters.a.b=null", json!({"ttl": 30, "slots": {"x": {"type": "physical"}}})),
            ("slots.x.type=", json!({"ttl": 30, "postgresql": {"parameters": {"a.b": 1}}})),
            ("slots.y.z=null", before.clone()),
            (
                "slots={y: {type: logical}}",
                json!({"ttl": 30, "postgresql": {"parameters": {"a.b": 1}}, "slots": {"y": {"type": "logical"}}}),
            ),
            (
                "ttl.deep=on",
                json!({"ttl": {"deep": true}, "postgresql": {"parameters": {"a.b": 1}}, "slots": {"x": {"type": "physical"}}}),
            ),
        ] {
            let mut document = before.clone();
            set(&mut document, setting).unwrap();
            assert_eq!(document, after, "{setting}");
        }
        for bad in ["ttl", "=1", "a..b=1", "a=[1"] {
            let error = set(&mut before.clone(), bad).unwrap_err().to_string();
            assert_eq!(error, format!("Invalid parameter setting {bad}"));
        }
    }

    #[test]
    fn the_diff_has_headers_without_names() {
        let text = diff("loop_wait: 10\nttl: 30\n", "loop_wait: 10\nttl: 20\n");
        assert_eq!(text, "--- \n+++ \n@@ -1,2 +1,2 @@\n loop_wait: 10\n-ttl: 30\n+ttl: 20\n");
    }
}
