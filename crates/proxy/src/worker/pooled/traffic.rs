//! Bytes between clients and their servers.

use std::{mem, time::Duration};

use bellwether_pgwire::frame::Header;

use super::{Pooled, client::Stage, server::ServerStage};
use crate::{
    pooling::{
        down::down,
        gather::Gather,
        up::{Counted, End, Keeping, up},
    },
    refusal::Refusal,
    settings::Mode,
    worker::{
        context::Context,
        epoll::{Key, Kind},
        stream::Read,
    },
};

/// Reads for one connection before others have their turn.
const ROUNDS: usize = 8;

/// For a total.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Whether the bytes begin with a whole message that a server must see, or one that breaks the protocol.
fn begins_whole(bytes: &[u8]) -> bool {
    match Header::of(bytes) {
        Ok(Some(header)) => header.size <= bytes.len() && !is_copy(header.tag),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn is_copy(tag: u8) -> bool {
    matches!(tag, b'd' | b'c' | b'f')
}

/// Takes out what a client still sends after its COPY has failed; servers ignore it, too.
fn drop_stray_copy(input: &mut Vec<u8>) {
    let mut at = 0;
    while let Ok(Some(header)) = Header::of(&input[at..]) {
        if !is_copy(header.tag) || header.size > input.len() - at {
            break;
        }
        at += header.size;
    }
    input.drain(..at);
}

impl Pooled {
    /// From a client to its server, which it is given first if it has none.
    pub(super) fn carry_up(&mut self, context: &mut Context, key: Key) {
        for _ in 0..ROUNDS {
            let Some(client) = self.clients.get_mut(key) else { return };
            let mut fresh = 0;
            if !matches!(client.stage, Stage::Ready | Stage::Attached) {
                return;
            }
            // A replica reads for it; what it says meanwhile may be a write.
            if client.side.is_busy && client.split.as_ref().is_some_and(|split| split.holds) {
                return;
            }
            let has_kept = !client.side.input.is_empty() && client.has_work;
            if !has_kept {
                if !client.stream.readable || self.is_server_blocked(key) {
                    return;
                }
                let Some(client) = self.clients.get_mut(key) else { return };
                match client.stream.read(&mut context.buffer) {
                    Ok(Read::Bytes(count)) => fresh = count,
                    Ok(Read::Nothing) => return,
                    Ok(Read::End) | Err(_) => return self.close_client(context, key),
                }
                client.listener.counts.received.add(fresh as u64);
            }
            if !self.pass_up(context, key, fresh) {
                return;
            }
        }
        context.again(Kind::Client, key);
    }

    fn is_server_blocked(&self, client: Key) -> bool {
        let server = self.clients.get(client).and_then(|client| client.server);
        server.and_then(|server| self.servers.get(server)).is_some_and(|server| server.stream.is_blocked())
    }

    /// Passes on what is in the buffer after what was kept. Whether there may be more to do.
    fn pass_up(&mut self, context: &mut Context, key: Key, fresh: usize) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if client.server.is_none() {
            let Some(id) = client.pool else { return false };
            // A good-bye needs no server, and half a header not yet.
            let first = client.side.input.first().copied().unwrap_or(context.buffer[0]);
            if first == b'X' {
                self.close_client(context, key);
                return false;
            }
            let is_at_hand = client.side.input.is_empty() && begins_whole(&context.buffer[..fresh]);
            if !is_at_hand {
                let input = &mut client.side.input;
                input.extend_from_slice(&context.buffer[..fresh]);
                drop_stray_copy(input);
                // Half a message must not hold a server.
                client.has_work = begins_whole(input);
                if !client.has_work {
                    return true;
                }
                let Some(id) = self.pool_for(context, key, 0, id) else { return true };
                // Goes on by itself once there is a server.
                self.acquire(context, key, id);
                return false;
            }
            client.has_work = true;
            let Some(id) = self.pool_for(context, key, fresh, id) else { return true };
            self.acquire(context, key, id);
            let Some(client) = self.clients.get_mut(key) else { return false };
            if client.stage != Stage::Attached {
                client.side.input.extend_from_slice(&context.buffer[..fresh]);
                return false;
            }
        }
        if let Some(client) = self.clients.get_mut(key)
            && client.side.is_busy
            && let Some(split) = client.split.as_mut()
        {
            // More than what was looked at.
            split.writes |= client.pool == Some(split.primary);
        }
        self.forward(context, key, fresh)
    }

    fn forward(&mut self, context: &mut Context, key: Key, fresh: usize) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(server_key) = client.server else { return false };
        let Some(server) = self.servers.get_mut(server_key) else { return false };
        if server.side.has_answered_all() {
            server.asked_at = context.now;
            if server.side.status == b'I' {
                server.begun_at = context.now;
            }
        }
        let kept = mem::take(&mut client.side.input);
        let mut joined = kept;
        let bytes = if joined.is_empty() {
            &context.buffer[..fresh]
        } else {
            joined.extend_from_slice(&context.buffer[..fresh]);
            &joined[..]
        };
        self.registry.renew(context.shared.redefinitions.get());
        let mut out = Gather::new(bytes, &mut self.scratch);
        self.to_client.clear();
        let limit = context.settings.pooler.max_prepared_statements;
        let mut keeping = Keeping { registry: &mut self.registry, limit, counted: Counted::default() };
        let done = up(&mut client.side, &mut server.side, &mut keeping, bytes, &mut out, &mut self.to_client);
        let totals = &mut self.pools.get_mut(server.pool).totals;
        totals.received_bytes += done.taken as u64;
        totals.client_parses += keeping.counted.client_parses;
        totals.server_parses += keeping.counted.server_parses;
        totals.binds += keeping.counted.binds;
        let output = out.finish();
        let mut failed = !output.is_empty() && server.stream.write(&context.epoll, output).is_err();
        let rest = &bytes[done.taken..];
        client.has_work = false;
        if !rest.is_empty() {
            client.side.input = if done.taken == 0 && !joined.is_empty() { joined } else { rest.to_vec() };
        }
        if !self.to_client.is_empty() {
            failed |= client.stream.write(&context.epoll, &self.to_client).is_err();
        }
        match done.end {
            End::More => {
                if failed {
                    // What it says last, if anything, tells more than the failure to write.
                    self.server_ready(context, server_key);
                    return false;
                }
                true
            }
            End::Terminate => {
                self.close_client(context, key);
                false
            }
            End::Violation(problem) => {
                self.refuse(context, key, &Refusal::Protocol { problem });
                false
            }
        }
    }

    /// The server may have something to say.
    pub(super) fn server_ready(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get(key) else { return };
        match server.stage {
            ServerStage::Connecting => {}
            ServerStage::Asking => self.hear_whether(context, key),
            ServerStage::LoggingIn => self.log_in(context, key),
            _ => self.carry_down(context, key),
        }
    }

    /// After a change of the stage.
    pub(super) fn server_ready_in_stage(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get(key) else { return };
        if server.stage != ServerStage::LoggingIn && (server.stream.readable || !server.side.input.is_empty())
        {
            self.carry_down(context, key);
        }
    }

    /// From a server to the client that has it.
    fn carry_down(&mut self, context: &mut Context, key: Key) {
        for _ in 0..ROUNDS {
            let Some(server) = self.servers.get_mut(key) else { return };
            let client_key = server.client;
            if let Some(client) = client_key.and_then(|client| self.clients.get(client))
                && client.stream.is_blocked()
            {
                return;
            }
            if !server.stream.readable {
                return;
            }
            let count = match server.stream.read(&mut context.buffer) {
                Ok(Read::Bytes(count)) => count,
                Ok(Read::Nothing) => return,
                Ok(Read::End) => return self.lose_server(context, key, "the server closed the connection"),
                Err(error) => return self.lose_server(context, key, &error.to_string()),
            };
            if !self.pass_down(context, key, client_key, count) {
                return;
            }
        }
        context.again(Kind::Server, key);
    }

    /// Whether there may be more to do.
    fn pass_down(&mut self, context: &mut Context, key: Key, client_key: Option<Key>, count: usize) -> bool {
        let Some(server) = self.servers.get_mut(key) else { return false };
        let mut joined = mem::take(&mut server.side.input);
        let bytes = if joined.is_empty() {
            &context.buffer[..count]
        } else {
            joined.extend_from_slice(&context.buffer[..count]);
            &joined[..]
        };
        let mut client = client_key.and_then(|client| self.clients.get_mut(client));
        let mut out = Gather::new(bytes, &mut self.scratch);
        let done =
            down(&mut server.side, client.as_deref_mut().map(|client| &mut client.side), bytes, &mut out);
        if done.finished > 0 {
            if server.stage == ServerStage::Busy {
                let totals = &mut self.pools.get_mut(server.pool).totals;
                totals.queries += u64::from(done.finished);
                totals.query_micros += micros(context.now.since(server.asked_at));
            }
            server.asked_at = context.now;
        }
        for id in server.side.stale.drain(..) {
            self.registry.retire(id);
        }
        if mem::take(&mut server.side.redefined) {
            context.shared.redefinitions.add(1);
        }
        let output = if done.for_primary { &[] } else { out.finish() };
        let mut client_failed = false;
        if let Some(client) = &mut client
            && !output.is_empty()
        {
            client.listener.counts.sent.add(output.len() as u64);
            self.pools.get_mut(server.pool).totals.sent_bytes += output.len() as u64;
            client_failed = client.stream.write(&context.epoll, output).is_err();
            client.told |= server.side.is_ending;
        }
        let rest = &bytes[done.taken..];
        if !rest.is_empty() && !done.repeatable {
            server.side.input = if done.taken == 0 && !joined.is_empty() { joined } else { rest.to_vec() };
        }
        if done.broken {
            self.lose_server(context, key, "what it sends is not PostgreSQL's protocol");
            return false;
        }
        if done.repeatable {
            self.repeat(context, key, client_key);
            return false;
        }
        if done.for_primary {
            if let Some(client) = client_key {
                if done.no_read {
                    self.remember_refusal(client);
                }
                self.on_to_primary(context, key, client);
            }
            return false;
        }
        if client_failed && let Some(client) = client_key {
            self.close_client(context, client);
            return false;
        }
        if done.finished == 0 || !server.side.is_at_rest() {
            return self.statement_mode_holds(context, key, done.finished);
        }
        self.cycle_ended(context, key, client_key)
    }

    /// In mode `statement` no transaction outlives its statement.
    fn statement_mode_holds(&mut self, context: &mut Context, key: Key, finished: u32) -> bool {
        let Some(server) = self.servers.get(key) else { return false };
        if finished > 0
            && server.side.status != b'I'
            && self.pools.get(server.pool).mode == Mode::Statement
            && let Some(client) = server.client
        {
            self.refuse(context, client, &Refusal::NoTransactions);
            return false;
        }
        true
    }

    /// The server has answered all that it was asked, outside of a transaction.
    fn cycle_ended(&mut self, context: &mut Context, key: Key, client_key: Option<Key>) -> bool {
        let Some(server) = self.servers.get_mut(key) else { return false };
        match server.stage {
            ServerStage::Checking => self.judge(context, key),
            ServerStage::Syncing => self.synced(context, key),
            ServerStage::Resetting => self.was_reset(context, key),
            ServerStage::Locating => self.located(context, key),
            ServerStage::Busy => {
                let pool = self.pools.get_mut(server.pool);
                pool.totals.transactions += 1;
                pool.totals.transaction_micros += micros(context.now.since(server.begun_at));
                let mode = pool.mode;
                let Some(client) = client_key.and_then(|client| self.clients.get_mut(client)) else {
                    return false;
                };
                client.side.at_rest();
                if self.stopping
                    && let Some(client) = client_key
                {
                    self.refuse(context, client, &Refusal::Stopping);
                    return false;
                }
                let keeps = mode == Mode::Session || client.side.pin.is_some() || client.side.streaming > 0;
                if let Some(split) = client.split.as_mut() {
                    split.holds = false;
                }
                if !keeps
                    && let Some(client_key) = client_key
                    && !self.locate(context, client_key, key)
                {
                    self.release(context, client_key, key);
                }
            }
            ServerStage::Idle
            | ServerStage::BeingCancelled
            | ServerStage::Connecting
            | ServerStage::Asking
            | ServerStage::LoggingIn => {}
        }
        self.servers.get(key).is_some_and(|server| server.stream.readable)
    }

    /// The server was shut down before it did anything for the client: another one will.
    fn repeat(&mut self, context: &mut Context, key: Key, client_key: Option<Key>) {
        if let Some(client) = client_key.and_then(|client| self.clients.get_mut(client)) {
            let mut input = client.side.take_repeat();
            input.extend_from_slice(&client.side.input);
            client.side.input = input;
            client.side.at_rest();
            client.has_work = true;
            client.server = None;
            client.listener.counts.repeated.add(1);
        }
        let Some(server) = self.servers.get_mut(key) else { return };
        server.client = None;
        let id = server.pool;
        self.remove_server(context, key);
        if let Some(client) = client_key {
            self.wait_again(context, client);
        }
        self.serve(context, id);
    }
}
