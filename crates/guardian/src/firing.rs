//! The record of a firing: written by the guardian with what it has, read by the next agent that starts.

use std::{
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use bellwether_types::{Timestamp, WallTime};
use rustix::fs::{CWD, Mode, OFlags, fsync, openat, renameat};
use serde::Deserialize;

use crate::scratch::Scratch;

const FILE: &str = "guardian-fired.json";

/// A deadline that passed, and what the guardian did about it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Firing {
    /// Version of this file.
    pub version: u32,
    /// Whose processes were meant.
    pub data_dir: PathBuf,
    /// The boot that `deadline` and `fired` belong to; `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    pub deadline: Timestamp,
    /// When the guardian noticed.
    pub fired: Timestamp,
    pub fired_at: WallTime,
    /// From noticing to the last process gone, in milliseconds.
    pub took_ms: u64,
    /// Nobody was killed: the numbers say who would have been.
    pub rehearsal: bool,
    /// Whether the agent was still connected: alive but hung, then.
    pub agent_connected: bool,
    /// Who had been named as the postmaster and was still there.
    pub postmaster: Option<i32>,
    /// Processes killed, the postmaster included.
    pub killed: u32,
    /// Processes still there when the guardian gave up waiting (in uninterruptible sleep, most likely). They have SIGKILL
    /// pending and run no more code of their own.
    pub left: u32,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FiringError {
    #[error("could not read the record of the guardian's last firing `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the record of the guardian's last firing `{}` is damaged; remove it", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
}

/// The last firing of any guardian of this node, if there was one.
pub fn last_firing(runtime_dir: &Path) -> Result<Option<Firing>, FiringError> {
    let path = runtime_dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FiringError::Read { path, cause }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|cause| FiringError::Damaged { path, cause })
}

/// The numbers of one firing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) deadline: Timestamp,
    pub(crate) fired: Timestamp,
    pub(crate) fired_at_millis: i64,
    pub(crate) took_ms: u64,
    pub(crate) rehearsal: bool,
    pub(crate) agent_connected: bool,
    pub(crate) postmaster: Option<i32>,
    pub(crate) killed: u32,
    pub(crate) left: u32,
}

/// Writes records without allocating: all that needs memory was made ready at the start.
#[derive(Debug)]
pub(crate) struct Recorder {
    directory: OwnedFd,
    name: CString,
    temporary: CString,
    /// The members of the record that do not change, from the opening brace on.
    head: Vec<u8>,
}

impl Recorder {
    pub(crate) fn new(runtime_dir: &Path, data_dir: &Path, boot_id: &str) -> io::Result<Self> {
        let directory =
            openat(CWD, runtime_dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let quoted =
            serde_json::to_string(&OsStr::from_bytes(data_dir.as_os_str().as_bytes()).to_string_lossy())?;
        Ok(Self {
            directory,
            name: CString::new(FILE)?,
            temporary: CString::new(format!("{FILE}.tmp"))?,
            head: format!(r#"{{"version": 1, "data_dir": {quoted}, "boot_id": "{boot_id}","#).into_bytes(),
        })
    }

    /// Replaces the last record durably. Does not allocate.
    pub(crate) fn write(&self, numbers: Numbers) -> io::Result<()> {
        let rest = format_numbers(numbers);
        let file = openat(
            self.directory.as_fd(),
            self.temporary.as_c_str(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )?;
        for part in [&self.head[..], rest.as_bytes()] {
            let mut left = part;
            while !left.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                left = &left[written..];
            }
        }
        fsync(&file)?;
        renameat(
            self.directory.as_fd(),
            self.temporary.as_c_str(),
            self.directory.as_fd(),
            self.name.as_c_str(),
        )?;
        fsync(&self.directory)?;
        Ok(())
    }
}

/// The members that each firing has anew.
pub(crate) fn format_numbers(numbers: Numbers) -> Scratch<512> {
    let Numbers { rehearsal, agent_connected, took_ms, killed, left, .. } = numbers;
    let (deadline, fired) = (numbers.deadline.as_nanos(), numbers.fired.as_nanos());
    let fired_at = numbers.fired_at_millis;
    // `null` for nobody; there is no process 0.
    let (pid, nobody) = numbers.postmaster.map_or((0, true), |pid| (pid, false));
    let digits = Scratch::<16>::format(format_args!("{pid}"));
    let postmaster = if nobody { "null" } else { std::str::from_utf8(digits.as_bytes()).unwrap_or("null") };
    Scratch::format(format_args!(
        r#" "deadline": {deadline}, "fired": {fired}, "fired_at": {fired_at}, "took_ms": {took_ms}, "rehearsal": {rehearsal}, "agent_connected": {agent_connected}, "postmaster": {postmaster}, "killed": {killed}, "left": {left}}}
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_reads_what_the_guardian_recorded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_firing(dir.path()).unwrap(), None);
        let recorder = Recorder::new(dir.path(), Path::new("/data/\"odd\" name"), "boot").unwrap();
        let widest = Numbers {
            deadline: Timestamp::MAX,
            fired: Timestamp::MAX,
            fired_at_millis: i64::MIN,
            took_ms: u64::MAX,
            rehearsal: false,
            agent_connected: false,
            postmaster: Some(i32::MIN),
            killed: u32::MAX,
            left: u32::MAX,
        };
        recorder.write(widest).unwrap();
        let read = last_firing(dir.path()).unwrap().expect("there is one");
        assert_eq!(read.data_dir, Path::new("/data/\"odd\" name"));
        assert_eq!((read.took_ms, read.left, read.postmaster), (u64::MAX, u32::MAX, Some(i32::MIN)));

        recorder.write(Numbers { postmaster: None, rehearsal: true, ..widest }).unwrap();
        let read = last_firing(dir.path()).unwrap().expect("the later one has replaced it");
        assert_eq!((read.postmaster, read.rehearsal), (None, true));
    }

    #[test]
    fn a_damaged_record_is_told_and_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(last_firing(dir.path()), Err(FiringError::Damaged { .. })));
    }
}
