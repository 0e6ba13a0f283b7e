//! Clients that share servers: sockets, queues and the clock around the state machines of [`crate::pooling`].
//!
//! A client between transactions holds no server and no buffer. Its next message takes a server of its pool, or waits for one in
//! the order of arrival; while there is no primary, all wait.

mod admission;
mod attach;
pub(crate) mod cancel;
mod client;
mod clock;
mod console;
mod door;
mod places;
mod pool;
mod server;
mod splitting;
mod tell;
mod traffic;

use std::{os::fd::OwnedFd, sync::Arc};

use self::{
    client::{Client, Stage},
    pool::{Pool, PoolId, Pools},
    server::{Server, ServerStage},
};
use super::{
    context::{Context, Listener},
    epoll::{Key, Kind, Readiness},
    slots::Slots,
};
use crate::{pooling::statements::Registry, refusal::Refusal, routes::Target};

/// All pools of a worker, their clients and their servers.
#[derive(Debug, Default)]
pub(crate) struct Pooled {
    clients: Slots<Client>,
    servers: Slots<Server>,
    pools: Pools,
    registry: Registry,
    splitting: splitting::Splitting,
    /// Memory for messages that are put together.
    scratch: Vec<u8>,
    to_client: Vec<u8>,
    stopping: bool,
    /// Requests to cancel that are to be sent.
    cancels: Vec<cancel::Cancel>,
}

impl Pooled {
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether somebody waits for a clock.
    pub(crate) fn is_restless(&self) -> bool {
        self.pools.is_restless()
    }

    /// Takes a client that has just connected.
    pub(crate) fn accept(&mut self, context: &mut Context, listener: &Arc<Listener>, fd: OwnedFd) {
        let made = self.clients.try_insert_with(|key| Client::new(context, listener.clone(), fd, key));
        match made {
            Ok(key) => {
                listener.counts.connections.add(1);
                context.shared.metrics.pooled.add(1);
                self.pools.arriving += 1;
                self.client_ready(context, key);
            }
            Err(error) => {
                tracing::warn!(%error, "a client could not be watched");
                context.shared.metrics.clients.sub(1);
            }
        }
    }

    #[inline]
    pub(crate) fn client_event(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.stream.note(readiness);
        if client.stream.is_blocked() {
            match client.stream.flush(&context.epoll) {
                Ok(true) => {
                    if let Some(server) = client.server {
                        self.server_ready(context, server);
                    }
                }
                Ok(false) => {}
                Err(_) => return self.close_client(context, key),
            }
        }
        self.client_ready(context, key);
    }

    #[inline]
    pub(crate) fn server_event(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.stream.note(readiness);
        if server.stage == ServerStage::Connecting {
            return self.finish_connecting(context, key, readiness);
        }
        if server.stream.is_blocked() {
            match server.stream.flush(&context.epoll) {
                Ok(true) => {
                    if let Some(client) = server.client {
                        self.client_ready(context, client);
                    }
                }
                Ok(false) => {}
                Err(_) => return self.lose_server(context, key, "the connection has failed"),
            }
        }
        self.server_ready(context, key);
    }

    /// The client may have something to say.
    fn client_ready(&mut self, context: &mut Context, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        match client.stage {
            Stage::Greeting | Stage::Verifying => self.at_the_door(context, key),
            Stage::Ready | Stage::Attached => self.carry_up(context, key),
            Stage::Waiting | Stage::Newcomer | Stage::AwaitingSecret | Stage::Syncing => {
                self.watch_waiting(context, key)
            }
            Stage::Console { .. } => self.hear_console(context, key),
            // Some say that they send no more, and wait all the same.
            Stage::Cancelling => {}
            Stage::Leaving => self.see_off(context, key),
        }
    }

    /// A client that waits is not read, but its end is noticed.
    fn watch_waiting(&mut self, context: &mut Context, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stream.is_gone() {
            self.close_client(context, key);
        }
    }

    /// Takes a client out of everything.
    fn close_client(&mut self, context: &mut Context, key: Key) {
        let Some(client) = self.clients.remove(key) else { return };
        client.listener.counts.connections.sub(1);
        context.shared.metrics.clients.sub(1);
        context.shared.metrics.pooled.sub(1);
        if let Some(id) = client.pool {
            let pool = self.pools.get_mut(id);
            context.shared.quota.dismiss(&pool.database, &pool.user);
            pool.leave(key);
            if client.stage == Stage::Waiting {
                client.listener.counts.waiting.sub(1);
            }
        }
        if let Some(server) = client.server {
            self.part_with(context, server, client.side.pin.is_some());
        }
    }

