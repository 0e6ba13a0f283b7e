//! What the file system must show: PostgreSQL's programs, and a data directory that is one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Given, Judge, Probe, raw};
use crate::{Problem, node::Node};

/// Programs that must be there. `pg_rewind` only if it is given another name.
const PROGRAMS: [&str; 6] = ["pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready"];

pub(super) fn judge(root: &Node, env: &BTreeMap<String, String>, judge: &mut Judge) {
    let Some(section) = raw(root, "postgresql").map(|entry| &entry.node).filter(|node| node.is_map()) else {
        return;
    };
    let programs = Programs::of(section, env);
    programs.judge(section, judge);
    if let Some(data_dir) = raw(section, "data_dir") {
        let given = Given { path: "postgresql.data_dir", node: &data_dir.node };
        if let Some(dir) = data_dir.node.to_value().as_str() {
            judge_data_dir(given, dir, &programs, judge);
        }
    }
    if let Some(cluster) = raw(root, "bootstrap")
        .and_then(|entry| raw(&entry.node, "dcs"))
        .and_then(|entry| raw(&entry.node, "standby_cluster"))
    {
        judge_standby_cluster(&cluster.node, judge);
    }
}

/// Where PostgreSQL's programs are looked for.
struct Programs {
    /// As in the configuration; empty = by `PATH`.
    bin_dir: String,
    path: String,
    names: BTreeMap<String, String>,
}

impl Programs {
    fn of(section: &Node, env: &BTreeMap<String, String>) -> Self {
        let text = |node: &Node, key: &str| {
            raw(node, key).and_then(|entry| entry.node.to_value().as_str().map(str::to_owned))
        };
        let names = raw(section, "bin_name").map(|entry| &entry.node);
        let name = |program: &str| names.and_then(|names| text(names, program));
        let all = PROGRAMS.iter().chain(&["pg_rewind"]);
        Self {
            bin_dir: text(section, "bin_dir").unwrap_or_default(),
            path: env.get("PATH").cloned().unwrap_or_default(),
            names: all.filter_map(|program| Some(((*program).to_owned(), name(program)?))).collect(),
        }
    }

    fn name<'a>(&'a self, program: &'a str) -> &'a str {
        self.names.get(program).map_or(program, String::as_str)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let dirs = if self.bin_dir.is_empty() { &self.path } else { &self.bin_dir };
        let dirs = dirs.split(':').filter(|dir| !dir.is_empty());
        dirs.map(|dir| Path::new(dir).join(name)).find(|program| program.is_file())
    }

    fn judge(&self, section: &Node, judge: &mut Judge) {
        const REMEDY: &str = "name the directory with PostgreSQL's programs";
        let origin = raw(section, "bin_dir").map_or(&section.origin, |entry| &entry.origin);
        let problem = |reason: String| Problem::new("postgresql.bin_dir", reason).at(origin).help(REMEDY);
        if !self.bin_dir.is_empty() && !Path::new(&self.bin_dir).is_dir() {
            let missing = format!("Directory '{}' does not exist.", self.bin_dir);
            judge.problems.push(problem(missing));
            return;
        }
        let place = if self.bin_dir.is_empty() { "$PATH" } else { &self.bin_dir };
        if let Some(names) = raw(section, "bin_name") {
            for (program, name) in self.names.iter().filter(|(_, name)| self.find(name).is_none()) {
                let Some(entry) = raw(&names.node, program) else { continue };
                let path = format!("postgresql.bin_name.{program}");
                let given = Given { path: &path, node: &entry.node };
                judge.tell(given.failed(&format!("does not contain '{name}' in '{place}'")), REMEDY);
            }
        }
        for program in PROGRAMS {
            let name = self.name(program);
            if self.find(name).is_none() {
                judge.problems.push(problem(format!("does not contain '{name}' in '{place}'")));
            }
        }
    }
}

/// It may be absent or empty; otherwise it must be PostgreSQL's, and of the version of the programs.
fn judge_data_dir(given: Given<'_>, dir: &str, programs: &Programs, judge: &mut Judge) {
    const REMEDY: &str = "name an absent or empty directory, or that of a database";
    if dir.is_empty() {
        judge.tell(given.failed("is an empty string"), REMEDY);
        return;
    }
    let path = Path::new(dir);
    if path.exists() && !path.is_dir() {
        judge.tell(given.failed("is not a directory"), REMEDY);
        return;
    }
    if fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none()) {
        return;
    }
    let version = fs::read_to_string(path.join("PG_VERSION")).unwrap_or_default();
    let version = version.trim();
    if version.is_empty() || !path.join("global/pg_control").exists() {
        judge.tell(given.failed("doesn't look like a valid data directory"), REMEDY);
        return;
    }
    let wal = if version.starts_with("9.") { "pg_xlog" } else { "pg_wal" };
    if !path.join(wal).is_dir() {
        let reason =
            format!("data dir for the cluster is not empty, but doesn't contain \"{wal}\" directory");
        judge.tell(given.failed(&reason), REMEDY);
        return;
    }
    if let Some(program) = programs.find(programs.name("postgres")) {
        // The answer replaces the `?`.
        let reason = format!(
            "data_dir directory postgresql version ({version}) doesn't match with 'postgres --version' output (?)"
        );
        let problem = given.failed(&reason).help("set `postgresql.bin_dir` to the programs of that version");
        judge.probes.push(Probe::Version { program, data_version: version.to_owned(), problem });
    }
}

/// A source is needed where the section is there.
fn judge_standby_cluster(node: &Node, judge: &mut Judge) {
    const SOURCES: [&str; 3] = ["host", "port", "restore_command"];
    if !node.is_map() || SOURCES.iter().any(|key| raw(node, key).is_some()) {
        return;
    }
    for key in SOURCES {
        let path = format!("bootstrap.dcs.standby_cluster.{key}");
        let missing = Problem::new(path, "is not defined.").at(&node.origin);
        judge.tell(missing, "say where the other cluster is, or remove `standby_cluster`");
    }
}
