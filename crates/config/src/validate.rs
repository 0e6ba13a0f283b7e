//! What `patroni --validate-config` finds: Patroni's rules, in its words, each with a place and a remedy.
//!
//! This is stricter than [`crate::load()`]: a value that runs may still be refused here (a loopback address for others, text
//! for a number), so that one file is judged alike by both programs. `rules` holds the table, `places` what the file system
//! must show. What must be asked of the network is returned as [`Probe`]s, because this crate connects to nothing.

mod addresses;
mod places;
mod rules;
mod shown;

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use bellwether_types::secret::is_secret;
use serde_json::Value;

use self::{
    rules::{Field, ROOT, Rule},
    shown::shown,
};
use crate::{
    HostPort, LoadError, Origin, Problem, load,
    node::{Entry, Kind, Node},
    source,
    value::{Unit, int_with_unit, lenient_bool},
};

/// What was found without asking anybody, and what is left to ask.
#[derive(Debug)]
pub struct Validation {
    /// Every problem: `path`, `value` and `reason` are what Patroni prints.
    pub problems: Vec<Problem>,
    pub probes: Vec<Probe>,
    /// The merged local document, secrets included.
    pub document: Value,
}

/// Something to be asked of the world; each comes with the problem that the wrong answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody may answer at any of these addresses.
    Free { addresses: Vec<HostPort>, problem: Problem },
    /// Somebody must answer there.
    Reachable { address: HostPort, problem: Problem },
    /// `postgres --version` must tell this major version.
    Version { program: PathBuf, data_version: String, problem: Problem },
}

impl Problem {
    /// The line that Patroni prints (`path value error`), and below it where and what to do.
    pub fn as_patroni_tells(&self) -> String {
        let mut text = format!("{} {} {}", self.path, self.value.as_deref().unwrap_or_default(), self.reason);
        if self.origin != Origin::default() {
            text.push_str(&format!("\n  at: {}", self.origin));
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("\n  help: {remedy}"));
        }
        text
    }
}

/// Judges the configuration that [`crate::load()`] would read from the same place. With nothing at all to read, everything
/// that is needed is missing.
pub fn validate(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Validation, LoadError> {
    let (root, found) = match source::read(path, env) {
        Ok(source) => (source.root, source.problems),
        Err(LoadError::Empty) => (Node::empty_map(Origin::default()), Vec::new()),
        Err(error) => return Err(error),
    };
    let mut judge = Judge { problems: found, probes: Vec::new() };
    judge.fields(&root, ROOT, "");
    judge.stores(&root);
    judge.multiple_tags(&root);
    places::judge(&root, env, &mut judge);
    if let Err(error) = load(path, env) {
        judge.add_missed(error.problems());
    }
    Ok(Validation { problems: judge.problems, probes: judge.probes, document: root.to_value() })
}

/// Collects problems and probes.
struct Judge {
    problems: Vec<Problem>,
    probes: Vec<Probe>,
}

/// A value of the document on its way through the table.
#[derive(Clone, Copy)]
struct Given<'a> {
    path: &'a str,
    node: &'a Node,
}

impl Given<'_> {
    fn problem(&self, reason: impl Into<String>) -> Problem {
        let key = self.path.rsplit('.').next().unwrap_or_default();
        let value = if is_secret(key) { String::new() } else { shown(&self.node.to_value()) };
        Problem::new(self.path, reason).at(&self.node.origin).found(value)
    }

    fn failed(&self, reason: &str) -> Problem {
        self.problem(format!("didn't pass validation: {reason}"))
    }

    /// Variables carry text only: there, a number or flag is judged by what it says.
    fn is_from_environment(&self) -> bool {
        self.node.origin.source.as_ref().is_some_and(|source| source.starts_with("environment variable"))
    }
}

impl Judge {
    fn tell(&mut self, problem: Problem, remedy: &str) {
        self.problems.push(if remedy.is_empty() { problem } else { problem.help(remedy) });
    }

    fn fields(&mut self, node: &Node, fields: &[Field], above: &str) {
        for field in fields {
            let path = joined(above, field.key);
            match raw(node, field.key) {
                Some(entry) => self.value(Given { path: &path, node: &entry.node }, &field.rule),
                None if field.needed => {
                    let missing = Problem::new(path.as_str(), "is not defined.").at(&node.origin);
                    self.tell(missing, &format!("add `{path}`"));
                }
                None => {}
            }
        }
    }

