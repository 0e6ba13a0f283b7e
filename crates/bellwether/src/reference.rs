//! The reference pages of the book that are made from the code: `make reference` writes them, a test fails when they lag behind.

mod commands;
mod metrics;
mod reasons;
mod rest;
mod safety_rules;
mod settings;

use std::{env, fs, path::PathBuf};

/// Set: the pages are written instead of compared.
const UPDATE: &str = "UPDATE_REFERENCE";
const HEAD: &str = "<!-- Made from the code by `make reference`: do not edit. -->\n\n";

fn directory() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../docs/src/reference")
}

#[test]
fn the_reference_pages_are_up_to_date() {
    let pages = [
        ("settings.md", settings::page()),
        ("commands.md", commands::page()),
        ("rest-api.md", rest::page()),
        ("metrics.md", metrics::page()),
        ("reasons.md", reasons::page()),
    ];
    let mut behind = Vec::new();
    for (name, page) in pages {
        let (path, page) = (directory().join(name), format!("{HEAD}{page}"));
        if env::var_os(UPDATE).is_some() {
            fs::write(&path, page).unwrap();
        } else if fs::read_to_string(&path).ok().as_deref() != Some(page.as_str()) {
            behind.push(name);
        }
    }
    assert!(
        behind.is_empty(),
        "{behind:?} lag behind the code: run `make reference` and look at the difference"
    );
}

/// A table row; what would break it is escaped.
fn row(cells: &[&str]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The first row of a table, and the line below it.
fn head(cells: &[&str]) -> String {
    format!("{}|{}\n", row(cells), "---|".repeat(cells.len()))
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}
