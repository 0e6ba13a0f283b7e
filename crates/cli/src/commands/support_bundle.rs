//! `support-bundle`: everything that somebody who helps needs to see, in one file, without secrets.

mod redaction;
mod tar;

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bellwether_api_client::Method;
use bellwether_dcs::{Snapshot, codec};
use bellwether_types::cluster::{Cluster, Member};
use jiff::Zoned;
use serde_json::{Map, Value, json};

use self::redaction::Redaction;
use super::list::table;
use crate::{
    command::SupportBundleArgs,
    error::CliError,
    groups::Groups,
    journal::sources,
    manner::Outcome,
    render::{self, yaml},
    session::{CALL_PATIENCE, Session, Target},
};

/// Of a log file, its end.
const LOG_BYTES: u64 = 1024 * 1024;

const README: &str = "\
What is in here

  version.txt            versions of this program
  configuration.yml      the local configuration that the command was called with
  cluster.txt            the members and the history as the commands show them
  store.json             every key of the cluster in the store
  members/NAME/          what each member's REST API answers: status, cluster, metrics, and its journal
  local/                 journal and log files of the node that the command was called on
  problems.txt           what could not be collected, and why

Secrets are replaced by [redacted]: passwords, tokens and keys by their names, the configuration's own
secrets wherever they occur, and passwords inside connection strings. Names, addresses and settings are
not secret to this program; look through the files before you send them.
";

/// The files of a bundle, redacted as they come in.
struct Bundle {
    redaction: Redaction,
    files: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: impl Into<String>, text: &str) {
        self.files.push((name.into(), self.redaction.text(text)));
    }

    fn add_json(&mut self, name: impl Into<String>, value: &Value) {
        let text = serde_json::to_string_pretty(&self.redaction.value(value)).unwrap_or_default();
        self.add(name, &(text + "\n"));
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }
}

pub(crate) async fn support_bundle(
    session: &mut Session,
    args: &SupportBundleArgs,
) -> Result<Outcome, CliError> {
    let mut bundle = Bundle {
        redaction: Redaction::new(&session.document, &session.env),
        files: Vec::new(),
        problems: Vec::new(),
    };
    bundle.add("README.txt", README);
    let versions = format!(
        "bellwether {}\ncompatible with Patroni {}\n",
        env!("CARGO_PKG_VERSION"),
        codec::COMPATIBLE_VERSION
    );
    bundle.add("version.txt", &versions);
    let configuration = bundle.redaction.value(&session.document);
    bundle.add("configuration.yml", &yaml::block(&configuration));
    local_files(session, &mut bundle);
    collect_cluster(session, args, &mut bundle).await;

    let path = args.output.clone().unwrap_or_else(|| default_name(session, args));
    let problems = std::mem::take(&mut bundle.problems);
    if !problems.is_empty() {
        bundle.add("problems.txt", &(problems.join("\n") + "\n"));
    }
    write(&path, &bundle.files)?;
    report(session, &path, &bundle.files, &problems);
    Ok(Outcome::Done)
}

fn default_name(session: &Session, args: &SupportBundleArgs) -> PathBuf {
    let scope = session.config.scope.as_ref().map(|scope| scope.as_str());
    let cluster = args.cluster.as_deref().or(scope).unwrap_or("cluster");
    // Somebody else's file system may not like a colon.
    PathBuf::from(format!("bellwether-{cluster}-{}.tar", Zoned::now().strftime("%Y%m%dT%H%M%S")))
}

