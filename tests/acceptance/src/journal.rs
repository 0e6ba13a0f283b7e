//! What a node wrote into its journal.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::Value;

/// The records of one node, oldest first.
#[derive(Clone, Debug)]
pub struct Journal {
    pub records: Vec<Value>,
}

impl Journal {
    /// Reads the journal in a runtime directory; lines that a crash has cut off are skipped.
    pub fn read(runtime_dir: &Path) -> Self {
        let text = fs::read_to_string(runtime_dir.join("journal.jsonl")).unwrap_or_default();
        Self { records: text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() }
    }

    /// Records from a [`Moment`] on.
    pub fn since(mut self, moment: Moment) -> Self {
        self.records.retain(|record| boottime_ms(record) >= moment.0);
        self
    }

    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().filter(|record| record["kind"] == kind).collect()
    }

    /// The first decision that gave this reason, as its first one or as another.
    pub fn decision(&self, code: &str) -> Option<&Value> {
        self.records.iter().find(|record| {
            let also = record["also"].as_array().into_iter().flatten();
            record["reason"] == code || also.into_iter().any(|reason| reason["reason"] == code)
        })
    }

    /// The first decision with this action, by the name of its kind.
    pub fn action(&self, name: &str) -> Option<&Value> {
        self.records.iter().find(|record| {
            let actions = record["actions"].as_array();
            actions.into_iter().flatten().any(|action| action == name || action.get(name).is_some())
        })
    }

    /// The codes of all decisions in order, repetitions left out.
    pub fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> =
            self.records.iter().filter_map(|record| record["reason"].as_str()).collect();
        codes.dedup();
        codes
    }

    /// The last records in short, for a person who looks at a failed test.
    pub fn tail(&self, count: usize) -> String {
        let mut text = String::new();
        for record in &self.records[self.records.len().saturating_sub(count)..] {
            let what = record["sentence"].as_str().map_or_else(|| record.to_string(), str::to_owned);
            let reason = record["reason"].as_str().unwrap_or_default();
            let deeds = record["actions"].as_array().filter(|actions| !actions.is_empty());
            let deeds = deeds.map(|actions| Value::Array(actions.clone()).to_string()).unwrap_or_default();
            let time = record["time"].as_str().unwrap_or_default();
            let _ = writeln!(
                text,
                "    {time} {} {reason}: {what} {deeds}",
                record["kind"].as_str().unwrap_or_default()
            );
        }
        text
    }
}

/// A point in time that compares with the records of every node on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).expect("the machine was started in the past");
        Self(seconds * 1_000 + u64::try_from(now.tv_nsec).expect("nanoseconds are positive") / 1_000_000)
    }

    pub fn of(record: &Value) -> Self {
        Self(boottime_ms(record))
    }

    /// Milliseconds from `earlier` to this one.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

fn boottime_ms(record: &Value) -> u64 {
    record["boottime_ms"].as_u64().unwrap_or_default()
}
