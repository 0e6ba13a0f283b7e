//! `postmaster.pid`: what a postmaster writes about itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file's lines. Those after the third are missing for a moment after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// Negative for a single-user server.
    pub pid: i32,
    pub data_dir: PathBuf,
    /// Seconds since 1970.
    pub start_time: i64,
    pub port: Option<u16>,
    /// The first unix socket directory, if there is one.
    pub socket_dir: Option<PathBuf>,
    /// The first address that it listens on, if any.
    pub listen_address: Option<String>,
    /// `starting`, `stopping`, `ready` or `standby`.
    pub status: Option<String>,
}

impl PidFile {
    /// `None` if there is no such file, or not a complete one yet. Blocking.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(data_dir.join("postmaster.pid")) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let line = |number: usize| lines.get(number - 1).filter(|line| !line.is_empty()).copied();
        let data_dir = PathBuf::from(line(2)?);
        Some(Self {
            pid: line(1)?.parse().ok()?,
            data_dir: fs::canonicalize(&data_dir).unwrap_or(data_dir),
            start_time: line(3)?.parse().ok()?,
            port: line(4).and_then(|port| port.parse().ok()),
            socket_dir: line(5).map(PathBuf::from),
            listen_address: line(6).map(ToOwned::to_owned),
            status: line(8).map(ToOwned::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_there_yet_are_unknown() {
        let full = "4242\n/nowhere/data\n1795312345\n5433\n/tmp\n127.0.0.1\n 5433001 1234\nready   \n";
        let file = PidFile::parse(full).unwrap();
        assert_eq!((file.pid, file.port, file.status.as_deref()), (4242, Some(5433), Some("ready")));
        assert_eq!(file.socket_dir.as_deref(), Some(Path::new("/tmp")));
        let early = PidFile::parse("4242\n/nowhere/data\n1795312345\n").unwrap();
        assert_eq!((early.port, early.status), (None, None));
        let no_socket = PidFile::parse("4242\n/nowhere/data\n1795312345\n5433\n\n*\n").unwrap();
        assert_eq!((no_socket.socket_dir, no_socket.listen_address.as_deref()), (None, Some("*")));
        for broken in ["", "4242\n", "x\n/a\n1\n"] {
            assert_eq!(PidFile::parse(broken), None, "{broken:?}");
        }
    }
}
