//! From a client's first byte to the session: what it wants, a member that gives it, and what that says first.

use std::{mem, time::Duration};

use super::{Passage, Stage, Step};
use crate::{
    metrics::Counted,
    refusal::Refusal,
    worker::{
        context::Context,
        epoll::Kind,
        passages::{
            due,
            greeting::{Opening, Starting},
        },
        sockets,
        stream::{Read, Stream},
    },
};

/// How often a member that does not take connections is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Passage {
    /// Reads what the client wants.
    pub(super) fn greet(&mut self, context: &mut Context) -> Step {
        match self.read_client(context) {
            Some(Read::Bytes(_)) => {}
            Some(Read::Nothing) if self.held.is_empty() => return Step::Wait,
            Some(Read::Nothing) => {}
            // Health checks connect and go.
            Some(Read::End) | None => return Step::Close,
        }
        let Some(client) = &mut self.client else { return Step::Close };
        match client.introduce(&self.listener, &mut self.held) {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(refusal) => {
                tracing::info!(
                    listener = &*self.listener.name,
                    reason = refusal.sentence(),
                    "a client of the proxy was turned away"
                );
                self.end(context, &refusal);
                return Step::Wait;
            }
        }
        match Opening::of(&self.held) {
            Opening::Incomplete => Step::Wait,
            Opening::Encrypt => {
                self.awaits_byte = true;
                self.pass_on(context)
            }
            Opening::Handshake => {
                self.plain = false;
                self.pass_on(context)
            }
            Opening::Startup => {
                self.awaits_byte = false;
                self.pass_on(context)
            }
            Opening::Cancel { process, secret } => Step::Cancel { process, secret },
            Opening::Foreign(problem) => {
                self.end(context, &Refusal::Protocol { problem });
                Step::Wait
            }
        }
    }

    fn read_client(&mut self, context: &mut Context) -> Option<Read> {
        let client = self.client.as_mut()?;
        if !client.readable {
            return Some(Read::Nothing);
        }
        let read = client.read(&mut context.buffer).ok()?;
        if let Read::Bytes(count) = read {
            self.held.extend_from_slice(&context.buffer[..count]);
            self.moved = context.now;
            self.listener.counts.received.add(count as u64);
        }
        Some(read)
    }

    /// Gives what the client said to its server, or looks for one.
    fn pass_on(&mut self, context: &mut Context) -> Step {
        if let Some(refusal) = self.refusal.take() {
            self.end(context, &refusal);
            return Step::Wait;
        }
        if self.server.is_some() {
            return self.hand_over(context);
        }
        self.asked.get_or_insert(context.now);
        self.enter(Stage::Waiting, context.now);
        Step::Wait
    }

    pub(super) fn find_member(&mut self, context: &mut Context) -> Step {
        // A client that has gone must not take a server.
        if self.read_client(context).is_none_or(|read| read == Read::End) {
            self.enter(Stage::Leaving, context.now);
            return Step::Close;
        }
        if self.tried.is_some_and(|tried| !due(tried, context.now, RETRY)) {
            return Step::Wait;
        }
        let Some(route) = context.pick(self.listener.target, self.attempt) else {
            if self.listener.counts.waiting.get() > context.settings.limits.queue_max as u64 {
                let limit = context.settings.limits.queue_max;
                self.end(context, &Refusal::QueueFull { limit });
            }
            return Step::Wait;
        };
        self.attempt += 1;
        self.tried = Some(context.now);
        self.answered = false;
        let opened = route.addresses.iter().find_map(|address| sockets::begin_connect(address).ok());
        let server =
            opened.and_then(|fd| Stream::new(&context.epoll, fd, Kind::PassageServer, self.key, true).ok());
        self.route = Some(route);
        if let Some(server) = server {
            self.server = Some(server);
            self.enter(Stage::Connecting, context.now);
        }
        Step::Wait
    }

    pub(super) fn finish_connecting(&mut self, context: &mut Context) -> Step {
        if !self.answered {
            return Step::Wait;
        }
        let Some(server) = &mut self.server else { return Step::Close };
        if server.connected(&context.epoll).is_err() {
            self.server = None;
            self.tried = Some(context.now);
            self.enter(Stage::Waiting, context.now);
            return Step::Wait;
        }
        if let Some(route) = &self.route {
            server.counted = Some(Counted::begin(self.listener.counts.member(&route.member)));
        }
        if self.listener.send_proxy {
            let header = self.client.as_ref().map(Stream::header).unwrap_or_default();
            if server.write(&context.epoll, &header).is_err() {
                return Step::Close;
            }
        }
        if let Some(asked) = self.asked {
            context.shared.metrics.routed(context.now.since(asked));
        }
        self.hand_over(context)
    }

    /// The first packet goes to the server.
    fn hand_over(&mut self, context: &mut Context) -> Step {
        let Some(server) = &mut self.server else { return Step::Close };
        let packet = mem::take(&mut self.held);
        if server.write(&context.epoll, &packet).is_err() {
            return Step::Close;
        }
        let next = match (self.awaits_byte, self.plain) {
            (true, _) => Stage::Asking,
            (false, true) => Stage::Starting,
            (false, false) => Stage::Open,
        };
        self.enter(next, context.now);
        Step::Wait
    }

    /// The server's byte: whether it encrypts.
    pub(super) fn hear_answer(&mut self, context: &mut Context) -> Step {
        let (Some(server), Some(client)) = (&mut self.server, &mut self.client) else { return Step::Close };
        if !server.readable {
            return Step::Wait;
        }
        let read = server.read(&mut context.buffer[..1]);
        match read {
            Ok(Read::Bytes(_)) => {}
            Ok(Read::Nothing) => return Step::Wait,
            _ => return Step::Close,
        }
        let answer = context.buffer[0];
        if client.write(&context.epoll, &[answer]).is_err() {
            return Step::Close;
        }
        self.awaits_byte = false;
        match answer {
            b'N' => self.enter(Stage::Greeting, context.now),
            // Encrypted from here on, or an error of an old server, whose rest follows.
            _ => {
                self.plain = false;
                self.enter(Stage::Open, context.now);
            }
        }
        Step::Wait
    }

    /// Passes the server's reports on, and looks at them.
    pub(super) fn watch_start(&mut self, context: &mut Context) -> Step {
        let upward = self.carry_up(context);
        if !matches!(upward, Step::Wait) {
            return upward;
        }
        let (Some(server), Some(client)) = (&mut self.server, &mut self.client) else { return Step::Close };
        if client.is_blocked() && !client.flush(&context.epoll).unwrap_or(false) {
            return Step::Wait;
        }
        if !server.readable {
            return Step::Wait;
        }
        match server.read(&mut context.buffer) {
            Ok(Read::Bytes(count)) => self.held.extend_from_slice(&context.buffer[..count]),
            Ok(Read::Nothing) => return Step::Wait,
            Ok(Read::End) | Err(_) => {
                let _ = client.write(&context.epoll, &mem::take(&mut self.held));
                self.enter(Stage::Leaving, context.now);
                return Step::Wait;
            }
        }
        self.moved = context.now;
        let seen = Starting::of(&self.held);
        if seen.in_recovery && self.listener.target == crate::routes::Target::Primary {
            let member = self.route.as_ref().map(|route| route.member.clone());
            self.server = None;
            if let Some(member) = member {
                self.end(context, &Refusal::NotPrimary { member });
            }
            return Step::Wait;
        }
        if let Some((process, secret)) = seen.key {
            self.cancel_key = Some((process, secret.into()));
        }
        let passed = if seen.ready { self.held.len() } else { seen.whole };
        self.listener.counts.sent.add(passed as u64);
        if client.write(&context.epoll, &self.held[..passed]).is_err() {
            return Step::Close;
        }
        self.held.drain(..passed);
        if seen.ready {
            self.held = Vec::new();
            self.at_boundary = true;
            self.is_idle = self.plain;
            self.enter(Stage::Open, context.now);
        }
        if self.server.as_ref().is_some_and(|server| server.readable) { Step::Again } else { Step::Wait }
    }
}