    /// Tells a client why it cannot stay, and lets it go.
    fn refuse(&mut self, context: &mut Context, key: Key, refusal: &Refusal) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stage == Stage::Leaving {
            return;
        }
        client.listener.counts.refused(refusal.label());
        let mut last = Vec::new();
        refusal.write(&mut last);
        self.dismiss(context, key, &last);
    }

    /// Sends last words.
    fn dismiss(&mut self, context: &mut Context, key: Key, last: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let _ = client.stream.write(&context.epoll, last);
        if client.stage == Stage::Waiting {
            client.listener.counts.waiting.sub(1);
        }
        client.stage = Stage::Leaving;
        client.since = context.now;
        client.side.input = Vec::new();
        let (pool, server) = (client.pool, client.server.take());
        if let Some(id) = pool {
            self.pools.get_mut(id).leave(key);
        }
        if let Some(server) = server {
            self.part_with(context, server, true);
        }
        self.pools.leaving = true;
        self.see_off(context, key);
    }

    /// Waits until the client has heard its last words.
    fn see_off(&mut self, context: &mut Context, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stream.drain_out(context) {
            self.close_client(context, key);
        }
    }

    /// Ends what the routes no longer allow, before anybody reaches the new primary.
    pub(crate) fn enforce(&mut self, context: &mut Context) {
        let lost: Vec<Key> = self
            .servers
            .iter()
            .filter(|(_, server)| {
                let target = self.pools.get(server.pool).target;
                let (routes, member) = (&context.routes, &server.route.member);
                match target {
                    Target::Primary => !routes.allows(target, member, context.now),
                    _ => !routes.leads_to(target, member, context.now),
                }
            })
            .map(|(key, _)| key)
            .collect();
        for key in lost {
            let Some(server) = self.servers.get(key) else { continue };
            let target = self.pools.get(server.pool).target;
            let is_at_rest = server
                .client
                .and_then(|client| self.clients.get(client))
                .is_some_and(|client| client.stage == Stage::Attached && !client.side.is_busy);
            let goes = is_at_rest && context.routes.sends_away(target, &server.route.member);
            if target != Target::Primary && server.client.is_some() && !goes {
                // A reader may finish; the server does not come back to the pool.
                if let Some(server) = self.servers.get_mut(key) {
                    server.is_condemned = true;
                }
                continue;
            }
            self.cut(context, key, target);
        }
    }

    fn cut(&mut self, context: &mut Context, key: Key, target: Target) {
        let Some(server) = self.servers.get(key) else { return };
        let (member, client, id) = (server.route.member.clone(), server.client, server.pool);
        let untouched = client.and_then(|client| self.clients.get(client)).is_some_and(|client| {
            // Set up, but nothing of the client has been passed on.
            matches!(client.stage, Stage::Syncing)
        });
        if let (Some(client), true) = (client, untouched) {
            self.wait_again(context, client);
        }
        self.remove_server(context, key);
        if let (Some(client), false) = (client, untouched) {
            if let Some(client) = self.clients.get_mut(client) {
                client.server = None;
                client.listener.counts.cut.add(1);
            }
            self.refuse(context, client, &Refusal::Cut { member, target });
        }
        let _ = id;
    }

    /// The routes have changed: those who wait may find a server now.
    pub(crate) fn serve_waiting(&mut self, context: &mut Context) {
        for id in self.pools.ids() {
            self.pools.get_mut(id).retry_at = bellwether_types::Timestamp::ZERO;
            self.serve(context, id);
        }
    }

    /// Ends all sessions: at once those between transactions, the others with their transaction.
    pub(crate) fn stop(&mut self, context: &mut Context) {
        self.stopping = true;
        let is_idle = |client: &Client| client.stage != Stage::Attached || !client.side.is_busy;
        let idle: Vec<Key> =
            self.clients.iter().filter(|(_, client)| is_idle(client)).map(|(key, _)| key).collect();
        for key in idle {
            self.refuse(context, key, &Refusal::Stopping);
        }
    }

    fn again(context: &mut Context, client: Key) {
        context.again(Kind::Client, client);
    }

    fn pool_mut(&mut self, id: PoolId) -> &mut Pool {
        self.pools.get_mut(id)
    }
}
