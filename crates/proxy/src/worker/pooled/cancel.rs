//! Requests to cancel: from whoever sends one to the server that works for the client it is about.
//!
//! PostgreSQL signals the backend before it closes the connection that brought the request. Until then neither may the server have
//! another client, whose statement the signal would end, nor may whoever asked be told that it is done: libpq waits for the end of its
//! connection before the next statement.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Pooled, client::Stage, server::ServerStage};
use crate::{
    control::ask::{Ask, What},
    routes::Route,
    worker::{Command, Mailbox, context::Context, epoll::Key},
};

/// Who sent a request: let go once nobody carries it any more.
#[derive(Debug)]
pub(crate) enum Caller {
    Client {
        worker: Mailbox,
        client: Key,
    },
    /// Another node's proxy, which waits for the end of the channel.
    Node {
        _done: oneshot::Sender<()>,
    },
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Self::Client { worker, client } = self {
            worker.send(Command::Cancelled(*client));
        }
    }
}

/// A request that has found its server.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) route: Arc<Route>,
    pub(crate) packet: Vec<u8>,
    /// A server of a pool.
    pub(crate) server: Key,
    /// `None`: it took too long.
    pub(crate) caller: Option<Arc<Caller>>,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// What it does has been done.
    Over,
    /// It was sent, and may still do something.
    Open,
}

impl Pooled {
    /// A client has come to cancel something, and waits until that is done.
    pub(super) fn ask_to_cancel(&mut self, context: &mut Context, key: Key, process: u32, secret: Vec<u8>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.stage = Stage::Cancelling;
        client.entry = None;
        // Any worker may have the client that it is about, this one too.
        let ask = Ask { worker: context.number, client: key, what: What::Cancel { process, secret } };
        if context.shared.asks.try_send(ask).is_err() {
            context.shared.metrics.cancels.dropped.add(1);
            tracing::warn!(
                "a request to cancel was dropped, as too many logins and questions wait for answers: cancel again; \
                 if it goes on, look who connects again and again (`SHOW CLIENTS` on the console)"
            );
            self.close_client(context, key);
        }
    }

    /// Sends a request on, if it is about a client of this worker.
    pub(crate) fn cancel(&mut self, process: u32, secret: &[u8], caller: Arc<Caller>) {
        let found = self.clients.iter().find(|(_, client)| {
            client.process == process && !client.secret.is_empty() && *client.secret == *secret
        });
        let Some(key) = found.and_then(|(_, client)| client.server) else { return };
        self.cancel_work(key, Some(caller));
    }

    /// Asks a server to stop what it does for its client.
    pub(super) fn cancel_work(&mut self, key: Key, caller: Option<Arc<Caller>>) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.cancels += 1;
        let packet = bellwether_pgwire::startup::cancel_request(server.process, &server.secret);
        self.cancels.push(Cancel { route: server.route.clone(), packet, server: key, caller });
    }

    /// Requests that are to be carried to their servers.
    pub(crate) fn take_cancels(&mut self) -> Vec<Cancel> {
        std::mem::take(&mut self.cancels)
    }

    /// A request about this server is no longer carried.
    pub(crate) fn cancel_ended(&mut self, context: &mut Context, key: Key, fate: Fate) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.cancels -= 1;
        server.is_condemned |= fate == Fate::Open;
        if server.stage == ServerStage::BeingCancelled && server.cancels == 0 {
            self.pools.get_mut(server.pool).coming -= 1;
            server.stage = ServerStage::Busy;
            self.put_back(context, key);
        }
    }

    /// All that a client's request to cancel could do has been done.
    pub(crate) fn cancelled(&mut self, context: &mut Context, key: Key) {
        if self.clients.get(key).is_some_and(|client| client.stage == Stage::Cancelling) {
            self.close_client(context, key);
        }
    }
}
