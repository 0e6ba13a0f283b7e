//! Where journals come from: the members' REST APIs, or files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use bellwether_api_client::Method;
use bellwether_dcs::{Key, Snapshot, codec};
use bellwether_types::{MemberName, cluster::Member};
use serde_json::Value;

use super::record::Record;
use crate::session::{CALL_PATIENCE, Session};

/// The most that a member sends.
const LIMIT: usize = 1000;
/// Older records first.
pub(crate) const FILES: [&str; 2] = ["journal.1.jsonl", "journal.jsonl"];

/// What was asked, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// A member's name or a directory.
    pub(crate) name: String,
    /// How many records, or why there are none.
    pub(crate) result: Result<usize, String>,
    /// Why the records are only the last ones, which the member had left in the store.
    pub(crate) from_store: Option<String>,
}

/// The ends of journals that members have left in the store. Those of a newer version are left out.
pub(crate) fn left_in(snapshot: &Snapshot) -> BTreeMap<MemberName, Vec<Record>> {
    let journal = |key: &Key, value: &[u8]| {
        let records = codec::decode_journal(value)?;
        Some((codec::keys::journal_of(key)?, records.into_iter().filter_map(Record::parse).collect()))
    };
    snapshot.entries.iter().filter_map(|(key, entry)| journal(key, &entry.value)).collect()
}

/// Asks a member for its journal: the records as they came.
pub(crate) async fn ask(session: &Session, member: &Member) -> Result<Vec<Value>, String> {
    let path = format!("journal?limit={LIMIT}");
    let answer = session.call(member, Method::GET, &path, None, CALL_PATIENCE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    match (answer.status, answer.json()) {
        (200, Some(Value::Array(records))) => Ok(records),
        (401 | 403, _) => Err(format!(
            "it refused (status {}); `ctl.authentication` or `ctl.certfile` in the configuration is missing or wrong",
            answer.status
        )),
        // What a Patroni member answers to paths that it does not know.
        (503, Some(Value::Object(_))) => Err("it keeps no journal (not a Bellwether member?)".to_owned()),
        (status, _) => Err(format!("it answered with status {status}")),
    }
}

/// Reads the journal files below a directory. Lines that are no record (cut off by a crash) are skipped.
pub(crate) fn read_dir(dir: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut found = false;
    for path in FILES.map(|name| dir.join(name)) {
        match read_file(&path, &mut records) {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match found {
        true => Ok(records),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "no journal.jsonl in this directory")),
    }
}

fn read_file(path: &PathBuf, records: &mut Vec<Record>) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        records.extend(serde_json::from_str(&line?).ok().and_then(Record::parse));
    }
    Ok(())
}