async fn collect_cluster(session: &mut Session, args: &SupportBundleArgs, bundle: &mut Bundle) {
    let read = match session.target_of_own_group(args.cluster.as_deref()).await {
        Ok(target) => target.snapshot().await.map(|snapshot| (target, snapshot)),
        Err(error) => Err(error),
    };
    let (target, snapshot) = match read {
        Ok(read) => read,
        Err(error) => {
            bundle.problem(format!("the store could not be read, so no member was asked: {error}"));
            return;
        }
    };
    let cluster = codec::decode(&snapshot);
    bundle.add("cluster.txt", &cluster_text(&target, &cluster));
    bundle.add_json("store.json", &store_json(&snapshot));
    for member in cluster.members.values() {
        if member.api_url.is_none() {
            bundle.problem(format!("{}: has published no REST API", member.name));
            continue;
        }
        collect_member(session, member, bundle).await;
    }
}

fn cluster_text(target: &Target, cluster: &Cluster) -> String {
    let history = render::history::render(cluster, render::output::Format::Pretty);
    format!("{}\n{history}", table(target, &Groups::of(target.part, cluster.clone())))
}

fn store_json(snapshot: &Snapshot) -> Value {
    let keys: Map<String, Value> = snapshot
        .entries
        .iter()
        .map(|(key, entry)| {
            let text = String::from_utf8_lossy(&entry.value);
            let value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
            let told = json!({
                "value": value, "created": entry.created, "modified": entry.modified,
                "lease": entry.lease,
            });
            (key.to_string(), told)
        })
        .collect();
    json!({"revision": snapshot.revision, "keys": keys})
}

async fn collect_member(session: &Session, member: &Member, bundle: &mut Bundle) {
    let dir = format!("members/{}", member.name);
    for (path, file) in [("patroni", "status.json"), ("cluster", "cluster.json"), ("metrics", "metrics.txt")]
    {
        match session.call(member, Method::GET, path, None, CALL_PATIENCE).await {
            Ok(answer) => match answer.json() {
                Some(value) => bundle.add_json(format!("{dir}/{file}"), &value),
                None => bundle.add(format!("{dir}/{file}"), &answer.body),
            },
            Err(error) => {
                bundle.problem(format!("{}: {error}", member.name));
                return;
            }
        }
    }
    match sources::ask(session, member).await {
        Ok(records) => {
            let lines: String =
                records.iter().map(|record| format!("{}\n", bundle.redaction.value(record))).collect();
            bundle.add(format!("{dir}/journal.jsonl"), &lines);
        }
        Err(why) => bundle.problem(format!("{}: no journal: {why}", member.name)),
    }
}

/// Journal and log files of this node, which are there even when no agent runs.
fn local_files(session: &Session, bundle: &mut Bundle) {
    if let Some(dir) = session.own_journal_dir() {
        for name in sources::FILES {
            let Ok(text) = tail(&dir.join(name), u64::MAX) else { continue };
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let redacted: String =
                lines.map(|record| format!("{}\n", bundle.redaction.value(&record))).collect();
            bundle.add(format!("local/{name}"), &redacted);
        }
    }
    if let Some(dir) = &session.config.log.dir {
        let path = dir.join("patroni.log");
        match tail(&path, LOG_BYTES) {
            Ok(text) => bundle.add("local/patroni.log", &text),
            Err(error) => bundle.problem(format!("{}: {error}", path.display())),
        }
    }
}

/// The last `bytes` of a file.
fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Only its owner may read the file; an existing one is never overwritten.
fn write(path: &Path, files: &[(String, String)]) -> Result<(), CliError> {
    let failed = |cause| CliError::io(format!("could not write {}", path.display()), cause);
    let archive = tar::archive(files, jiff::Timestamp::now().as_second());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(&archive).and_then(|()| file.sync_all()).map_err(failed)
}

fn report(session: &mut Session, path: &Path, files: &[(String, String)], problems: &[String]) {
    session.talk.line(path.display());
    for (name, text) in files {
        session.talk.note(format!("  {:>9} bytes  {name}", text.len()));
    }
    for problem in problems {
        session.talk.note(format!("  missing: {problem}"));
    }
    session.talk.note(
        "Secrets of the configuration, passwords and tokens are replaced by [redacted]; look through it before you send it",
    );
}
