//! Waiting for a file descriptor, against the clock that counts suspension.

use std::{io, os::fd::BorrowedFd};

use bellwether_types::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{boottime, to_timespec};

/// Waits until there is something to read (an exit, for a pidfd); `false` when `by` came first.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, by: Timestamp) -> io::Result<bool> {
    loop {
        let left = boottime().until(by);
        let timeout = to_timespec(Timestamp::ZERO + left);
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
