//! Statements to try.

use bellwether_sql::token::{Strings, scan};
use std::path::PathBuf;

/// What stands here is taken in any case: objects, then reads and writes of all kinds.
const OWN: &str = include_str!("corpus.sql");

/// A file's name and its statements.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) statements: Vec<String>,
}

pub(crate) fn own() -> File {
    File { name: "corpus.sql".into(), statements: statements(OWN) }
}

/// Our own file, and those of the directory.
pub(crate) fn all() -> Vec<File> {
    let mut files = vec![own()];
    let Some(directory) = std::env::var_os("BELLWETHER_TEST_SQL_CORPUS") else { return files };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the directory of the corpus")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    paths.sort();
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        files.push(File { name, statements: statements(&text) });
    }
    files
}

/// Parts a script of psql into its statements: without psql's own commands and the data of COPY.
fn statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut open = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with('\\') && open.trim().is_empty() {
            continue;
        }
        // What psql does at a backslash within a line is its own affair: the statement is left out.
        open.push_str(line);
        open.push('\n');
        let Ok(found) = scan(&open, Strings::Standard) else {
            // Something is open still; not for ever.
            if open.len() > 100_000 {
                open.clear();
            }
            continue;
        };
        if !found.tokens.last().is_some_and(|token| token.is_mark(";")) {
            continue;
        }
        let from_client = found.tokens.first().is_some_and(|token| token.is("copy"))
            && found.tokens.iter().any(|token| token.is("stdin"));
        if from_client {
            let _ = lines.by_ref().find(|line| *line == "\\.");
        } else if found.statements().count() == 1 {
            statements.push(open.trim().to_owned());
        }
        open.clear();
    }
    statements
}
