//! Encryption of one connection, on a socket that never blocks.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::Connection;

use super::stream::Read;

#[derive(Debug)]
pub(crate) struct Tls {
    connection: Connection,
    blocked: bool,
}

/// The socket as the library wants it.
struct Socket<'a>(&'a OwnedFd);

impl io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.0)
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub(super) fn new(mut connection: Connection) -> Self {
        // Backpressure is ours: nothing is read for a side that is blocked.
        connection.set_buffer_limit(None);
        Self { connection, blocked: false }
    }

    /// What the other side has shown, which was verified if anything was asked for. In DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Takes bytes that were read before anybody knew that they are encrypted.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.connection.read_tls(&mut bytes)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.process()?;
        }
        Ok(())
    }

    fn process(&mut self) -> io::Result<()> {
        self.connection
            .process_new_packets()
            .map(drop)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    pub(super) fn read(&mut self, fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Read> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(0) => return Ok(Read::End),
                Ok(count) => return Ok(Read::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It closed without a good-bye, as many do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Read::End),
                Err(error) => return Err(error),
            }
            match self.connection.read_tls(&mut Socket(fd)) {
                Ok(0) => return Ok(Read::End),
                Ok(_) => {
                    let processed = self.process();
                    // An alert is worth sending.
                    self.flush(fd)?;
                    processed?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(bytes)
    }

    /// `true` once nothing waits any more.
    pub(super) fn flush(&mut self, fd: &OwnedFd) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(fd)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.blocked = false;
        Ok(true)
    }

    pub(super) fn close(&mut self, fd: &OwnedFd) {
        self.connection.send_close_notify();
        let _ = self.flush(fd);
    }
}
