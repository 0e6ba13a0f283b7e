//! Reading a section of the document: typed values out, problems collected on the side.

use std::{
    cell::RefCell, collections::BTreeMap, fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use bellwether_types::secret::is_secret;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    duration,
    node::{Entry, Kind, Node, Scalar},
    problem::{Origin, Problem},
    value,
};

/// The remedy where a list or a map stands for a text.
const ONE_VALUE: &str = "write a single value after the key, in quotes if it holds special characters";

/// What was noticed while reading. Reading goes on after a problem, so that all of them come out in one run.
#[derive(Default)]
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// Paths that were asked for, so that a test can hold the table of keys to what is read.
    #[cfg(test)]
    pub(crate) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl Report {
    pub(crate) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn warn(&self, warning: Problem) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(crate) fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }
}

/// A map in the document, present or not.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    node: Option<&'a Node>,
    /// Of the section, or of the nearest one around it.
    pub(crate) origin: Origin,
    pub(crate) path: String,
    pub(crate) report: &'a Report,
    /// What cannot be read is warned about, and its default taken.
    is_lenient: bool,
}

impl<'a> Section<'a> {
    pub(crate) fn root(node: &'a Node, report: &'a Report) -> Self {
        let origin = Origin { line: None, ..node.origin.clone() };
        Self { node: Some(node), origin, path: String::new(), report, is_lenient: false }
    }

