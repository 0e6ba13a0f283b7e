//! From one agent's guardian to the next one's.
//!
//! Each guardian leaves a file `guardian.<pid>.pid` in the node's runtime directory, with its pid, its start time and the boot
//! it belongs to. The next agent arms its own guardian first and then dismisses all the others, so that at no moment the
//! primary is without one.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Signal, pidfd_send_signal};

use crate::{clock::boottime, target::Target, wait::wait_readable};

/// What dismisses a guardian; it takes no notice of any other signal.
pub(crate) const DISMISSAL: Signal = Signal::USR1;

/// How long a dismissed guardian may take: one that is just firing finishes that first.
const EXIT_WITHIN: Duration = Duration::from_secs(3);

/// A guardian that was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dismissed {
    pub guardian: Target,
    /// Whether it was seen to exit in time. One that was not is still harmless: it knows only its own deadline.
    pub exited: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    #[error("could not look for earlier guardians in `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "could not dismiss the guardian with pid {pid}; kill it with `kill -9 {pid}` before its deadline passes"
    )]
    Signal {
        pid: i32,
        #[source]
        cause: io::Error,
    },
}

/// Ends all guardians that left their pid file in `runtime_dir`, and waits for each to exit.
///
/// Each is identified by pid, start time and boot, and signalled through a pidfd, so that no other process can be hit.
/// Files of guardians that are gone are removed. An agent that has a guardian of its own uses
/// [`Guardian::dismiss_others`](crate::Guardian::dismiss_others) instead.
pub fn dismiss_previous(runtime_dir: &Path) -> Result<Vec<Dismissed>, HandoverError> {
    dismiss_all_but(runtime_dir, None)
}

pub(crate) fn dismiss_all_but(
    runtime_dir: &Path,
    keep: Option<Target>,
) -> Result<Vec<Dismissed>, HandoverError> {
    let read = |cause| HandoverError::Read { path: runtime_dir.to_owned(), cause };
    let boot = boot_id().map_err(read)?;
    let mut dismissed = Vec::new();
    for entry in fs::read_dir(runtime_dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !is_pid_file(&entry.file_name()) {
            continue;
        }
        let text = match fs::read_to_string(entry.path()) {
            Ok(text) => text,
            // Its guardian has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(read(error)),
        };
        let guardian = PidFile::parse(&text).filter(|file| file.boot == boot).map(|file| file.guardian);
        if guardian.is_some() && guardian == keep {
            continue;
        }
        if let Some(guardian) = guardian
            && let Ok(pidfd) = guardian.pidfd()
        {
            let signal = |cause: io::Error| HandoverError::Signal { pid: guardian.pid, cause };
            match pidfd_send_signal(&pidfd, DISMISSAL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(signal(errno.into())),
            }
            let exited = wait_readable(pidfd.as_fd(), boottime() + EXIT_WITHIN).map_err(signal)?;
            dismissed.push(Dismissed { guardian, exited });
            if !exited {
                continue;
            }
        }
        // It removes its file itself, unless it was killed.
        let _ = fs::remove_file(entry.path());
    }
    Ok(dismissed)
}

/// What a guardian tells about itself to the agents to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) guardian: Target,
    /// Without it a pid and a start time from before a reboot might fit an innocent process.
    pub(crate) boot: String,
}

impl PidFile {
    pub(crate) fn path(&self, runtime_dir: &Path) -> PathBuf {
        runtime_dir.join(format!("guardian.{}.pid", self.guardian.pid))
    }

    pub(crate) fn write(&self, runtime_dir: &Path) -> io::Result<()> {
        let Target { pid, start_ticks } = self.guardian;
        // Complete or not there: a reader takes half a file for one of a guardian that is gone, and removes it.
        let temporary = runtime_dir.join(format!("guardian.{pid}.tmp"));
        fs::write(&temporary, format!("{pid} {start_ticks} {}\n", self.boot))?;
        fs::rename(temporary, self.path(runtime_dir))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let pid = fields.next()?.parse().ok()?;
        let start_ticks = fields.next()?.parse().ok()?;
        let boot = fields.next()?.to_owned();
        Some(Self { guardian: Target { pid, start_ticks }, boot })
    }
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn is_pid_file(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("guardian.") && name.ends_with(".pid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile { guardian: Target { pid: 12, start_ticks: 345 }, boot: boot_id().unwrap() };
        file.write(dir.path()).unwrap();
        let text = fs::read_to_string(file.path(dir.path())).unwrap();
        assert_eq!(PidFile::parse(&text), Some(file));
        assert_eq!(PidFile::parse("12 34"), None, "half a file names nobody");
    }

    #[test]
    fn nobody_is_signalled_for_a_stale_pid_file_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let me = Target::of_pid(std::process::id() as i32).unwrap();
        for (case, guardian, boot) in [
            ("another start time", Target { start_ticks: me.start_ticks + 1, ..me }, boot_id().unwrap()),
            ("another boot", me, "00000000-0000-0000-0000-000000000000".to_owned()),
        ] {
            let file = PidFile { guardian, boot };
            file.write(dir.path()).unwrap();
            // Were we signalled, this test process would die of SIGUSR1.
            assert_eq!(dismiss_previous(dir.path()).unwrap(), [], "{case}");
            assert!(!file.path(dir.path()).exists(), "{case}");
        }
    }
}
