//! What clients did and saw, one line of JSON per operation, and the proof that it could have been one server.

mod check;
mod operation;

pub use check::{Final, Finding, Verdict, check};
pub use operation::{Kind, Operation, Outcome};

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A history that is being written.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    operations: Mutex<(Vec<Operation>, BufWriter<File>)>,
}

impl Recorder {
    /// Writes to this file from now on.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { began: Instant::now(), operations: Mutex::new((vec![], file)) })
    }

    /// Microseconds since the history began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("no history is that long")
    }

    /// Enters an operation that has ended, or of which nothing will be heard.
    pub fn enter(&self, operation: Operation) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&operation).expect("an operation can be written");
        // What is on the disk is for a person who looks at a failure; the check works on what is in memory.
        let _ = writeln!(operations.1, "{line}");
        operations.0.push(operation);
    }

    /// How many are entered.
    pub fn len(&self) -> usize {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, with the file complete.
    pub fn finish(&self) -> Vec<Operation> {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = operations.1.flush();
        operations.0.clone()
    }
}

/// Reads a history that was written.
pub fn read(path: &Path) -> io::Result<Vec<Operation>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::other)).collect()
}
