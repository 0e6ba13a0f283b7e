//! A Unix socket of a listener: its file is made, and taken away again.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::{Gid, Group};
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::{info, warn};

use super::BACKLOG;
use crate::settings::UnixSocket;

/// A socket that listens, and its file, which goes with it.
#[derive(Debug)]
pub(super) struct UnixListener {
    pub(super) socket: Arc<OwnedFd>,
    path: PathBuf,
    /// Device and number of the file that is ours.
    identity: (u64, u64),
}

impl UnixListener {
    /// Makes the file. One that a process left behind is replaced; one behind which somebody listens is not.
    pub(super) fn open(wanted: &UnixSocket) -> io::Result<Self> {
        let address = SockAddr::unix(&wanted.path)?;
        let group = wanted.group.as_deref().map(group_of).transpose()?;
        remove_stale(&wanted.path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address)?;
        let made = std::fs::symlink_metadata(&wanted.path)?;
        let opened =
            Self { socket: Arc::new(socket.into()), path: wanted.path.clone(), identity: identity(&made) };
        // Nobody is taken before it listens, so nobody comes in by permissions that were not meant.
        if let Some(group) = group {
            std::os::unix::fs::chown(&wanted.path, None, Some(group.as_raw()))?;
        }
        std::fs::set_permissions(&wanted.path, std::os::unix::fs::PermissionsExt::from_mode(wanted.mode))?;
        rustix::net::listen(&*opened.socket, BACKLOG)?;
        Ok(opened)
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        // Another process may have put its own there.
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "the file of a socket is left behind: remove it by hand");
        }
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn group_of(name: &str) -> io::Result<Gid> {
    let group = Group::from_name(name)?;
    let group = group.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no group `{name}` (unix_socket_group)"))
    })?;
    Ok(group.gid)
}

/// Removes the file of a socket behind which nobody listens.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?;
    match caller.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!(path = %path.display(), "a socket that a process left behind is replaced");
            std::fs::remove_file(path)
        }
        // A full queue counts as somebody, too.
        Ok(()) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixStream};

    use super::*;

    #[test]
    fn a_file_is_made_replaced_if_stale_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".s.PGSQL.6432");
        let wanted = UnixSocket { path: path.clone(), mode: 0o750, group: None };
        // Dropped without its file: what a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err() && path.exists());

        let listener = UnixListener::open(&wanted).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
        UnixStream::connect(&path).unwrap();
        let error = UnixListener::open(&wanted).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        UnixStream::connect(&path).expect("the first one goes on");
        drop(listener);
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        UnixListener::open(&wanted).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        let nobodys = UnixSocket { group: Some("no such group".into()), ..wanted };
        let error = UnixListener::open(&nobodys).unwrap_err();
        assert!(error.to_string().contains("unix_socket_group") && !path.exists(), "{error}");
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let wanted = UnixSocket { path: path.clone(), mode: 0o700, group: None };
        let listener = UnixListener::open(&wanted).unwrap();
        std::fs::remove_file(&path).unwrap();
        let successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        UnixStream::connect(&path).unwrap();
        drop(successor);
    }
}
