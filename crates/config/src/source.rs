//! Where the local configuration comes from, and which source wins.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    environment, legacy,
    node::Node,
    problem::{LoadError, Problem},
    redact::contains_secret,
    secret_files, yaml,
};

/// The merged document, and what was noticed while merging.
pub(crate) struct Source {
    pub(crate) root: Node,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// The files that were read, in that order.
    pub(crate) files: Vec<PathBuf>,
    /// Secrets were written into the document itself.
    pub(crate) holds_secrets: bool,
}

/// Merges what there is: file or directory under the environment; without them `PATRONI_CONFIGURATION` alone, or the
/// environment alone.
pub(crate) fn read(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Source, LoadError> {
    let files = match path {
        Some(path) => files_of(path)?,
        None => None,
    };
    let mut source = Source::empty();
    if let Some(files) = files {
        source.read_files(files)?;
    } else if let Some(text) = env.get("PATRONI_CONFIGURATION").filter(|text| !text.is_empty()) {
        source.add(text, "PATRONI_CONFIGURATION").map_err(|problem| LoadError::Syntax(vec![*problem]))?;
        legacy::modernise(&mut source.root);
        source.read_secrets(env);
        return source.not_empty();
    }
    let (node, problems) = environment::read(env);
    source.problems.extend(problems);
    // Legacy spellings first, so that a variable wins over them as well.
    legacy::modernise(&mut source.root);
    if !node.entries().is_empty() {
        source.root.merge(node);
    }
    source.read_secrets(env);
    source.not_empty()
}

/// The local document where no file is given, unchecked and with its secrets; empty if the environment says nothing either.
pub fn local_document(env: &BTreeMap<String, String>) -> Result<serde_json::Value, LoadError> {
    match read(None, env) {
        Ok(source) if source.problems.is_empty() => Ok(source.root.to_value()),
        Ok(source) => Err(LoadError::Invalid(source.problems)),
        Err(LoadError::Empty) => Ok(serde_json::json!({})),
        Err(error) => Err(error),
    }
}

impl Source {
    pub(crate) fn empty() -> Self {
        Self {
            root: Node::empty_map(crate::Origin::default()),
            problems: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
            holds_secrets: false,
        }
    }

    fn read_files(&mut self, files: Vec<PathBuf>) -> Result<(), LoadError> {
        let mut wrong = Vec::new();
        for file in &files {
            let text = fs::read(file).map_err(|cause| LoadError::Unreadable { path: file.clone(), cause })?;
            let name = file.display().to_string();
            let added = match String::from_utf8(text) {
                Ok(text) => self.add(&text, &name),
                Err(_) => Err(Problem::new("", format!("{name} is not UTF-8 text")).into()),
            };
            if let Err(problem) = added {
                wrong.push(*problem);
            }
        }
        self.files = files;
        if wrong.is_empty() { Ok(()) } else { Err(LoadError::Syntax(wrong)) }
    }

    fn add(&mut self, text: &str, name: &str) -> Result<(), Box<Problem>> {
        let source: Arc<str> = name.into();
        let (node, warnings) = yaml::parse(text, &source)?;
        if !node.is_map() {
            let problem = Problem::new("", format!("{name} does not contain a dict"));
            return Err(problem.at(&node.origin).help("write `key: value` lines").into());
        }
        self.warnings.extend(warnings);
        if self.root.entries().is_empty() {
            self.root.origin = node.origin.clone();
        }
        self.root.merge(node);
        Ok(())
    }

    fn read_secrets(&mut self, env: &BTreeMap<String, String>) {
        self.holds_secrets = contains_secret(&self.root.to_value());
        let (problems, warnings) = secret_files::read(&mut self.root, env);
        self.problems.extend(problems);
        self.warnings.extend(warnings);
    }

    fn not_empty(self) -> Result<Self, LoadError> {
        if !self.problems.is_empty() && self.root.entries().is_empty() {
            return Err(LoadError::Invalid(self.problems));
        }
        if self.root.entries().is_empty() { Err(LoadError::Empty) } else { Ok(self) }
    }
}

/// The files behind a path, in the order of their names; `None` if there is nothing at that path.
fn files_of(path: &Path) -> Result<Option<Vec<PathBuf>>, LoadError> {
    let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
    let kind = match fs::metadata(path) {
        Ok(kind) => kind,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(unreadable(cause)),
    };
    if kind.is_file() {
        return Ok(Some(vec![path.to_owned()]));
    }
    if !kind.is_dir() {
        return Err(LoadError::InvalidPath { path: path.to_owned() });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let named = file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        if named && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(Some(files))
}
