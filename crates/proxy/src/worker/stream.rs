//! One socket of a connection: what was read, what waits to be written.

use std::{io, mem, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

use super::epoll::{Epoll, Key, Kind, Readiness, Watch};

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// Nothing more at present.
    Nothing,
    /// The other side sends no more.
    End,
}

/// A socket that never blocks.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    kind: Kind,
    key: Key,
    /// What the kernel would not take yet. Empty, and without memory, nearly always.
    out: Vec<u8>,
    sent: usize,
    /// There may be something to read.
    pub(crate) readable: bool,
    hung_up: bool,
    pub(crate) ended: bool,
    shut: bool,
    watches_out: bool,
}

impl Stream {
    /// Watches a socket for what arrives; one that is still connecting also for that.
    pub(crate) fn new(
        epoll: &Epoll,
        fd: OwnedFd,
        kind: Kind,
        key: Key,
        connecting: bool,
    ) -> io::Result<Self> {
        epoll.add(&fd, kind, key, if connecting { Watch::ReadWrite } else { Watch::Read })?;
        Ok(Self {
            fd,
            kind,
            key,
            out: Vec::new(),
            sent: 0,
            readable: false,
            hung_up: false,
            ended: false,
            shut: false,
            watches_out: connecting,
        })
    }

    /// Takes note of what the kernel says.
    #[inline]
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.hung_up |= readiness.hung_up;
    }

    /// Whether something waits to be written: nothing may be read for this side meanwhile.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        !self.out.is_empty()
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        if self.ended {
            self.readable = false;
            return Ok(Read::End);
        }
        let room = buffer.len();
        match recv(&self.fd, buffer, RecvFlags::empty()) {
            Ok((0, _)) => {
                (self.ended, self.readable) = (true, false);
                Ok(Read::End)
            }
            Ok((read, _)) => {
                // A read that did not fill the buffer has emptied the socket; only its end may still be there.
                self.readable = read == room || self.hung_up;
                Ok(Read::Bytes(read))
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(Read::Nothing)
            }
            Err(Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes, and keeps what the kernel does not take.
    #[inline]
    pub(crate) fn write(&mut self, epoll: &Epoll, bytes: &[u8]) -> io::Result<()> {
        if self.is_blocked() {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = match send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if sent < bytes.len() {
            self.out.extend_from_slice(&bytes[sent..]);
            self.watch_out(epoll, true)?;
        }
        Ok(())
    }

    /// Writes what waits. `true` once nothing does any more.
    pub(crate) fn flush(&mut self, epoll: &Epoll) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match send(&self.fd, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.watch_out(epoll, true)?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        // The memory goes back: most connections never need any.
        self.sent = 0;
        drop(mem::take(&mut self.out));
        self.watch_out(epoll, false)?;
        Ok(true)
    }

    fn watch_out(&mut self, epoll: &Epoll, wanted: bool) -> io::Result<()> {
        if self.watches_out != wanted {
            let watch = if wanted { Watch::ReadWrite } else { Watch::Read };
            epoll.change(&self.fd, self.kind, self.key, watch)?;
            self.watches_out = wanted;
        }
        Ok(())
    }

    /// Tells the other side that nothing more comes. Once.
    pub(crate) fn finish(&mut self) {
        if !mem::replace(&mut self.shut, true) {
            let _ = shutdown(&self.fd, Shutdown::Write);
        }
    }

    /// Whether the other side has hung up, found without reading what it may have sent.
    pub(crate) fn is_gone(&self) -> bool {
        self.hung_up
    }

    /// Writes what waits, says that no more comes, and reads to the end. `true` once that is reached, or never will be.
    pub(crate) fn drain_out(&mut self, context: &mut super::context::Context) -> bool {
        match self.flush(&context.epoll) {
            Ok(true) => self.finish(),
            Ok(false) => return false,
            Err(_) => return true,
        }
        while self.readable {
            match self.read(&mut context.buffer) {
                Ok(Read::Bytes(_)) => {}
                Ok(Read::Nothing) => return false,
                Ok(Read::End) | Err(_) => return true,
            }
        }
        false
    }

    /// How an attempt to connect has ended.
    pub(crate) fn connected(&mut self, epoll: &Epoll) -> io::Result<()> {
        rustix::net::sockopt::socket_error(&self.fd)??;
        self.watch_out(epoll, false)
    }
}
