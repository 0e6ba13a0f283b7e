//! The page that says which test holds which safety rule: every rule has its row, and every test is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rules are numbered per subject: this subject, from 1 to that number.
const RULES: [(char, usize); 10] = [
    ('A', 27),
    ('B', 13),
    ('C', 21),
    ('D', 25),
    ('E', 8),
    ('F', 21),
    ('G', 15),
    ('H', 14),
    ('P', 22),
    ('T', 10),
];
const NOT_HELD: &str = "[not held yet](#not-held-yet)";

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// A test, or an invariant of the simulator: its crate, the file that it stands in without extension, its name.
type Place = (String, String, String);

/// `ha::tests::lock::a_name` is `a_name` in some `lock.rs` of `crates/ha`.
fn place(reference: &str) -> Place {
    let parts: Vec<&str> = reference.split("::").collect();
    let [first, .., file, name] = parts[..] else { panic!("`{reference}` is no `crate::file::test`") };
    (first.to_owned(), file.to_owned(), name.to_owned())
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of the functions of this file that are marked as tests, and of its scenarios that are tests on several stores.
fn tests_of(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_marked = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if let Some(scenario) = line.strip_prefix("on_stores!(") {
            names.extend(scenario.split(':').next());
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_marked) {
            names.extend(rest.split('(').next());
            is_marked = false;
        }
    }
    names
}

fn everything_that_is_there() -> BTreeSet<Place> {
    let mut crates = vec![("acceptance".to_owned(), root().join("tests/acceptance"))];
    for entry in fs::read_dir(root().join("crates")).unwrap().map(Result::unwrap) {
        crates.push((entry.file_name().into_string().unwrap(), entry.path()));
    }
    let mut there = BTreeSet::new();
    for (name, directory) in crates {
        let mut files = Vec::new();
        rust_files(&directory, &mut files);
        for path in files {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let found = tests_of(&text).into_iter().map(str::to_owned);
            there.extend(found.map(|test| (name.clone(), stem.to_owned(), test)));
            if path.parent().is_some_and(|parent| parent.ends_with("sim/src/invariant")) {
                there.insert((name.clone(), "invariant".to_owned(), stem.to_owned()));
            }
        }
    }
    there
}

/// Each rule with the last cell of its row.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, rule, held_by] = cells[..] else { panic!("a row has three cells: {row}") };
        assert!(!rule.is_empty(), "{row}");
        (id, held_by)
    })
    .collect()
}

#[test]
fn every_safety_rule_names_tests_that_exist_or_says_that_it_is_not_held() {
    let page = fs::read_to_string(root().join("docs/src/internals/safety-rules.md")).unwrap();
    let (table, not_held) = page.split_once("\n## Not held yet\n").expect("a section for what is not held");
    let rows = rows(table);
    let ids: Vec<String> = RULES
        .into_iter()
        .flat_map(|(subject, last)| (1..=last).map(move |number| format!("{subject}{number}")))
        .collect();
    assert_eq!(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids, "a row for every rule, in order");

    let there = everything_that_is_there();
    let mut open = Vec::new();
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, held_by) in rows {
        if held_by == NOT_HELD {
            open.push(id);
            continue;
        }
        let named: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{id} names no test");
        let absent = named.into_iter().filter(|reference| !there.contains(&place(reference)));
        missing.entry(id).or_default().extend(absent);
    }
    missing.retain(|_, absent| !absent.is_empty());
    assert!(missing.is_empty(), "these tests are not where the page says: {missing:#?}");

    let explained: Vec<&str> = not_held
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**").map(|(id, _)| id))
        .collect();
    assert_eq!(explained, open, "what is not held is explained, and nothing else");
}
