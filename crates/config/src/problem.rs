//! What is wrong with a configuration, said so that a person can act on it.

use std::{fmt, path::PathBuf, sync::Arc};

use bellwether_types::Failure;

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// A file name, or `environment variable PATRONI_...`.
    pub source: Option<Arc<str>>,
    /// Counted from 1; `None` where lines have no meaning.
    pub line: Option<usize>,
}

impl fmt::Display for Origin {
    /// `file:line`, or `configuration` if nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.line) {
            (Some(source), Some(line)) => write!(f, "{source}:{line}"),
            (Some(source), None) => f.write_str(source),
            (None, _) => f.write_str("configuration"),
        }
    }
}

/// One thing that keeps a configuration from being used, or (as a warning) that deserves a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, `restapi.listen`; empty if it concerns the whole document.
    pub path: String,
    pub origin: Origin,
    /// The value as written; never that of a secret.
    pub value: Option<String>,
    /// What is wrong: a lower-case fragment that reads well after a colon.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem without a place in the documents.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            origin: Origin::default(),
            value: None,
            reason: reason.into(),
            remedy: None,
        }
    }

    pub fn at(mut self, origin: &Origin) -> Self {
        self.origin = origin.clone();
        self
    }

    pub fn found(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// What follows from it, for a problem that keeps nothing from being used.
    pub(crate) fn but(mut self, consequence: &str) -> Self {
        self.reason = format!("{}; {consequence}", self.reason);
        self
    }

    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Problem {
    /// `file:line: key: reason (found ...)`, then `  help: ...` on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        if let Some(value) = &self.value {
            write!(f, " (found `{value}`)")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  help: {remedy}")?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be used. `Display` shows every problem, one after the other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or directory could not be read.
    #[error("could not read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// Neither a file nor a directory (a socket, a device).
    #[error("invalid config path {}: neither a file nor a directory", path.display())]
    InvalidPath { path: PathBuf },
    /// No file, no environment: there is nothing to load.
    #[error("Config is empty.")]
    Empty,
    /// Not YAML, or a file that is not a mapping.
    #[error("{}", render(.0))]
    Syntax(Vec<Problem>),
    /// Readable, but with values that cannot be used.
    #[error("{}", render(.0))]
    Invalid(Vec<Problem>),
}

/// The three classes of [`LoadError`], for exit codes and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    Unreadable,
    Syntax,
    Invalid,
}

impl LoadError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self.kind() {
            LoadErrorKind::Unreadable => Failure::ConfigUnreadable,
            LoadErrorKind::Syntax => Failure::ConfigSyntax,
            LoadErrorKind::Invalid => Failure::ConfigInvalid,
        }
    }

    pub fn kind(&self) -> LoadErrorKind {
        match self {
            Self::Unreadable { .. } | Self::InvalidPath { .. } => LoadErrorKind::Unreadable,
            Self::Syntax(_) => LoadErrorKind::Syntax,
            Self::Empty | Self::Invalid(_) => LoadErrorKind::Invalid,
        }
    }

    /// Every problem by file and line; empty where there is only one sentence to say.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Syntax(problems) | Self::Invalid(problems) => problems,
            _ => &[],
        }
    }
}

/// The text of several problems, one paragraph each.
pub fn render(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
