//! Who belongs to a data directory: every process whose working directory it is.
//!
//! PostgreSQL's postmaster changes into the data directory and each of its children stays there, orphaned backends too.
//! So does what they run (`archive_command`), and so does the shell that somebody left there: it dies with them. Our own
//! binary is excepted. Nothing here allocates, and nothing here reads the disk that holds the data.

use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, SeekFrom, StatxFlags, openat, seek, statx};

use crate::{
    scratch::Scratch,
    target::{ProcStat, Target},
};

/// A file or directory, whatever its name is.
///
/// The number of an inode alone is not enough: one that was removed gives its number to the next file, and that may be the data
/// directory of somebody else's PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: (u32, u32),
    inode: u64,
    /// Seconds and nanoseconds; zero on file systems that do not know it.
    born: (i64, u32),
}

impl FileId {
    pub(crate) fn of_path(path: &CStr) -> io::Result<Self> {
        // Taken from the cache: a network file system whose server is away must not hold us up.
        let flags = AtFlags::STATX_DONT_SYNC;
        let stat = statx(CWD, path, flags, StatxFlags::INO | StatxFlags::BTIME)?;
        let knows_birth = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        Ok(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: if knows_birth { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) },
        })
    }
}

/// One process that belongs to the data directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) process: Target,
}

/// Walks /proc with a buffer of its own.
#[derive(Debug)]
pub(crate) struct Scanner {
    proc: OwnedFd,
    buffer: Box<[MaybeUninit<u8>]>,
    own_pid: i32,
    own_binary: FileId,
}

impl Scanner {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            proc: openat(CWD, Path::new("/proc"), flags, Mode::empty())?,
            buffer: vec![MaybeUninit::uninit(); 32 * 1024].into_boxed_slice(),
            own_pid: rustix::process::getpid().as_raw_nonzero().get(),
            own_binary: FileId::of_path(c"/proc/self/exe")?,
        })
    }

    /// Calls `visit` for every process that is alive and either works in one of `directories` or is a child of `postmaster`
    /// (which is not visited itself). Processes that come and go meanwhile may be missed: repeat until nothing is found.
    pub(crate) fn each(
        &mut self,
        directories: &[FileId],
        postmaster: Option<Target>,
        mut visit: impl FnMut(Found),
    ) -> io::Result<()> {
        seek(self.proc.as_fd(), SeekFrom::Start(0))?;
        let mut entries = RawDir::new(self.proc.as_fd(), &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let Some(pid) = parse_pid(entry.file_name()) else { continue };
            if pid == self.own_pid || postmaster.is_some_and(|target| target.pid == pid) {
                continue;
            }
            // A process that cannot be read has just ended, or is none of ours.
            let Ok(stat) = ProcStat::of_pid(pid) else { continue };
            if stat.is_dead() {
                continue;
            }
            let child = postmaster.is_some_and(|target| target.pid == stat.parent);
            let inside = || link_of(pid, "cwd").is_ok_and(|directory| directories.contains(&directory));
            if !child && !inside() {
                continue;
            }
            if link_of(pid, "exe").is_ok_and(|binary| binary == self.own_binary) {
                continue;
            }
            visit(Found { process: Target { pid, start_ticks: stat.start_ticks } });
        }
        Ok(())
    }
}

fn link_of(pid: i32, link: &str) -> io::Result<FileId> {
    let path = Scratch::<32>::format(format_args!("/proc/{pid}/{link}\0"));
    FileId::of_path(path.as_c_str().ok_or(io::ErrorKind::InvalidInput)?)
}

fn parse_pid(name: &CStr) -> Option<i32> {
    let name = name.to_str().ok()?;
    if !name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_in_proc_are_processes() {
        assert_eq!(parse_pid(c"4711"), Some(4711));
        assert_eq!(parse_pid(c"self"), None);
        assert_eq!(parse_pid(c"+1"), None);
    }
}
