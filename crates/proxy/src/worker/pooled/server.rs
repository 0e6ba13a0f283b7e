//! A server of a pool: how it comes to be, and how it ends.

mod login;

use std::sync::Arc;

use bellwether_pgwire::{auth::login::LoggingIn, startup::ssl_request};
use bellwether_types::Timestamp;

use super::{
    Pooled,
    pool::{Parameters, PoolId},
};
use crate::{
    pooling::server::ServerSide,
    routes::{Route, Target},
    split::Position,
    worker::{
        context::Context,
        epoll::{Key, Kind, Readiness},
        sockets,
        stream::Stream,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerStage {
    Connecting,
    /// It was asked whether it encrypts.
    Asking,
    LoggingIn,
    /// It is asked what it is.
    Checking,
    Idle,
    /// It is given a client's settings.
    Syncing,
    Busy,
    /// Its last client has gone, and what that one asked to cancel may still reach it.
    BeingCancelled,
    /// What a client left behind is taken away.
    Resetting,
    /// It is asked where a client's write ended.
    Locating,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) stream: Stream,
    pub(super) stage: ServerStage,
    pub(super) side: ServerSide,
    pub(super) pool: PoolId,
    pub(super) route: Arc<Route>,
    pub(super) client: Option<Key>,
    pub(super) login: Option<Box<LoggingIn>>,
    pub(super) parameters: Parameters,
    /// Its key to cancel.
    pub(super) process: u32,
    pub(super) secret: Vec<u8>,
    /// Requests to cancel what it does that are on their way.
    pub(super) cancels: u32,
    pub(super) since: Timestamp,
    pub(super) born: Timestamp,
    /// When it could be used.
    pub(super) ready_at: Timestamp,
    /// When its client's transaction began.
    pub(super) begun_at: Timestamp,
    /// When it was last asked something, or had answered all: whichever of the two came last.
    pub(super) asked_at: Timestamp,
    /// It does not come back to the pool.
    pub(super) is_condemned: bool,
    /// The timeline that it writes; 0 for a replica's.
    pub(super) timeline: u32,
    /// What it has been seen to show: a lower bound.
    pub(super) replayed: Option<Position>,
    /// When it has been asked for something that it does not show yet.
    pub(super) lacked_at: Option<Timestamp>,
    /// For which client it is asked for its position, and after which of its writes.
    pub(super) locates: Option<(Key, u64)>,
}

impl Server {
    fn is_coming(&self) -> bool {
        matches!(
            self.stage,
            ServerStage::Connecting
                | ServerStage::Asking
                | ServerStage::LoggingIn
                | ServerStage::Checking
                | ServerStage::BeingCancelled
                | ServerStage::Resetting
                | ServerStage::Locating
        )
    }
}

impl Pooled {
    /// Opens one more server, if that is allowed. Whether it is worth while to ask for another one.
    pub(super) fn open_server(&mut self, context: &mut Context, id: PoolId) -> bool {
        let pool = self.pools.get(id);
        let (target, failures) = (pool.target, pool.failures);
        let Some(route) = context.pick(target, failures as usize) else { return false };
        self.open_server_at(context, id, route)
    }

    pub(super) fn open_server_at(&mut self, context: &mut Context, id: PoolId, route: Arc<Route>) -> bool {
        if !self.take_place(context, id) {
            return false;
        }
        let opened = route.addresses.iter().find_map(|address| sockets::begin_connect(address).ok());
        let made = match opened {
            Some(fd) => self.servers.try_insert_with(|key| {
                Ok(Server {
                    stream: Stream::new(&context.epoll, fd, Kind::Server, key, true)?,
                    stage: ServerStage::Connecting,
                    side: ServerSide::default(),
                    pool: id,
                    route: route.clone(),
                    client: None,
                    login: None,
                    parameters: vec![],
                    process: 0,
                    secret: vec![],
                    cancels: 0,
                    since: context.now,
                    born: context.now,
                    ready_at: context.now,
                    begun_at: context.now,
                    asked_at: context.now,
                    is_condemned: false,
                    timeline: 0,
                    replayed: None,
                    lacked_at: None,
                    locates: None,
                })
            }),
            None => Err(std::io::Error::other("no address of the member can be connected to")),
        };
        let pool = self.pools.get_mut(id);
        match made {
            Ok(_) => pool.opened(&route.member),
            Err(error) => {
                pool.put_off(context.now, format!("member \"{}\": {error}", route.member));
                self.give_place(context, id);
            }
        }
        true
    }

    pub(super) fn finish_connecting(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        let Some(server) = self.servers.get_mut(key) else { return };
        if !readiness.writable {
            return;
        }
        if let Err(error) = server.stream.connected(&context.epoll) {
            return self.lose_server(context, key, &error.to_string());
        }
        if context.settings.pooler.tls.servers.is_some() {
            server.stage = ServerStage::Asking;
            if server.stream.write(&context.epoll, &ssl_request()).is_err() {
                return self.lose_server(context, key, "the connection was closed");
            }
            return self.server_ready(context, key);
        }
        self.introduce_pool(context, key);
    }

    /// A server has gone, or never came. Who had it loses its transaction.
    pub(super) fn lose_server(&mut self, context: &mut Context, key: Key, why: &str) {
        let Some(server) = self.servers.get(key) else { return };
        let (id, client, member) = (server.pool, server.client, server.route.member.clone());
        let was_coming = server.is_coming();
        let is_new = matches!(
            server.stage,
            ServerStage::Connecting | ServerStage::Asking | ServerStage::LoggingIn | ServerStage::Checking
        );
        if is_new && self.pools.get(id).target != Target::Primary {
            context.ban(&member);
        }
        self.remove_server(context, key);
        if was_coming {
            self.pools.get_mut(id).put_off(context.now, format!("member \"{member}\": {why}"));
        }
        if let Some(client) = client {
            self.orphan(context, client, &member);
        }
        self.serve(context, id);
    }

    pub(super) fn remove_server(&mut self, context: &mut Context, key: Key) {
        let Some(mut server) = self.servers.remove(key) else { return };
        if !server.stream.is_blocked() && !server.is_coming() {
            // Without a good-bye it would complain in its log.
            let _ = server.stream.write(&context.epoll, b"X\0\0\0\x04");
        }
        let pool = self.pools.get_mut(server.pool);
        pool.closed(&server.route.member);
        if server.is_coming() {
            pool.coming -= 1;
        }
        pool.idle.retain(|idle| *idle != key);
        self.give_place(context, server.pool);
    }
}

impl super::pool::Pool {
    /// Not at once again.
    pub(super) fn put_off(&mut self, now: Timestamp, why: String) {
        self.failures += 1;
        self.totals.server_failures += 1;
        let wait = 10_u64 << self.failures.min(6);
        self.retry_at = now + std::time::Duration::from_millis(wait.min(500));
        self.last_error = Some(why);
    }
}
