//! Where lines end: standard error, or `patroni.log` in `log.dir`, which is rotated by its size.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bellwether_config::sections::log::Log;

/// Log collectors look for this name, whatever the program is called.
const FILE_NAME: &str = "patroni.log";

#[derive(Debug)]
pub(crate) enum Output {
    Stderr,
    File(Rotated),
}

/// A file that makes room for itself: `patroni.log.1` is the newest of the full ones.
#[derive(Debug)]
pub(crate) struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    /// 0: never full.
    limit: u64,
    kept: u32,
    mode: Option<u32>,
}

impl Output {
    /// Opens what the configuration names. The directory is made if it is missing.
    pub(crate) fn open(log: &Log) -> io::Result<Self> {
        let Some(dir) = &log.dir else { return Ok(Self::Stderr) };
        fs::create_dir_all(dir)?;
        let path = dir.join(FILE_NAME);
        let (file, size) = open(&path, log.mode)?;
        Ok(Self::File(Rotated { path, file, size, limit: log.file_size, kept: log.file_num, mode: log.mode }))
    }

    pub(crate) fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::File(file) => file.write(line),
        }
    }
}

impl Rotated {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.limit > 0 && self.size > 0 && self.size + length >= self.limit {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.size += length;
        Ok(())
    }

    /// Without files to keep the file just grows.
    fn rotate(&mut self) -> io::Result<()> {
        if self.kept > 0 {
            for number in (1..self.kept).rev() {
                move_over(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
            }
            move_over(&self.path, &numbered(&self.path, 1))?;
        }
        (self.file, self.size) = open(&self.path, self.mode)?;
        Ok(())
    }
}

fn move_over(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open(path: &Path, mode: Option<u32>) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(mode.unwrap_or(0o666)).open(path)?;
    if let Some(mode) = mode {
        // The process's umask took something away from it, or the file was there before.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_moved_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log {
            dir: Some(dir.path().join("new")),
            file_size: 10,
            file_num: 2,
            mode: Some(0o604),
            ..Log::default()
        };
        let mut output = Output::open(&log).unwrap();
        for line in ["one...\n", "two...\n", "three.\n", "4\n", "five..\n"] {
            output.write(line).unwrap();
        }
        let text = |name: &str| fs::read_to_string(dir.path().join("new").join(name)).unwrap_or_default();
        assert_eq!(text("patroni.log"), "five..\n");
        assert_eq!(text("patroni.log.1"), "three.\n4\n");
        assert_eq!(text("patroni.log.2"), "two...\n");
        assert!(!dir.path().join("new/patroni.log.3").exists());
        let mode = fs::metadata(dir.path().join("new/patroni.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o604);

        let mut again = Output::open(&Log { file_size: 0, ..log }).unwrap();
        again.write("it grows without end\n").unwrap();
        assert_eq!(text("patroni.log"), "five..\nit grows without end\n", "a restart appends");
    }
}
