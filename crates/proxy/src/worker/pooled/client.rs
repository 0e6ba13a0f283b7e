//! A client of a pool.

use std::{io, os::fd::OwnedFd, sync::Arc};

use bellwether_pgwire::{
    auth::{hba, verify::Verification},
    startup::Startup,
};
use bellwether_types::Timestamp;

use super::{pool::PoolId, splitting::Split};
use crate::{
    pooling::client::ClientSide,
    worker::{
        context::{Context, Listener},
        epoll::{Key, Kind},
        stream::Stream,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not said who it is.
    Greeting,
    /// What is known of its password is being looked up.
    AwaitingSecret,
    /// It shows who it is.
    Verifying,
    /// It is let in once a server has told what clients must know.
    Newcomer,
    /// Between transactions.
    Ready,
    /// In the queue for a server.
    Waiting,
    /// Its server is given its settings.
    Syncing,
    Attached,
    /// It types commands for the proxy itself.
    Console {
        may_change: bool,
        /// One of them is being done.
        is_busy: bool,
    },
    /// It has asked to cancel what another one does, and waits for the end of that.
    Cancelling,
    /// Told why it cannot stay.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) listener: Arc<Listener>,
    pub(super) stream: Stream,
    pub(super) stage: Stage,
    pub(super) side: ClientSide,
    /// Its input holds whole messages.
    pub(super) has_work: bool,
    /// Its server has told it why it ends.
    pub(super) told: bool,
    /// Where it waits, or has a server from.
    pub(super) pool: Option<PoolId>,
    /// Of a client whose reads go to replicas.
    pub(super) split: Option<Box<Split>>,
    pub(super) server: Option<Key>,
    /// When the stage began, as far as a clock ends it.
    pub(super) since: Timestamp,
    /// It knows that it waits for a server.
    pub(super) was_notified: bool,
    /// What it needs only at the door.
    pub(super) entry: Option<Box<Entry>>,
    /// The key that it cancels with; made up by us.
    pub(super) process: u32,
    pub(super) secret: Box<[u8]>,
}

/// A client that is not in yet.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) bytes: Vec<u8>,
    pub(super) startup: Option<Startup>,
    /// How it shows who it is.
    pub(super) check: Option<hba::Check>,
    pub(super) verification: Option<Verification>,
}

impl Client {
    pub(super) fn new(context: &Context, listener: Arc<Listener>, fd: OwnedFd, key: Key) -> io::Result<Self> {
        Ok(Self {
            listener,
            stream: Stream::new(&context.epoll, fd, Kind::Client, key, false)?,
            stage: Stage::Greeting,
            side: ClientSide::default(),
            has_work: false,
            told: false,
            pool: None,
            split: None,
            server: None,
            since: context.now,
            was_notified: false,
            entry: Some(Box::default()),
            process: context.shared.processes.next(),
            secret: Box::default(),
        })
    }
}