    fn value(&mut self, given: Given<'_>, rule: &Rule) {
        let value = given.node.to_value();
        match rule {
            Rule::Text => {
                let text = value.is_string() || (given.is_from_environment() && value.is_number());
                if !text {
                    self.tell(
                        given.problem("is not a string"),
                        "write a text, in quotes if it looks like a number",
                    );
                }
            }
            Rule::Flag => {
                if !(value.is_boolean() || given.is_from_environment() && lenient_bool(&value).is_some()) {
                    self.tell(given.problem("is not a boolean"), "write true or false, without quotes");
                }
            }
            Rule::Int(low, high) => self.int(given, &value, *low, *high),
            Rule::Quantity(base, low) => self.quantity(given, &value, *base, *low, i64::MAX),
            Rule::Parameter(low, high) => self.quantity(given, &value, None, *low, *high),
            Rule::Words(words) => {
                if !value.as_str().is_some_and(|text| words.contains(&text)) {
                    self.tell(given.failed("Wrong value"), &format!("use one of: {}", words.join(", ")));
                }
            }
            Rule::WordsAnyCase(words) => {
                let known = |text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
                if !value.as_str().is_some_and(known) {
                    self.tell(given.failed("Wrong value"), &format!("use one of: {}", words.join(", ")));
                }
            }
            Rule::Map => self.is_map(given),
            Rule::Fields(fields) => {
                if given.node.is_map() {
                    self.fields(given.node, fields, given.path);
                } else {
                    self.is_map(given);
                }
            }
            Rule::List(each) => self.list(given, each),
            Rule::LogFormat => {
                if !value.is_string() && !value.is_array() {
                    self.tell(given.failed("Should be a string or a list"), "");
                }
            }
            Rule::WatchdogMode => self.watchdog_mode(given, &value),
            Rule::SynchronousMode => {
                let quorum = value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("quorum"));
                if !quorum && lenient_bool(&value).is_none() {
                    self.tell(
                        given.failed("invalid value for synchronous_mode"),
                        "use one of: off, on, quorum",
                    );
                }
            }
            Rule::OptionOrMap => {
                if !value.is_string() && !value.is_object() {
                    self.tell(given.problem("is not a string"), "write `option` or `option: value`");
                    self.problems.push(given.problem("is not a dictionary"));
                }
            }
            Rule::Published => self.published(given, &value),
            Rule::Listen { several } => self.listen(given, &value, *several),
            Rule::StackSize => {
                let size = int_with_unit(&value, Some(Unit::Bytes));
                if !size.is_some_and(|size| size >= 65536 && size % 65536 == 0) {
                    self.tell(given.failed("Wrong value"), "write a multiple of 64kB");
                }
            }
        }
    }

    fn is_map(&mut self, given: Given<'_>) {
        if !given.node.is_map() {
            self.tell(
                given.problem("is not a dictionary"),
                "write `key: value` lines below it, or remove it",
            );
        }
    }

    fn int(&mut self, given: Given<'_>, value: &Value, low: i64, high: i64) {
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) if given.is_from_environment() => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            None => self.tell(given.problem("is not an integer"), "write a whole number, without quotes"),
            Some(number) if !(low..=high).contains(&number) => {
                self.tell(given.failed("Wrong value"), &range(low, high));
            }
            Some(_) => {}
        }
    }

    fn quantity(&mut self, given: Given<'_>, value: &Value, base: Option<Unit>, low: i64, high: i64) {
        let number = int_with_unit(value, base);
        if !number.is_some_and(|number| (low..=high).contains(&number)) {
            self.tell(given.failed("Wrong value"), &range(low, high));
        }
    }

    fn list(&mut self, given: Given<'_>, each: &Rule) {
        let Kind::List(items) = &given.node.kind else {
            self.tell(given.problem("is not a list"), "write the items below the key, each after `- `");
            return;
        };
        if items.is_empty() {
            self.tell(given.problem("is an empty list"), "add an item, or remove the key");
        }
        for (at, item) in items.iter().enumerate() {
            let path = format!("{}.{at}", given.path);
            self.value(Given { path: &path, node: item }, each);
        }
    }

    fn watchdog_mode(&mut self, given: Given<'_>, value: &Value) {
        match value {
            Value::Bool(false) => {}
            Value::String(mode) if ["off", "automatic", "required"].contains(&mode.as_str()) => {}
            Value::String(_) | Value::Bool(_) => {
                self.tell(given.failed("Wrong value"), "use one of: off, automatic, required");
            }
            _ => self
                .tell(given.failed("expected type is not a string"), "use one of: off, automatic, required"),
        }
    }

    fn multiple_tags(&mut self, root: &Node) {
        let Some(tags) = raw(root, "tags").map(|entry| &entry.node) else { return };
        for (flag, priority) in [("nofailover", "failover_priority"), ("nosync", "sync_priority")] {
            if let (Some(_), Some(second)) = (raw(tags, flag), raw(tags, priority)) {
                let problem = Problem::new("tags", format!("Multiple of ('{flag}', '{priority}') provided"));
                self.tell(problem.at(&second.origin), &format!("keep `{flag}` or `{priority}`"));
            }
        }
    }

    /// What would keep this program from starting, where Patroni's rules have found nothing at that place.
    fn add_missed(&mut self, problems: &[Problem]) {
        for problem in problems {
            let told = self.problems.iter().any(|told| {
                told.path == problem.path
                    || told.path.strip_prefix(&problem.path).is_some_and(|rest| rest.starts_with('.'))
                    || problem.path.strip_prefix(&told.path).is_some_and(|rest| rest.starts_with('.'))
            });
            let no_store = problem.path.is_empty() && self.problems.iter().any(|told| told.path == "etcd3");
            if !told && !no_store {
                self.problems.push(problem.clone());
            }
        }
    }
}

/// The entry of a key, nulls included.
fn raw<'a>(node: &'a Node, key: &str) -> Option<&'a Entry> {
    node.entries().iter().find(|entry| entry.key == key)
}

fn joined(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
}

fn range(low: i64, high: i64) -> String {
    if high == i64::MAX {
        format!("write a number of {low} or more")
    } else {
        format!("write a number from {low} to {high}")
    }
}

#[cfg(test)]
mod tests;
