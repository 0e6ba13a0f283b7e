//! The time budget of the last failover, as the member that took over wrote it into its journal.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::layout::Layout;

const JOURNAL: &str = "journal.jsonl";
/// The journal is looked for this deep in a node's folder.
const DEPTH: usize = 3;
/// The end of a journal that is read; a record has some hundred bytes.
const TAIL_BYTES: u64 = 64 * 1024;
/// The steps in order, with the names of the fields that have their milliseconds.
const STEPS: [(&str, &str); 5] = [
    ("detect", "detect_ms"),
    ("decide", "decide_ms"),
    ("fence", "fence_ms"),
    ("promote", "promote_ms"),
    ("route", "route_ms"),
];

/// One failover in words, e.g. `node2 took over in 4605 ms: detect 4500, decide 30, fence 10, promote 60, route 5`.
pub(super) fn last(layout: &Layout) -> Option<String> {
    let newest = layout.nodes.iter().filter_map(|node| {
        let journal = find(&node.dir, DEPTH)?;
        let record = last_in(&tail(&journal).ok()?)?;
        // All nodes are on this machine, so their clocks compare.
        Some((record.get("boottime_ms").and_then(Value::as_u64), node.name.clone(), record))
    });
    let (_, name, record) = newest.max_by_key(|(at, ..)| *at)?;
    tell(&name, &record)
}

fn find(directory: &Path, depth: usize) -> Option<PathBuf> {
    let journal = directory.join(JOURNAL);
    if journal.is_file() {
        return Some(journal);
    }
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    entries
        .filter(|entry| depth > 1 && entry.path().is_dir())
        .find_map(|entry| find(&entry.path(), depth - 1))
}

fn tail(journal: &Path) -> std::io::Result<String> {
    let mut file = File::open(journal)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last record with a budget; a line cut off by reading from the middle is no record.
fn last_in(text: &str) -> Option<Value> {
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|record| record.get("total_ms").is_some())
}

fn tell(name: &str, record: &Value) -> Option<String> {
    let total = record.get("total_ms")?.as_u64()?;
    let did = match record.get("event").and_then(Value::as_str) {
        Some("restart_in_place") => "restarted in place",
        _ => "took over",
    };
    let steps: Vec<_> = STEPS
        .iter()
        .filter_map(|(step, field)| Some(format!("{step} {}", record.get(field)?.as_u64()?)))
        .collect();
    let steps = if steps.is_empty() { String::new() } else { format!(": {}", steps.join(", ")) };
    Some(format!("{name} {did} in {total} ms{steps}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_budget_is_told_in_its_steps() {
        let journal = concat!(
            "ut off by the tail\"}\n",
            r#"{"event": "takeover", "detect_ms": 1, "total_ms": 2}"#,
            "\n",
            r#"{"event": "takeover", "detect_ms": 4500, "decide_ms": 30, "fence_ms": null, "promote_ms": 60, "route_ms": 5, "total_ms": 4605}"#,
            "\n",
            r#"{"event": "decision"}"#,
            "\n"
        );
        let record = last_in(journal).unwrap();
        assert_eq!(
            tell("node2", &record).unwrap(),
            "node2 took over in 4605 ms: detect 4500, decide 30, promote 60, route 5"
        );
        assert_eq!(last_in(r#"{"event": "decision"}"#), None);
    }
}