    /// The section below `key`. Anything but a map is a problem, and reads as an empty one.
    pub(crate) fn child(&self, key: &str) -> Section<'a> {
        let (path, report) = (self.path_of(key), self.report);
        let node = self.node(key);
        let origin = self.origin_of(key);
        let is_lenient = self.is_lenient;
        if node.is_some_and(|node| !node.is_map()) {
            self.complain(
                self.about(key, "expects a map")
                    .help(format!("write the settings of `{key}` below it, indented, as `key: value`")),
            );
            return Section { node: None, origin, path, report, is_lenient };
        }
        Section { node, origin, path, report, is_lenient }
    }

    /// The same section, read as Patroni reads what nothing depends on but how it logs and when its watchdog fires: a value that means
    /// nothing keeps no agent from starting. `config check` and `--validate-config` have a look of their own.
    pub(crate) fn lenient(&self) -> Section<'a> {
        Section { is_lenient: true, ..self.clone() }
    }

    /// As it is without that.
    pub(crate) fn strict(&self) -> Section<'a> {
        Section { is_lenient: false, ..self.clone() }
    }

    /// Tells of a value that cannot be used.
    pub(crate) fn complain(&self, problem: Problem) {
        if self.is_lenient {
            self.report.warn(problem.but("the default is used"));
        } else {
            self.report.problem(problem);
        }
    }

    /// Whether the section itself is there.
    pub(crate) fn is_given(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    pub(crate) fn node(&self, key: &str) -> Option<&'a Node> {
        #[cfg(test)]
        self.report.asked.borrow_mut().insert(self.path_of(key));
        self.node.and_then(|node| node.get(key))
    }

    pub(crate) fn entries(&self) -> &'a [Entry] {
        self.node.map_or(&[], Node::entries)
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A problem with `key`, with its place and value (a secret's value stays out).
    pub(crate) fn about(&self, key: &str, reason: impl Into<String>) -> Problem {
        let problem = Problem::new(self.path_of(key), reason).at(&self.origin_of(key));
        match self.node(key).map(|node| &node.kind) {
            Some(Kind::Scalar(scalar)) if !is_secret(key) => problem.found(scalar.written.as_str()),
            _ => problem,
        }
    }

    /// As [`Self::about`], without the value.
    pub(crate) fn about_hidden(&self, key: &str, reason: impl Into<String>) -> Problem {
        Problem::new(self.path_of(key), reason).at(&self.origin_of(key))
    }

    /// Where `key` stands, or else the section that misses it.
    fn origin_of(&self, key: &str) -> Origin {
        let entry = self.node.and_then(|node| node.entry(key));
        entry.map_or(&self.origin, |entry| &entry.origin).clone()
    }

    pub(crate) fn missing(&self, key: &str, remedy: &str) {
        self.report.problem(self.about(key, "is not defined").help(remedy));
    }

    /// A text. A number or a word like `no` is taken too, with a warning where the written form would be lost.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        let Kind::Scalar(scalar) = &node.kind else {
            self.complain(self.about(key, "expects a text").help(ONE_VALUE));
            return None;
        };
        let text = text_of(scalar);
        if let Some(reason) = misread(scalar, &text, is_secret(key)) {
            let quoted =
                if is_secret(key) { "the value".to_owned() } else { format!("'{}'", scalar.written) };
            self.report.warn(self.about(key, reason).help(format!("put {quoted} into quotes")));
        }
        Some(text)
    }

    /// A text that is not empty.
    pub(crate) fn filled_text(&self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    pub(crate) fn required_text(&self, key: &str, remedy: &str) -> Option<String> {
        if !self.has(key) || self.text_is_empty(key) {
            self.missing(key, remedy);
            return None;
        }
        self.text(key)
    }

    pub(crate) fn text_is_empty(&self, key: &str) -> bool {
        matches!(self.node(key).map(|node| &node.kind), Some(Kind::Scalar(scalar)) if scalar.written.is_empty())
    }

    pub(crate) fn secret(&self, key: &str) -> Option<SecretString> {
        self.filled_text(key).map(SecretString::from)
    }

    pub(crate) fn file(&self, key: &str) -> Option<PathBuf> {
        self.filled_text(key).map(PathBuf::from)
    }

    /// A lenient boolean; anything else counts as not set, with a warning.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        let flag = match &node.kind {
            Kind::Scalar(scalar) => value::lenient_bool(&scalar.value),
            _ => None,
        };
        if flag.is_none() {
            let warning = self.about(key, "is neither true nor false, and counts as not set");
            self.report.warn(warning.help("write `true` or `false`"));
        }
        flag
    }

    /// A whole number in a range.
    pub(crate) fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(key)?;
        let number = match &node.kind {
            Kind::Scalar(scalar) => value::plain_int(&scalar.value),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => return Some(number),
            Some(_) => {
                let reason = match (*range.start(), *range.end()) {
                    (low, i64::MAX) => format!("must be {low} or more"),
                    (low, high) => format!("must be between {low} and {high}"),
                };
                self.complain(self.about(key, reason));
            }
            None => {
                self.complain(self.about(key, "expects a whole number").help("write a number without a unit"))
            }
        }
        None
    }

    /// A span of time of at least 1 ms; a number without a unit is counted in `unit`.
    pub(crate) fn span(&self, key: &str, unit: Duration, remedy: &str) -> Option<Duration> {
        let text = self.filled_text(key)?;
        let span = duration::parse(&text, unit);
        if span.is_none() {
            self.report.problem(self.about(key, "is no span of time").help(remedy));
        }
        span
    }

    /// Whether it is one of these words, in any case.
    pub(crate) fn is_one_of<T>(&self, key: &str, words: &[(&str, T)]) -> bool {
        let Some(Kind::Scalar(scalar)) = self.node(key).map(|node| &node.kind) else { return false };
        words.iter().any(|(word, _)| word.eq_ignore_ascii_case(scalar.written.trim()))
    }

    /// One of several words, in any case.
    pub(crate) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let node = self.node(key)?;
        let written = match &node.kind {
            Kind::Scalar(scalar) => scalar.written.trim(),
            _ => "",
        };
        let chosen = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(written));
        if chosen.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let problem = self.about(key, "is not a word that is known here");
            self.complain(problem.help(format!("use one of: {}", known.join(", "))));
        }
        chosen.map(|(_, value)| *value)
    }

    /// A text that must parse.
    pub(crate) fn parsed<T, E: Display>(
        &self,
        key: &str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.filled_text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report.problem(self.about(key, error.to_string()).help(remedy));
                None
            }
        }
    }

    /// A list of texts; a single text counts as a list of one.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        match &node.kind {
            Kind::Scalar(scalar) => Some(vec![text_of(scalar)]),
            Kind::List(items) => {
                Some(items.iter().enumerate().filter_map(|(at, item)| self.item(key, at, item)).collect())
            }
            Kind::Map(_) => {
                self.report.problem(
                    self.about(key, "expects a list").help("write the items below the key, each after `- `"),
                );
                None
            }
        }
    }

    /// As [`Self::texts`], and a single text may hold several items with commas between them.
    pub(crate) fn comma_texts(&self, key: &str) -> Option<Vec<String>> {
        let items = self.texts(key)?;
        let split = items.iter().flat_map(|item| item.split(',')).map(|item| item.trim().to_owned());
        Some(split.filter(|item| !item.is_empty()).collect())
    }

    fn item(&self, key: &str, at: usize, item: &Node) -> Option<String> {
        match &item.kind {
            Kind::Scalar(scalar) => Some(text_of(scalar)),
            _ => {
                let path = format!("{}[{at}]", self.path_of(key));
                self.report.problem(
                    Problem::new(path, "expects a text")
                        .at(&item.origin)
                        .help("a line with `: ` in it must be in quotes, or YAML takes it for a map"),
                );
                None
            }
        }
    }

    /// A map of texts; numbers and booleans are written out.
    pub(crate) fn text_map(&self, key: &str) -> Option<BTreeMap<String, String>> {
        self.has(key).then(|| {
            let section = self.child(key);
            let pairs = section.entries().iter().filter_map(|entry| {
                if entry.node.is_null() {
                    return None;
                }
                let Kind::Scalar(scalar) = &entry.node.kind else {
                    self.report.problem(section.about(&entry.key, "expects a text").help(ONE_VALUE));
                    return None;
                };
                Some((entry.key.clone(), text_of(scalar)))
            });
            pairs.collect()
        })
    }
}

/// The text that a scalar stands for where text is wanted: words that YAML takes for booleans stay as written, numbers get
/// the form that Patroni gives them.
fn text_of(scalar: &Scalar) -> String {
    match &scalar.value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => scalar.written.clone(),
    }
}

/// Why a text may not be what its author meant.
fn misread(scalar: &Scalar, text: &str, secret: bool) -> Option<String> {
    match &scalar.value {
        Value::Bool(_) => Some("is a boolean to YAML, and Patroni would not read it as this text".to_owned()),
        Value::Number(_) if text != scalar.written && secret => {
            Some("is a number to YAML, and not the text that was written".to_owned())
        }
        Value::Number(_) if text != scalar.written => Some(format!("is the number {text} to YAML")),
        _ => None,
    }
}
