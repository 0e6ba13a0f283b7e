//! The copy of the dynamic configuration beside the data: for the next start, in the time before the store answers.
//!
//! It is written by a thread of its own, one at a time: a disk that hangs must not cost the lease.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use bellwether_types::Revision;
use serde_json::Value;
use tokio::task::JoinHandle;
use tracing::warn;

const FILE: &str = "patroni.dynamic.json";

/// Writes the copy.
#[derive(Debug, Default)]
pub(crate) struct KeptConfiguration {
    /// The one that was written last, or is being written.
    revision: Option<Revision>,
    writing: Option<JoinHandle<()>>,
}

impl KeptConfiguration {
    /// Keeps `document` in the data directory `dir`, unless that was done already. While an earlier one is still being written nothing
    /// happens; ask again.
    pub(crate) fn keep(&mut self, revision: Option<Revision>, dir: &Path, document: &Value) {
        if self.revision == revision || self.is_being_written() {
            return;
        }
        self.revision = revision;
        let (dir, text) = (dir.to_owned(), document.to_string());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&dir, &text) {
                warn!(%error, "`{FILE}` could not be written");
            }
        }));
    }

    /// Nobody may remove or replace the data directory meanwhile: the copy would stand in what is made anew.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
    }
}

/// The document that an earlier agent kept in the data directory `dir`.
pub(crate) fn read(dir: &Path) -> Option<Value> {
    let text = fs::read_to_string(dir.join(FILE)).ok()?;
    serde_json::from_str(&text).ok()
}

/// The group may read it only where it may read the data directory.
fn write(dir: &Path, text: &str) -> io::Result<()> {
    if !dir.join("PG_VERSION").exists() {
        return Ok(());
    }
    let for_the_group = fs::metadata(dir)?.permissions().mode() & 0o040 != 0;
    let temporary = dir.join(format!("{FILE}.tmp"));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.set_permissions(Permissions::from_mode(if for_the_group { 0o640 } else { 0o600 }))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&temporary, dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::testing::SlowFile;

    fn data_directory(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        fs::write(dir.path().join("PG_VERSION"), "15\n").unwrap();
        dir
    }

    #[test]
    fn the_copy_beside_the_data_is_as_private_as_the_data() {
        for (of_the_directory, of_the_file) in [(0o700, 0o600), (0o750, 0o640)] {
            let dir = data_directory(of_the_directory);
            write(dir.path(), r#"{"ttl": 35}"#).unwrap();
            let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, of_the_file);
            assert_eq!(read(dir.path()), Some(json!({"ttl": 35})));
        }
    }

    #[test]
    fn nothing_is_written_where_there_is_no_data() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "{}").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// On one thread, as the loop would be that writes by itself.
    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_up_the_loop() {
        let dir = data_directory(0o700);
        let disk = SlowFile::to_write(&dir.path().join(format!("{FILE}.tmp")));
        let mut kept = KeptConfiguration::default();
        kept.keep(Some(Revision(1)), dir.path(), &json!({"ttl": 35}));
        kept.keep(Some(Revision(2)), dir.path(), &json!({"ttl": 36}));
        disk.still_hangs();
        assert!(kept.is_being_written(), "so nobody may take the directory away");
        assert_eq!(disk.goes_on(), r#"{"ttl":35}"#);
        let ended = tokio::time::timeout(Duration::from_secs(60), kept.writing.as_mut().unwrap()).await;
        ended.expect("the disk goes on").unwrap();
        kept.keep(Some(Revision(2)), dir.path(), &json!({"ttl": 36}));
        kept.writing.take().unwrap().await.unwrap();
        assert_eq!(read(dir.path()), Some(json!({"ttl": 36})), "what came meanwhile is written now");
    }
}
