//! Requests to cancel on their way to servers.

use std::{mem, sync::Arc, time::Duration};

use bellwether_types::Timestamp;

use crate::{
    routes::Route,
    worker::{
        context::Context,
        epoll::{Key, Kind, Readiness},
        pooled::cancel::{Caller, Fate},
        slots::Slots,
        sockets,
        stream::{Read, Stream},
    },
};

const LIMIT: Duration = Duration::from_secs(5);

/// For whom a request is carried.
#[derive(Clone, Debug)]
pub(super) enum Sender {
    /// A client of a passage: its connection is closed with the last of those who carry the same request.
    Passage { _client: Option<Arc<Stream>> },
    /// A server of a pool, which nobody gets meanwhile.
    Pool { server: Key, _caller: Option<Arc<Caller>> },
}

/// One request, to one server.
#[derive(Debug)]
struct Courier {
    server: Stream,
    packet: Vec<u8>,
    since: Timestamp,
    sender: Sender,
}

#[derive(Debug, Default)]
pub(crate) struct Couriers {
    slots: Slots<Courier>,
    /// Servers of pools that a request is no longer on its way to.
    ended: Vec<(Key, Fate)>,
}

impl Couriers {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sends `packet` to a server of each route.
    pub(super) fn send(
        &mut self,
        context: &mut Context,
        routes: &[Arc<Route>],
        packet: &[u8],
        sender: &Sender,
    ) {
        for route in routes {
            let opened = route
                .addresses
                .iter()
                .find_map(|address| sockets::begin_connect(address).ok())
                .ok_or_else(|| std::io::Error::other("no address of the member can be connected to"));
            let sent = opened.and_then(|fd| {
                self.slots.try_insert_with(|key| {
                    let server = Stream::new(&context.epoll, fd, Kind::Courier, key, true)?;
                    Ok(Courier {
                        server,
                        packet: packet.to_vec(),
                        since: context.now,
                        sender: sender.clone(),
                    })
                })
            });
            if let Err(error) = sent {
                context.shared.metrics.cancels.dropped.add(1);
                tracing::warn!(
                    %error,
                    member = %route.member,
                    "a request to cancel could not be sent: cancel again; `bellwether list` shows the state of the member"
                );
                self.note_end(sender, Fate::Over);
            }
        }
    }

    pub(crate) fn event(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        let Some(courier) = self.slots.get_mut(key) else { return };
        courier.server.note(readiness);
        if !courier.advance(context) {
            self.end(key, Fate::Over);
        }
    }

    pub(crate) fn tick(&mut self, context: &Context) {
        let late: Vec<(Key, Fate)> = self
            .slots
            .iter()
            .filter(|(_, courier)| context.now.since(courier.since) > LIMIT)
            .map(|(key, courier)| (key, if courier.packet.is_empty() { Fate::Open } else { Fate::Over }))
            .collect();
        for (key, fate) in late {
            self.end(key, fate);
        }
    }

    pub(crate) fn take_ended(&mut self) -> Vec<(Key, Fate)> {
        mem::take(&mut self.ended)
    }

    fn end(&mut self, key: Key, fate: Fate) {
        if let Some(courier) = self.slots.remove(key) {
            self.note_end(&courier.sender, fate);
        }
    }

    fn note_end(&mut self, sender: &Sender, fate: Fate) {
        if let Sender::Pool { server, .. } = sender {
            self.ended.push((*server, fate));
        }
    }
}

impl Courier {
    /// Whether there is something left to do: the server closes when it has done what it was asked.
    fn advance(&mut self, context: &mut Context) -> bool {
        if !self.packet.is_empty() {
            let packet = mem::take(&mut self.packet);
            if self.server.connected(&context.epoll).is_err()
                || self.server.write(&context.epoll, &packet).is_err()
            {
                return false;
            }
        }
        while self.server.readable {
            match self.server.read(&mut context.buffer) {
                Ok(Read::Bytes(_)) => {}
                Ok(Read::Nothing) => return true,
                Ok(Read::End) | Err(_) => return false,
            }
        }
        true
    }
}
