//! The sockets of the listeners: opened when they are wanted, closed when they are not, kept over a reload.

mod unix;

use std::{collections::BTreeMap, fmt, io, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::{error, info};

use self::unix::UnixListener;
use crate::{
    metrics::Metrics,
    settings::{ListenerSettings, Settings, UnixSocket},
    worker::context::Listener,
};

const BACKLOG: i32 = 4096;

/// Where clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
enum Open {
    Tcp(Arc<OwnedFd>),
    /// With what was asked for: other permissions are another socket.
    Unix(UnixSocket, UnixListener),
}

#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: BTreeMap<Place, Open>,
    /// Why a place could not be listened on, told once.
    failed: BTreeMap<Place, String>,
    in_force: Vec<(ListenerSettings, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Listeners {
    /// Opens what is missing and closes what is not wanted; the listeners if something has changed.
    pub(super) fn bring_about(
        &mut self,
        settings: &Settings,
        metrics: &Metrics,
    ) -> Option<Vec<Arc<Listener>>> {
        let wanted: Vec<Place> = settings.listeners.iter().flat_map(places).collect();
        let sockets: Vec<&UnixSocket> =
            settings.listeners.iter().filter_map(|listener| listener.front.unix_socket.as_ref()).collect();
        self.open.retain(|place, open| match open {
            Open::Tcp(_) => wanted.contains(place),
            Open::Unix(with, _) => sockets.contains(&&*with),
        });
        self.failed.retain(|place, _| wanted.contains(place));
        for listener in &settings.listeners {
            for place in places(listener) {
                self.open_one(listener, place);
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
                accept_proxy: listener.front.accept_proxy.clone(),
                send_proxy: listener.front.send_proxy,
                counts: metrics.listener(&listener.name),
                sockets: self.sockets(listener),
            })
        });
        Some(listeners.collect())
    }

    fn sockets(&self, listener: &ListenerSettings) -> Vec<Arc<OwnedFd>> {
        let open = places(listener).filter_map(|place| self.open.get(&place));
        open.map(|open| match open {
            Open::Tcp(socket) => socket.clone(),
            Open::Unix(_, listener) => listener.socket.clone(),
        })
        .collect()
    }

    fn open_one(&mut self, listener: &ListenerSettings, place: Place) {
        if self.open.contains_key(&place) {
            return;
        }
        let opened = match (&place, &listener.front.unix_socket) {
            (Place::Tcp(address), _) => bind(*address).map(|socket| Open::Tcp(Arc::new(socket))),
            (Place::Unix(_), Some(wanted)) => {
                UnixListener::open(wanted).map(|listener| Open::Unix(wanted.clone(), listener))
            }
            (Place::Unix(_), None) => return,
        };
        match opened {
            Ok(open) => {
                info!(listener = &*listener.name, address = %place, target = %listener.target, "the proxy listens");
                self.failed.remove(&place);
                self.open.insert(place, open);
            }
            Err(error) => {
                let why = error.to_string();
                if self.failed.get(&place) != Some(&why) {
                    error!(
                        listener = &*listener.name, address = %place, %error,
                        "the proxy cannot listen there, and tries again: another program may hold the port (`ss -ltnp`, `ss -lxp`), or choose another one (`router.listeners`)"
                    );
                }
                self.failed.insert(place, why);
            }
        }
    }
}

fn places(listener: &ListenerSettings) -> impl Iterator<Item = Place> {
    let addresses = listener.addresses.iter().copied().map(Place::Tcp);
    addresses.chain(listener.front.unix_socket.iter().map(|socket| Place::Unix(socket.path.clone())))
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
