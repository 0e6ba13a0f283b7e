//! Requests to cancel on their way to servers.

use std::{sync::Arc, time::Duration};

use bellwether_types::Timestamp;

use crate::{
    routes::Route,
    worker::{
        context::Context,
        epoll::{Key, Kind, Readiness},
        slots::Slots,
        sockets,
        stream::{Read, Stream},
    },
};

const LIMIT: Duration = Duration::from_secs(5);

/// One request, to one server.
#[derive(Debug)]
struct Courier {
    server: Stream,
    packet: Vec<u8>,
    since: Timestamp,
    /// Closed with the last of those who carry the same request.
    _client: Option<Arc<Stream>>,
}

#[derive(Debug, Default)]
pub(crate) struct Couriers {
    slots: Slots<Courier>,
}

impl Couriers {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sends `packet` to a server of each route.
    pub(crate) fn send(
        &mut self,
        context: &mut Context,
        routes: &[Arc<Route>],
        packet: &[u8],
        client: Option<Stream>,
    ) {
        let client = client.map(Arc::new);
        for route in routes {
            let opened = route.addresses.iter().find_map(|address| sockets::begin_connect(address).ok());
            let Some(fd) = opened else { continue };
            let sent = self.slots.try_insert_with(|key| {
                let server = Stream::new(&context.epoll, fd, Kind::Courier, key, true)?;
                Ok(Courier { server, packet: packet.to_vec(), since: context.now, _client: client.clone() })
            });
            if let Err(error) = sent {
                tracing::debug!(%error, member = %route.member, "a request to cancel could not be sent");
            }
        }
    }

    pub(crate) fn event(&mut self, context: &mut Context, key: Key, readiness: Readiness) {
        let Some(courier) = self.slots.get_mut(key) else { return };
        courier.server.note(readiness);
        if !courier.advance(context) {
            self.slots.remove(key);
        }
    }

    pub(crate) fn tick(&mut self, context: &Context) {
        let late: Vec<Key> = self
            .slots
            .iter()
            .filter(|(_, courier)| context.now.since(courier.since) > LIMIT)
            .map(|(key, _)| key)
            .collect();
        for key in late {
            self.slots.remove(key);
        }
    }
}

impl Courier {
    /// Whether there is something left to do: the server closes when it has done what it was asked.
    fn advance(&mut self, context: &mut Context) -> bool {
        if !self.packet.is_empty() {
            let packet = std::mem::take(&mut self.packet);
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
