//! Makes PostgreSQL pass over timelines that others have begun.
//!
//! At the end of recovery PostgreSQL takes the first number that no history file in `pg_wal` (or the archive) has, counting on from
//! its own timeline. A file that says nothing but "taken" makes it count on. What it does to those who read it, as tried on
//! PostgreSQL 15, 17 and 18:
//!
//! - A running standby looks at it whenever it has lost its upstream, notes "new timeline 2 is not a child", and goes on with its own.
//! - A standby that *starts* believes that the newest timeline it finds is the one to follow, and waits for it for ever. So a file
//!   that no promotion has made good must go before the next start: [`forget`].
//! - After the promotion the file must stay. A standby on timeline 1 that connects to a primary on timeline 3 asks for the history files
//!   of 2 *and* 3, and gives up if one is missing. As there is a later, true file then, nobody takes it for the newest.
//! - pg_rewind reads the file of the source's present timeline only, and copies the others.
//!
//! The files are not archived: the archive may get the true one from its owner. Recovery from an archive with
//! `recovery_target_timeline = 'latest'` stops looking at a number that is missing; name the timeline there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bellwether_types::TimelineId;

use crate::control;

/// The whole file: a comment, in the syntax of history files.
const MARK: &str = "# Written by Bellwether: this timeline was begun by another server, or may have been. It is no part of the \
                    history of this one.\n";

/// Marks every timeline after `after` up to and with `through` that has no history file here. On disk when it returns.
///
/// # Errors
/// If a file cannot be written. What was written before it is left; see [`forget`].
pub(crate) fn skip(data_dir: &Path, after: TimelineId, through: TimelineId) -> io::Result<()> {
    let wal = data_dir.join("pg_wal");
    for number in after.0.saturating_add(1)..=through.0 {
        // Never over a true one, which a WAL receiver may bring at this moment.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(&wal, number)) {
            Ok(mut file) => {
                file.write_all(MARK.as_bytes())?;
                file.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    File::open(&wal)?.sync_all()
}

/// Removes the marks that no later timeline has made part of the past, and returns their numbers. Not to be called between
/// the order to promote and the end of recovery.
///
/// # Errors
/// If the directory cannot be read or a file cannot be removed.
pub(crate) fn forget(data_dir: &Path) -> io::Result<Vec<TimelineId>> {
    let wal = data_dir.join("pg_wal");
    let (mut marks, mut newest) = (Vec::new(), control::peek(data_dir).map_or(1, |peek| peek.timeline.0));
    for entry in fs::read_dir(&wal)? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(number_of) else { continue };
        if is_mark(&fs::read(path(&wal, number))?) {
            marks.push(number);
        } else {
            newest = newest.max(number);
        }
    }
    marks.retain(|number| *number > newest);
    // From the top: what is left after a loss of power is an unbroken row still.
    marks.sort_unstable_by(|a, b| b.cmp(a));
    for number in &marks {
        fs::remove_file(path(&wal, *number))?;
    }
    if !marks.is_empty() {
        File::open(&wal)?.sync_all()?;
    }
    Ok(marks.into_iter().map(TimelineId).collect())
}

/// One that was being written when the power went is a beginning of it. PostgreSQL's own files appear whole.
fn is_mark(content: &[u8]) -> bool {
    MARK.as_bytes().starts_with(content)
}

fn path(wal: &Path, number: u32) -> PathBuf {
    wal.join(format!("{number:08X}.history"))
}

fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".history").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("pg_wal")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_true_history_is_neither_written_over_nor_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let wal = root.path().join("pg_wal");
        fs::create_dir(&wal).unwrap();
        let truth = "1\t0/5000000\tno recovery target specified\n";
        fs::write(wal.join("00000003.history"), truth).unwrap();
        fs::write(wal.join("000000010000000000000005"), "").unwrap();
        skip(root.path(), TimelineId(1), TimelineId(11)).unwrap();
        assert_eq!(fs::read_to_string(wal.join("00000003.history")).unwrap(), truth);
        assert!(wal.join("0000000B.history").exists() && !wal.join("0000000C.history").exists());
        // The beginning of one more, as a loss of power leaves it.
        fs::write(wal.join("0000000C.history"), &MARK[..9]).unwrap();
        fs::write(wal.join("0000000D.history"), "").unwrap();
        let forgotten = forget(root.path()).unwrap();
        assert_eq!(forgotten, (4..=13).rev().map(TimelineId).collect::<Vec<_>>());
        assert_eq!(files(root.path()), ["000000010000000000000005", "00000002.history", "00000003.history"]);
        assert_eq!(forget(root.path()).unwrap(), []);
    }

    #[test]
    fn the_mark_is_a_comment_for_everybody_who_reads_history_files() {
        assert!(MARK.lines().all(|line| line.starts_with('#')) && MARK.lines().count() == 1);
        let tip = bellwether_types::WalPosition { timeline: TimelineId(2), lsn: bellwether_types::Lsn(1) };
        assert_eq!(bellwether_types::TimelineHistory::parse(tip, MARK).unwrap().switches, []);
    }
}
