//! One client and its member: a state machine whose inputs are readiness and the clock.

mod opening;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use bellwether_types::Timestamp;

use super::{
    LEAVING_MS, due,
    pump::{Pumped, pump},
};
use crate::{
    refusal::Refusal,
    routes::{Route, Routes},
    settings::Limits,
    worker::{
        context::{Context, Listener},
        epoll::{Key, Kind, Readiness},
        stream::{Read, Stream},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client has not said what it wants.
    Greeting,
    /// It wants something that no member can give at present.
    Waiting,
    Connecting,
    /// The server was asked whether it encrypts.
    Asking,
    /// The server reports what it is.
    Starting,
    Open,
    /// Told why it cannot stay.
    Leaving,
}

/// What the table has to do.
#[derive(Debug)]
pub(super) enum Step {
    Wait,
    /// There is more to do, but others come first.
    Again,
    Close,
    Cancel {
        process: u32,
        secret: Vec<u8>,
    },
}

#[derive(Debug)]
pub(crate) struct Passage {
    pub(super) listener: Arc<Listener>,
    pub(super) stage: Stage,
    pub(super) route: Option<Arc<Route>>,
    key: Key,
    client: Option<Stream>,
    server: Option<Stream>,
    /// What the client said first and no server has seen; while `Starting`, an incomplete message of the server.
    held: Vec<u8>,
    /// The client has sent a request to encrypt, and awaits one byte.
    awaits_byte: bool,
    /// Its bytes can be read by us.
    plain: bool,
    /// Bytes from the server ended with a whole message: another may follow.
    at_boundary: bool,
    /// Nothing of the client is under way, as far as its bytes can be read.
    is_idle: bool,
    /// When the stage began.
    since: Timestamp,
    /// When the client began to look for a member.
    asked: Option<Timestamp>,
    tried: Option<Timestamp>,
    /// The attempt to connect has ended, one way or the other.
    answered: bool,
    attempt: usize,
    moved: Timestamp,
    drain_by: Option<Timestamp>,
    /// Its member is to be left as soon as nothing is under way.
    leaves_idle: bool,
    cancel_key: Option<(u32, Box<[u8]>)>,
    refusal: Option<Refusal>,
}

impl Passage {
    pub(super) fn new(context: &mut Context, listener: Arc<Listener>, fd: OwnedFd, key: Key) -> Self {
        let client = Stream::new(&context.epoll, fd, Kind::PassageClient, key, false).ok();
        Self {
            listener,
            stage: Stage::Greeting,
            route: None,
            key,
            client,
            server: None,
            held: Vec::new(),
            awaits_byte: false,
            plain: true,
            at_boundary: true,
            is_idle: false,
            since: context.now,
            asked: None,
            tried: None,
            answered: false,
            attempt: 0,
            moved: context.now,
            drain_by: None,
            leaves_idle: false,
            cancel_key: None,
            refusal: None,
        }
    }

    pub(super) fn note(&mut self, kind: Kind, readiness: Readiness) {
        let side = if kind == Kind::PassageClient { &mut self.client } else { &mut self.server };
        if let Some(stream) = side {
            stream.note(readiness);
        }
        self.answered |= kind == Kind::PassageServer && readiness.writable;
    }

    /// Whether a clock ends the stage.
    pub(super) fn is_transient(&self) -> bool {
        self.stage != Stage::Open || self.drain_by.is_some()
    }

    fn enter(&mut self, stage: Stage, now: Timestamp) {
        if self.stage != stage {
            if self.stage == Stage::Waiting {
                self.listener.counts.waiting.sub(1);
            }
            if stage == Stage::Waiting {
                self.listener.counts.waiting.add(1);
            }
            (self.stage, self.since) = (stage, now);
        }
    }

    pub(super) fn advance(&mut self, context: &mut Context) -> Step {
        if self.client.is_none() {
            return Step::Close;
        }
        loop {
            let before = self.stage;
            let step = match self.stage {
                Stage::Greeting => self.greet(context),
                Stage::Waiting => self.find_member(context),
                Stage::Connecting => self.finish_connecting(context),
                Stage::Asking => self.hear_answer(context),
                Stage::Starting => self.watch_start(context),
                Stage::Open => return self.carry(context),
                Stage::Leaving => return self.leave(context),
            };
            match step {
                Step::Wait if self.stage != before => {}
                step => return step,
            }
        }
    }

    /// Both directions, untouched.
    fn carry(&mut self, context: &mut Context) -> Step {
        let up = self.carry_up(context);
        if matches!(up, Step::Close) {
            return Step::Close;
        }
        let (Some(server), Some(client)) = (&mut self.server, &mut self.client) else { return Step::Close };
        match pump(context, server, client) {
            Pumped::Moved { bytes, boundary, more } => {
                if bytes > 0 {
                    self.listener.counts.sent.add(bytes);
                    self.at_boundary = boundary.is_some();
                    self.is_idle = self.plain && boundary == Some(b'I');
                    self.moved = context.now;
                }
                if more { Step::Again } else { up }
            }
            Pumped::Ended => {
                self.server = None;
                self.enter(Stage::Leaving, context.now);
                self.leave(context)
            }
            Pumped::Broken => Step::Close,
        }
    }

    fn carry_up(&mut self, context: &mut Context) -> Step {
        let (Some(server), Some(client)) = (&mut self.server, &mut self.client) else { return Step::Close };
        match pump(context, client, server) {
            Pumped::Moved { bytes, more, .. } => {
                if bytes > 0 {
                    self.listener.counts.received.add(bytes);
                    self.is_idle = false;
                    self.moved = context.now;
                }
                if more { Step::Again } else { Step::Wait }
            }
            Pumped::Ended => {
                // The server sees the end, says its last words and closes.
                server.finish();
                Step::Wait
            }
            Pumped::Broken => Step::Close,
        }
    }

    /// Waits until the client has heard the last words.
    fn leave(&mut self, context: &mut Context) -> Step {
        let Some(client) = &mut self.client else { return Step::Close };
        match client.flush(&context.epoll) {
            Ok(true) => client.finish(),
            Ok(false) => return Step::Wait,
            Err(_) => return Step::Close,
        }
        while client.readable {
            match client.read(&mut context.buffer) {
                Ok(Read::Bytes(_)) => {}
                Ok(Read::Nothing) => return Step::Wait,
                Ok(Read::End) | Err(_) => return Step::Close,
            }
        }
        Step::Wait
    }

    /// Ends the session, and says why where the protocol allows it.
    pub(super) fn end(&mut self, context: &mut Context, refusal: &Refusal) {
        if self.stage == Stage::Leaving {
            return;
        }
        self.server = None;
        let Some(client) = &mut self.client else { return };
        let early =
            matches!(self.stage, Stage::Greeting | Stage::Waiting | Stage::Connecting | Stage::Asking);
        if early && self.awaits_byte && !matches!(refusal, Refusal::Stopping | Refusal::Protocol { .. }) {
            // Errors in place of the byte are not believed by newer clients: it is told in the open.
            self.awaits_byte = false;
            self.held.clear();
            self.refusal = Some(refusal.clone());
            let _ = client.write(&context.epoll, b"N");
            self.enter(Stage::Greeting, context.now);
            return;
        }
        self.listener.counts.refused(refusal.label());
        if self.plain && (early || self.at_boundary) {
            let mut last = Vec::new();
            refusal.write(&mut last);
            let _ = client.write(&context.epoll, &last);
        }
        self.enter(Stage::Leaving, context.now);
    }

    /// Whether its member serves it no longer, or does so again.
    pub(super) fn is_out_of_place(&self, routes: &Routes, now: Timestamp) -> bool {
        let Some(route) = &self.route else { return false };
        self.server.is_some()
            && routes.allows(self.listener.target, &route.member, now) == self.drain_by.is_some()
    }

    /// Ends the session if its member serves it no longer.
    pub(super) fn enforce(&mut self, context: &mut Context) {
        let Some(route) = &self.route else { return };
        let target = self.listener.target;
        if context.routes.allows(target, &route.member, context.now) {
            (self.drain_by, self.leaves_idle) = (None, false);
            return;
        }
        let member = route.member.clone();
        if matches!(self.stage, Stage::Connecting) {
            // It has seen nothing of that member yet.
            self.server = None;
            self.tried = None;
            self.enter(Stage::Waiting, context.now);
        } else if target == crate::routes::Target::Primary {
            self.listener.counts.cut.add(1);
            self.end(context, &Refusal::Cut { member, target });
        } else if self.drain_by.is_none() {
            self.drain_by = Some(context.now + context.settings.limits.drain_timeout);
            self.leaves_idle = context.routes.sends_away(target, &route.member);
        }
    }

    /// Whether a clock has something to say.
    pub(super) fn is_due(&self, now: Timestamp, limits: &Limits) -> bool {
        let idle = !limits.idle_timeout.is_zero() && due(self.moved, now, limits.idle_timeout);
        match self.stage {
            Stage::Greeting => due(self.since, now, limits.greeting_timeout),
            Stage::Waiting => true,
            Stage::Connecting => due(self.since, now, limits.connect_timeout),
            Stage::Leaving => due(self.since, now, Duration::from_millis(LEAVING_MS)),
            Stage::Asking | Stage::Starting => due(self.since, now, limits.greeting_timeout),
            Stage::Open => {
                idle || self.drain_by.is_some_and(|by| by <= now) || (self.leaves_idle && self.is_idle)
            }
        }
    }

    /// Does what the clock asks for.
    pub(super) fn expire(&mut self, context: &mut Context) {
        match self.stage {
            Stage::Connecting => {
                self.server = None;
                self.tried = Some(context.now);
                self.enter(Stage::Waiting, context.now);
            }
            Stage::Waiting => {
                let asked = self.asked.unwrap_or(self.since);
                if due(asked, context.now, context.settings.limits.queue_timeout) {
                    let refusal = self.why_waiting(context, context.now.since(asked));
                    self.end(context, &refusal);
                }
            }
            Stage::Open if self.drain_by.is_some() => {
                if let Some(route) = &self.route {
                    let refusal = Refusal::Cut { member: route.member.clone(), target: self.listener.target };
                    self.listener.counts.cut.add(1);
                    self.end(context, &refusal);
                }
            }
            _ => {
                self.client = None;
                self.server = None;
            }
        }
    }

    fn why_waiting(&self, context: &Context, waited: Duration) -> Refusal {
        let target = self.listener.target;
        match (&self.route, target) {
            (Some(route), _) if context.routes.allows(target, &route.member, context.now) => {
                Refusal::NotReached { member: route.member.clone(), waited }
            }
            (_, crate::routes::Target::Primary) => {
                let why = context.routes.primary_at(context.now).err().unwrap_or(context.routes.no_primary);
                Refusal::NoPrimary { why, waited }
            }
            _ => Refusal::NoReplica { target, waited },
        }
    }

    /// The member that gave out this key to cancel.
    pub(super) fn holder_of(&self, process: u32, secret: &[u8]) -> Option<Arc<Route>> {
        let (known, known_secret) = self.cancel_key.as_ref()?;
        (*known == process && **known_secret == *secret).then(|| self.route.clone())?
    }

    /// The client's socket, for somebody who closes it when that is the answer.
    pub(super) fn take_client(&mut self, context: &Context) -> Option<Stream> {
        self.enter(Stage::Leaving, context.now);
        self.client.take()
    }

    /// What a member is told of the client before anything else: nothing, unless the listener says so.
    pub(super) fn header(&self) -> Vec<u8> {
        self.client.as_ref().filter(|_| self.listener.send_proxy).map(Stream::header).unwrap_or_default()
    }
}
