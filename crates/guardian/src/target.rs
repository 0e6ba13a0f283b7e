//! One process, told apart from any later process with the same number.

use std::io;

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::scratch::Scratch;

/// A process by its number and its start time: numbers are reused, the pair is not (until a reboot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

impl Target {
    /// Reads the start time of a running process. Does not allocate.
    ///
    /// The caller must know by other means that `pid` is still the process it means, e.g. by checking again afterwards
    /// something only that process has.
    pub fn of_pid(pid: i32) -> io::Result<Self> {
        let stat = ProcStat::of_pid(pid)?;
        Ok(Self { pid, start_ticks: stat.start_ticks })
    }

    /// A handle that stays with this very process, whoever gets its number later. Does not allocate.
    pub(crate) fn pidfd(&self) -> io::Result<std::os::fd::OwnedFd> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        // Only now can the number no longer be reused unnoticed: check who it is.
        if Target::of_pid(self.pid)? == *self { Ok(fd) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// The fields of `/proc/<pid>/stat` that fencing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcStat {
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) start_ticks: u64,
}

impl ProcStat {
    pub(crate) fn of_pid(pid: i32) -> io::Result<Self> {
        let path = Scratch::<32>::format(format_args!("/proc/{pid}/stat\0"));
        let path = path.as_c_str().ok_or(io::ErrorKind::InvalidInput)?;
        let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = [0_u8; 1024];
        let length = rustix::io::read(&file, &mut buffer)?;
        Self::parse(&buffer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The command (field 2) may contain anything, blanks and parentheses too; the last `)` ends it.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start_ticks })
    }

    /// Dead, and waiting for its parent to notice: it runs no more code.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let text = b"77 (a) S (b) 9) S 12 77 77 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 123456 1000 200\n";
        let stat = ProcStat::parse(text).expect("parses");
        assert_eq!(stat, ProcStat { state: b'S', parent: 12, start_ticks: 123_456 });
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Target::of_pid(std::process::id() as i32).expect("we run");
        assert!(me.pidfd().is_ok());
        let stranger = Target { start_ticks: me.start_ticks + 1, ..me };
        assert_eq!(stranger.pidfd().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
