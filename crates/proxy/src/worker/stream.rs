//! One socket of a connection: what was read, what waits to be written.

use std::{io, mem, net::SocketAddr, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

use rustls::Connection;

use crate::{
    metrics::Counted,
    proxied::{self, Heading, Proxied},
    refusal::Refusal,
};

use super::{
    context::Listener,
    epoll::{Epoll, Key, Kind, Readiness, Watch},
    pipe::{Filled, Pipe, Pipes},
    tls::Tls,
};

/// After so many full reads in a row the kernel moves the data.
const BULK: u8 = 4;
/// Less than this at once is copied again.
const SMALL: usize = 4096;

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
    tls: Option<Box<Tls>>,
    /// What goes to this side without passing through our memory.
    pipe: Option<Box<Pipe>>,
    /// Reads in a row that filled the whole buffer.
    full_reads: u8,
    /// There may be something to read.
    pub(crate) readable: bool,
    hung_up: bool,
    pub(crate) ended: bool,
    shut: bool,
    watches_out: bool,
    /// Of a client: its bytes begin here, and not with a load balancer's.
    is_introduced: bool,
    /// What a load balancer has said of the other side.
    proxied: Option<Box<Proxied>>,
    /// Counts the connection while it lives.
    pub(crate) counted: Option<Counted>,
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
            tls: None,
            pipe: None,
            full_reads: 0,
            readable: false,
            hung_up: false,
            ended: false,
            shut: false,
            watches_out: connecting,
            is_introduced: false,
            proxied: None,
            counted: None,
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
            || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
            || self.tls.as_ref().is_some_and(|tls| tls.is_blocked())
    }

    /// From here on all bytes are encrypted; `first` are those of the other side that have been read already.
    pub(crate) fn encrypt(&mut self, epoll: &Epoll, connection: Connection, first: &[u8]) -> io::Result<()> {
        let mut tls = Box::new(Tls::new(connection));
        tls.take(first)?;
        self.tls = Some(tls);
        // Something may have arrived that nobody will tell of again.
        self.readable = true;
        self.flush(epoll).map(drop)
    }

    /// Who is on the other side; behind a load balancer, the client that it speaks for. `None` on a Unix socket.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.proxied.as_ref().map(|of| of.client).or_else(|| self.neighbour())
    }

    /// Where the client has connected to.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        let own = || rustix::net::getsockname(&self.fd).ok()?.try_into().ok();
        self.proxied.as_ref().map(|of| of.called).or_else(own)
    }

    /// Who has opened the connection itself.
    fn neighbour(&self) -> Option<SocketAddr> {
        rustix::net::getpeername(&self.fd).ok()??.try_into().ok()
    }

    pub(crate) fn is_unix(&self) -> bool {
        rustix::net::getsockname(&self.fd).is_ok_and(|own| own.address_family() == AddressFamily::UNIX)
    }

    /// The user that the process at the other end of a Unix socket belonged to when it connected.
    pub(crate) fn peer_user(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.fd)?.uid.as_raw())
    }

    /// Takes what a load balancer puts in front of a client's first bytes out of `bytes`. `false`: more is to come before anybody
    /// can tell.
    pub(crate) fn introduce(&mut self, listener: &Listener, bytes: &mut Vec<u8>) -> Result<bool, Refusal> {
        if self.is_introduced {
            return Ok(true);
        }
        let heading = Heading::of(bytes);
        let from = match (heading, listener.accept_proxy.is_empty()) {
            (Heading::Absent, true) => None,
            _ => self.neighbour().map(|neighbour| neighbour.ip()),
        };
        let Some((size, proxied)) = heading.judged(from, &listener.accept_proxy)? else { return Ok(false) };
        self.is_introduced = true;
        if size > 0 {
            bytes.drain(..size);
            listener.counts.proxied.add(1);
            self.proxied = proxied.map(Box::new);
        }
        // The client's own bytes may be still to come.
        Ok(!bytes.is_empty())
    }

    /// The PROXY header that tells a member of this client.
    pub(crate) fn header(&self) -> Vec<u8> {
        let of = self.peer().zip(self.local()).map(|(client, called)| Proxied { client, called });
        proxied::header(of)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The verified certificate of the other side, in DER.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificate()
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        if self.ended {
            self.readable = false;
            return Ok(Read::End);
        }
        if self.tls.is_some() {
            return self.read_encrypted(buffer);
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
                self.full_reads = if read == room { self.full_reads.saturating_add(1) } else { 0 };
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
        if let Some(tls) = &mut self.tls {
            tls.say(bytes)?;
            return self.flush(epoll).map(drop);
        }
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
        if let Some(tls) = &mut self.tls {
            let is_done = tls.flush(&self.fd)?;
            self.watch_out(epoll, !is_done)?;
            return Ok(is_done);
        }
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
        if let Some(pipe) = &mut self.pipe
            && !pipe.empty(&self.fd)?
        {
            self.watch_out(epoll, true)?;
            return Ok(false);
        }
        // The memory goes back: most connections never need any.
        self.sent = 0;
        drop(mem::take(&mut self.out));
        self.watch_out(epoll, false)?;
        Ok(true)
    }

    /// Whether it sends so much that the kernel had better move it.
    #[inline]
    pub(crate) fn is_bulk(&self) -> bool {
        self.full_reads >= BULK && self.tls.is_none()
    }

    /// Takes what `from` has, by way of a pipe. `None`: there is no pipe, and the bytes must be copied.
    pub(crate) fn move_from(
        &mut self,
        from: &mut Stream,
        epoll: &Epoll,
        pipes: &mut Pipes,
    ) -> Option<io::Result<Read>> {
        if self.tls.is_some() {
            return None;
        }
        if self.pipe.is_none() {
            self.pipe = pipes.take().map(Box::new);
        }
        let pipe = self.pipe.as_mut()?;
        let filled = match pipe.fill(&from.fd) {
            Ok(filled) => filled,
            Err(error) => return Some(Err(error)),
        };
        let read = match filled {
            Filled::Bytes(count) => {
                if count < SMALL {
                    from.full_reads = 0;
                }
                Read::Bytes(count)
            }
            Filled::Nothing => {
                from.readable = false;
                Read::Nothing
            }
            Filled::End => {
                (from.ended, from.readable) = (true, false);
                Read::End
            }
        };
        if let Err(error) = self.flush(epoll) {
            return Some(Err(error));
        }
        if !from.is_bulk()
            && let Some(pipe) = self.pipe.take_if(|pipe| pipe.is_empty())
        {
            pipes.give_back(*pipe);
        }
        Some(Ok(read))
    }

    #[cold]
    fn read_encrypted(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let Some(tls) = &mut self.tls else { return Ok(Read::Nothing) };
        let read = tls.read(&self.fd, buffer)?;
        match read {
            // What is left of a record is not told of by the kernel.
            Read::Bytes(_) => self.readable = true,
            Read::Nothing => self.readable = false,
            Read::End => (self.ended, self.readable) = (true, false),
        }
        Ok(read)
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
        if let Some(tls) = &mut self.tls
            && !self.shut
        {
            tls.close(&self.fd);
        }
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
