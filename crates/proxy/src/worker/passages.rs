//! Clients in mode `tcp`: a connection of their own to a member, whose bytes pass through.
//!
//! Only the first packets are read: to find out who wants to cancel what, to let a client wait for a primary, and to see
//! whether the server is what it is taken for.

mod couriers;
mod greeting;
mod passage;
mod pump;

use std::{os::fd::OwnedFd, sync::Arc};

use bellwether_types::Timestamp;

pub(crate) use self::couriers::Couriers;
use self::couriers::Sender;
use self::passage::{Passage, Stage, Step};
use super::{
    context::{Context, Listener},
    epoll::{Key, Kind, Readiness},
    pooled::cancel::{Cancel, Fate},
    slots::Slots,
};
use crate::refusal::Refusal;

/// All passages of a worker.
#[derive(Debug, Default)]
pub(crate) struct Passages {
    slots: Slots<Passage>,
    couriers: Couriers,
    /// How many are in a stage that a clock ends.
    transient: usize,
}

impl Passages {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() + self.couriers.len()
    }

    /// Whether somebody waits for a clock.
    pub(crate) fn is_restless(&self) -> bool {
        self.transient > 0 || self.couriers.len() > 0
    }

    /// Takes a client that has just connected.
    pub(crate) fn accept(&mut self, context: &mut Context, listener: &Arc<Listener>, fd: OwnedFd) {
        let key = self.slots.insert_with(|key| Passage::new(context, listener.clone(), fd, key));
        self.transient += 1;
        listener.counts.connections.add(1);
        // What it has sent meanwhile is told by the kernel.
        self.advance(context, key);
    }

    pub(crate) fn event(&mut self, context: &mut Context, kind: Kind, key: Key, readiness: Readiness) {
        let Some(passage) = self.slots.get_mut(key) else { return };
        passage.note(kind, readiness);
        self.advance(context, key);
    }

    /// Does what can be done at present.
    pub(crate) fn advance(&mut self, context: &mut Context, key: Key) {
        let Some(passage) = self.slots.get_mut(key) else { return };
        let was_transient = passage.is_transient();
        let step = passage.advance(context);
        let is_transient = passage.is_transient();
        self.transient = self.transient + usize::from(is_transient) - usize::from(was_transient);
        match step {
            Step::Wait => {}
            Step::Again => context.again(Kind::PassageClient, key),
            Step::Close => self.close(context, key),
            Step::Cancel { process, secret } => self.cancel(context, key, process, &secret),
        }
    }

    fn close(&mut self, context: &mut Context, key: Key) {
        let Some(passage) = self.slots.remove(key) else { return };
        self.transient -= usize::from(passage.is_transient());
        passage.listener.counts.connections.sub(1);
        context.shared.metrics.clients.sub(1);
    }

    /// Sends a request to cancel to the member whose server gave out the key, else to all that the listener may lead to:
    /// servers ignore keys that are not theirs.
    fn cancel(&mut self, context: &mut Context, key: Key, process: u32, secret: &[u8]) {
        let holder = self.slots.iter().find_map(|(_, passage)| passage.holder_of(process, secret));
        let Some(passage) = self.slots.get_mut(key) else { return };
        let routes = match holder {
            Some(route) => vec![route],
            None => context.routes.candidates(passage.listener.target, context.now).to_vec(),
        };
        let request = bellwether_pgwire::startup::cancel_request(process, secret);
        let mut packet = passage.header();
        packet.extend(request);
        // The client takes the end of its connection for the answer.
        let client = passage.take_client(context);
        self.couriers.send(context, &routes, &packet, &Sender::Passage { _client: client.map(Arc::new) });
        self.advance(context, key);
    }

    /// Sends a request to cancel to a server of a pool.
    pub(crate) fn carry(&mut self, context: &mut Context, cancel: Cancel) {
        let Cancel { route, packet, server, caller } = cancel;
        self.couriers.send(context, &[route], &packet, &Sender::Pool { server, _caller: caller });
    }

    /// The servers of pools that requests are no longer on their way to.
    pub(crate) fn take_ended_cancels(&mut self) -> Vec<(Key, Fate)> {
        self.couriers.take_ended()
    }

    pub(crate) fn courier_event(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        self.couriers.event(context, key, readiness);
    }

    /// Ends the sessions that may not go on under the routes of now.
    pub(crate) fn enforce(&mut self, context: &mut Context) {
        let (routes, now) = (context.routes.clone(), context.now);
        for key in self.keys_of(|passage| passage.is_out_of_place(&routes, now)) {
            self.change(context, key, Passage::enforce);
        }
    }

    /// Looks for members for those who wait.
    pub(crate) fn serve_waiting(&mut self, context: &mut Context) {
        for key in self.keys_of(|passage| passage.stage == Stage::Waiting) {
            self.advance(context, key);
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, context: &mut Context) {
        self.couriers.tick(context);
        let now = context.now;
        let limits = context.settings.limits.clone();
        for key in self.keys_of(|passage| passage.is_due(now, &limits)) {
            self.change(context, key, Passage::expire);
        }
    }

    /// Ends everybody, as gently as the protocol allows.
    pub(crate) fn stop(&mut self, context: &mut Context) {
        for key in self.keys_of(|_| true) {
            self.change(context, key, |passage, context| passage.end(context, &Refusal::Stopping));
        }
    }

    /// Changes a passage from outside of its own steps, and lets it go on from there.
    fn change(&mut self, context: &mut Context, key: Key, change: impl FnOnce(&mut Passage, &mut Context)) {
        let Some(passage) = self.slots.get_mut(key) else { return };
        let was_transient = passage.is_transient();
        change(passage, context);
        self.transient = self.transient + usize::from(passage.is_transient()) - usize::from(was_transient);
        self.advance(context, key);
    }

    fn keys_of(&self, wanted: impl Fn(&Passage) -> bool) -> Vec<Key> {
        self.slots.iter().filter(|(_, passage)| wanted(passage)).map(|(key, _)| key).collect()
    }
}

/// How long a member that is told of a refusal has to go.
const LEAVING_MS: u64 = 2_000;

fn due(since: Timestamp, now: Timestamp, limit: std::time::Duration) -> bool {
    now.since(since) >= limit
}
