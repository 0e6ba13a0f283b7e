//! A stand-in for a device, for rehearsals: a pipe or file that hears in words what a device would be told.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use super::Device;

/// How often, and after which pause, a pipe is tried that nobody reads.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const NOBODY_READS: i32 = rustix::io::Errno::NXIO.raw_os_error();

#[derive(Debug)]
pub(super) struct Testing(File);

impl Testing {
    /// Fails if it is a pipe that nobody reads.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let open = || OpenOptions::new().write(true).custom_flags(nonblocking).open(path);
        let mut opened = open();
        // Whoever reads a pipe opens it again after its other end was closed.
        for _ in 0..LOOKS {
            match &opened {
                Err(error) if error.raw_os_error() == Some(NOBODY_READS) => std::thread::sleep(PAUSE),
                _ => break,
            }
            opened = open();
        }
        Ok(Self(opened?))
    }
}

impl Device for Testing {
    fn identity(&self) -> String {
        "Watchdog test harness".to_owned()
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        self.0.write_all(format!("Ctimeout={seconds}\n").as_bytes())?;
        Ok(seconds)
    }

    fn ping(&mut self) -> io::Result<()> {
        self.0.write_all(b"1")
    }

    fn can_be_disarmed(&self) -> bool {
        true
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}
