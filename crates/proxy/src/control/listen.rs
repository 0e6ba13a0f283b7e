//! The sockets of the listeners: opened when they are wanted, closed when they are not, kept over a reload.

use std::{collections::BTreeMap, io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::{error, info};

use crate::{
    metrics::Metrics,
    settings::{ListenerSettings, Settings},
    worker::context::Listener,
};

const BACKLOG: i32 = 4096;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: BTreeMap<SocketAddr, Arc<OwnedFd>>,
    /// Why an address could not be bound, told once.
    failed: BTreeMap<SocketAddr, String>,
    in_force: Vec<(ListenerSettings, usize)>,
}

impl Listeners {
    /// Opens what is missing and closes what is not wanted; the listeners if something has changed.
    pub(super) fn bring_about(
        &mut self,
        settings: &Settings,
        metrics: &Metrics,
    ) -> Option<Vec<Arc<Listener>>> {
        let wanted: Vec<SocketAddr> =
            settings.listeners.iter().flat_map(|listener| listener.addresses.clone()).collect();
        self.open.retain(|address, _| wanted.contains(address));
        self.failed.retain(|address, _| wanted.contains(address));
        for listener in &settings.listeners {
            for address in &listener.addresses {
                self.open_one(listener, *address);
            }
        }
        let state: Vec<(ListenerSettings, usize)> = settings
            .listeners
            .iter()
            .map(|listener| (listener.clone(), self.sockets(listener).len()))
            .collect();
        if state == self.in_force {
            return None;
        }
        self.in_force = state;
        let listeners = settings.listeners.iter().map(|listener| {
            Arc::new(Listener {
                name: listener.name.clone(),
                target: listener.target,
                mode: listener.mode,
                split: listener.split.clone(),
                counts: metrics.listener(&listener.name),
                sockets: self.sockets(listener),
            })
        });
        Some(listeners.collect())
    }

    fn sockets(&self, listener: &ListenerSettings) -> Vec<Arc<OwnedFd>> {
        listener.addresses.iter().filter_map(|address| self.open.get(address).cloned()).collect()
    }

    fn open_one(&mut self, listener: &ListenerSettings, address: SocketAddr) {
        if self.open.contains_key(&address) {
            return;
        }
        match bind(address) {
            Ok(socket) => {
                info!(listener = &*listener.name, %address, target = %listener.target, "the proxy listens");
                self.failed.remove(&address);
                self.open.insert(address, Arc::new(socket));
            }
            Err(error) => {
                let why = error.to_string();
                if self.failed.get(&address) != Some(&why) {
                    error!(
                        listener = &*listener.name, %address, %error,
                        "the proxy cannot listen there, and tries again: another program may hold the port (`ss -ltnp`), or choose another one (`router.listeners`)"
                    );
                }
                self.failed.insert(address, why);
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    match address {
        // An address that may come to this host later (a virtual one) can be listened on already.
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
