//! Readiness from the kernel, and which connection it is about.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};

/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// Which kind of thing an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wake,
    Listener,
    /// The client's side of a passage.
    PassageClient,
    PassageServer,
    Courier,
    /// A client of a pool.
    Client,
    /// A server of a pool.
    Server,
}

const KINDS: [Kind; 7] = [
    Kind::Wake,
    Kind::Listener,
    Kind::PassageClient,
    Kind::PassageServer,
    Kind::Courier,
    Kind::Client,
    Kind::Server,
];

/// A place in one of the worker's tables. The generation tells an event for a connection that has ended from one for
/// its successor in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

const INDEX_BITS: u32 = 28;

fn pack(kind: Kind, key: Key) -> u64 {
    (u64::from(key.generation) << 32) | ((kind as u64) << INDEX_BITS) | u64::from(key.index)
}

fn unpack(data: u64) -> (Kind, Key) {
    let low = data as u32;
    let kind = KINDS[(low >> INDEX_BITS) as usize % KINDS.len()];
    (kind, Key { index: low & ((1 << INDEX_BITS) - 1), generation: (data >> 32) as u32 })
}

/// What has happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side sends no more, or the connection has failed: read to the end.
    pub(crate) hung_up: bool,
}

/// The kernel's list of sockets to watch. Edge-triggered: each event comes once.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

/// Memory for what the kernel reports at once.
pub(crate) struct Batch(Vec<Event>);

impl Default for Batch {
    fn default() -> Self {
        Self(Vec::with_capacity(BATCH))
    }
}

/// What a socket is watched for besides bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Read,
    /// Also for room to write: only while something waits to be written, since a Unix socket would tell of room each time
    /// the other side reads.
    ReadWrite,
}

impl Watch {
    fn flags(self) -> EventFlags {
        let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        if self == Watch::ReadWrite { read | EventFlags::OUT } else { read }
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub(crate) fn add(&self, socket: impl AsFd, kind: Kind, key: Key, watch: Watch) -> io::Result<()> {
        Ok(epoll::add(&self.fd, socket, EventData::new_u64(pack(kind, key)), watch.flags())?)
    }

    /// Watches a listening socket that several workers share: one of them is woken.
    pub(crate) fn add_shared(&self, socket: impl AsFd, kind: Kind, key: Key) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.fd, socket, EventData::new_u64(pack(kind, key)), flags)?)
    }

    pub(crate) fn change(&self, socket: impl AsFd, kind: Kind, key: Key, watch: Watch) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, socket, EventData::new_u64(pack(kind, key)), watch.flags())?)
    }

    /// A closed socket is forgotten by itself; this is for one that is shared.
    pub(crate) fn remove(&self, socket: impl AsFd) {
        let _ = epoll::delete(&self.fd, socket);
    }

    /// Waits for events, and appends them to `found`.
    pub(crate) fn wait(
        &self,
        limit: Duration,
        batch: &mut Batch,
        found: &mut Vec<(Kind, Key, Readiness)>,
    ) -> io::Result<()> {
        batch.0.clear();
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match epoll::wait(&self.fd, spare_capacity(&mut batch.0), Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        found.extend(batch.0.iter().map(|event| {
            let (kind, key) = unpack(event.data.u64());
            let flags = event.flags;
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            let readable = hung_up || flags.contains(EventFlags::IN);
            (
                kind,
                key,
                Readiness {
                    readable,
                    writable: flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP),
                    hung_up,
                },
            )
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_kernel() {
        for kind in KINDS {
            let key = Key { index: 12_345, generation: u32::MAX };
            assert_eq!(unpack(pack(kind, key)), (kind, key));
        }
    }
}
