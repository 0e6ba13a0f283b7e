//! A watchdog device of the Linux kernel (`Documentation/watchdog/watchdog-api.rst`).
#![expect(unsafe_code, reason = "a watchdog is set up by ioctl, for which there is no safe wrapper")]

use std::{
    ffi::c_int,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustix::{
    io::Errno,
    ioctl::{Getter, Setter, Updater, ioctl, opcode},
};

use super::Device;

const GROUP: u8 = b'W';
const GET_SUPPORT: rustix::ioctl::Opcode = opcode::read::<Info>(GROUP, 0);
const SET_OPTIONS: rustix::ioctl::Opcode = opcode::read::<c_int>(GROUP, 4);
const SET_TIMEOUT: rustix::ioctl::Opcode = opcode::read_write::<c_int>(GROUP, 6);
const GET_TIMEOUT: rustix::ioctl::Opcode = opcode::read::<c_int>(GROUP, 7);

/// Bits of [`Info::options`].
const CAN_SET_TIMEOUT: u32 = 0x0080;
const CLOSES_BY_MAGIC: u32 = 0x0100;
/// A bit for [`SET_OPTIONS`].
const DISABLE_CARD: c_int = 0x0001;

/// `struct watchdog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// An open device: it counts, also after this process has ended.
#[derive(Debug)]
pub(super) struct Linux {
    file: File,
    info: Info,
    place: String,
}

impl Linux {
    /// Opening starts the count. What is no device is left alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.file_type().is_char_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no device"));
        }
        let mut file = OpenOptions::new().write(true).open(path)?;
        // SAFETY: the kernel writes a `struct watchdog_info`, of which `Info` is the layout.
        let info = match unsafe { ioctl(&file, Getter::<GET_SUPPORT, Info>::new()) } {
            Ok(info) => info,
            Err(error) => {
                // It may be a watchdog all the same.
                let _ = file.write_all(b"V");
                return Err(error.into());
            }
        };
        let place = if path == Path::new("/dev/watchdog") {
            String::new()
        } else {
            format!(" at {}", path.display())
        };
        Ok(Self { file, info, place })
    }

    fn can(&self, option: u32) -> bool {
        self.info.options & option != 0
    }
}

impl Device for Linux {
    fn identity(&self) -> String {
        let length =
            self.info.identity.iter().position(|&byte| byte == 0).unwrap_or(self.info.identity.len());
        let name = String::from_utf8_lossy(&self.info.identity[..length]).into_owned();
        let firmware = match self.info.firmware_version {
            0 => String::new(),
            version => format!(" (firmware {version})"),
        };
        format!("{name}{firmware}{}", self.place)
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        let mut told = c_int::try_from(seconds).unwrap_or(c_int::MAX);
        if self.can(CAN_SET_TIMEOUT) {
            // SAFETY: the kernel reads an int and writes the timeout that it took.
            unsafe { ioctl(&self.file, Updater::<SET_TIMEOUT, c_int>::new(&mut told)) }?;
        }
        // SAFETY: the kernel writes an int.
        let actual = unsafe { ioctl(&self.file, Getter::<GET_TIMEOUT, c_int>::new()) }?;
        u32::try_from(actual).map_err(|_| io::Error::other("the device tells a negative timeout"))
    }

    fn ping(&mut self) -> io::Result<()> {
        self.file.write_all(b"1")
    }

    fn can_be_disarmed(&self) -> bool {
        self.can(CLOSES_BY_MAGIC)
    }

    fn disarm(&mut self) -> io::Result<()> {
        // The count ends when the file is closed after this, which happens next.
        self.file.write_all(b"V")?;
        // SAFETY: the kernel reads an int.
        stopped(unsafe { ioctl(&self.file, Setter::<SET_OPTIONS, c_int>::new(DISABLE_CARD)) })
    }
}

/// Not every device knows how to be told that it shall stop, and after the magic byte it need not. But with `nowayout` the kernel refuses
/// it, takes the magic byte for nothing, and still calls the device one that stops when it is closed.
fn stopped(answer: rustix::io::Result<()>) -> io::Result<()> {
    match answer {
        Err(Errno::BUSY) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "the kernel keeps it running (nowayout)"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_a_way_out_is_told_from_a_device_that_does_not_know_the_question() {
        assert!(stopped(Err(Errno::BUSY)).unwrap_err().to_string().contains("nowayout"));
        assert!(stopped(Err(Errno::NOTTY)).is_ok() && stopped(Ok(())).is_ok());
    }

    #[test]
    fn the_requests_are_those_of_the_kernels_header() {
        // The numbers that `linux/watchdog.h` comes to on this architecture's generic encoding.
        let numbers = [GET_SUPPORT, SET_OPTIONS, SET_TIMEOUT, GET_TIMEOUT];
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!(numbers, [0x8028_5700, 0x8004_5704, 0xC004_5706, 0x8004_5707]);
        }
        assert_eq!(size_of::<Info>(), 40);
    }

    #[test]
    fn a_device_that_is_no_watchdog_is_refused() {
        let error = Linux::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTTY.raw_os_error()), "{error}");
    }
}
