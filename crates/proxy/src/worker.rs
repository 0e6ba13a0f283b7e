//! A thread that carries data: one loop over the kernel's events, no locks, no waiting but for them.

pub(crate) mod context;
pub(crate) mod epoll;
mod passages;
mod pipe;
mod pooled;
mod slots;
mod sockets;
mod stream;
mod tls;

pub(crate) use self::pooled::cancel::Caller;

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bellwether_sql::catalogue::Catalogue;
use bellwether_types::Timestamp;
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    net::{SocketFlags, accept_with},
};
use tracing::{error, warn};

use self::{
    context::{Context, Listener, Shared},
    epoll::{Batch, Epoll, Key, Kind, Readiness},
    passages::Passages,
    pooled::Pooled,
    slots::Slots,
};
use crate::{
    clock,
    control::{ask::Answer, console::PoolCommand},
    refusal::Refusal,
    report::WorkerReport,
    routes::Routes,
    settings::{Mode, Settings},
    split::Position,
};

/// How often the clock is looked at while somebody waits for it, and else.
const RESTLESS_TICK: Duration = Duration::from_millis(50);
const CALM_TICK: Duration = Duration::from_millis(500);
/// How long nobody is accepted after that has failed.
const DEAF: Duration = Duration::from_millis(200);
/// Clients taken from one listener before others have their turn.
const ACCEPTS: usize = 64;
/// Clients beyond `max_client_conn` that may say what they want before they are refused.
const AT_THE_DOOR: usize = 64;

/// What a worker is told.
pub(crate) enum Command {
    /// The acknowledgement is dropped when sessions that the routes forbid have ended.
    Routes(Arc<Routes>, Acknowledgement),
    Settings(Arc<Settings>),
    /// What is known of a client's password.
    Secret(Key, Answer),
    /// What a client is called in the operating system.
    SystemUser(Key, Result<String, String>),
    /// What the pools are like; the answer goes to whoever asks, if still there.
    Report(tokio::sync::mpsc::Sender<WorkerReport>),
    /// What an administrator has asked for has been done.
    Console(Key, Vec<u8>),
    /// The client with this key is to be cancelled, if it is one of this worker's.
    Cancel(u32, Vec<u8>, Arc<Caller>),
    /// What a client has asked to cancel is done, or cannot be.
    Cancelled(Key),
    /// An administrator asks for this.
    Pools(PoolCommand),
    /// A server of this pool is wanted elsewhere: one that nobody uses, or, if it `must`, the next that comes back.
    Spare {
        pool: usize,
        must: bool,
    },
    /// This pool may open a server now.
    Room {
        pool: usize,
    },
    /// How far the primary is, and when that was asked; `None`: it could not be found out.
    Position(Option<Position>, Timestamp),
    /// What a database says of its functions and relations; `None`: it could not be read.
    Catalogue(Arc<str>, Option<Arc<Catalogue>>),
    /// These instead of the ones before.
    Listeners(Vec<Arc<Listener>>),
    /// Ends all sessions.
    Stop,
}

/// Dropped once something is done.
pub(crate) type Acknowledgement = tokio::sync::mpsc::Sender<()>;

/// A way to a worker.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    commands: Arc<Mutex<VecDeque<Command>>>,
    wake: Arc<OwnedFd>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Routes(..) => "Routes",
            Self::Settings(_) => "Settings",
            Self::Secret(..) => "Secret",
            Self::SystemUser(..) => "SystemUser",
            Self::Report(_) => "Report",
            Self::Console(..) => "Console",
            Self::Position(..) => "Position",
            Self::Cancel(..) => "Cancel",
            Self::Cancelled(_) => "Cancelled",
            Self::Pools(_) => "Pools",
            Self::Spare { .. } => "Spare",
            Self::Room { .. } => "Room",
            Self::Catalogue(..) => "Catalogue",
            Self::Listeners(_) => "Listeners",
            Self::Stop => "Stop",
        })
    }
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { commands: Arc::default(), wake: Arc::new(wake) })
    }

    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    fn receive(&self) -> Option<Command> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    context: Context,
    mailbox: Mailbox,
    listeners: Slots<(Arc<Listener>, Arc<OwnedFd>)>,
    passages: Passages,
    pooled: Pooled,
    draining: bool,
    /// Nobody is accepted until then.
    deaf_until: Option<Timestamp>,
    next_tick: Timestamp,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        settings: Arc<Settings>,
        routes: Arc<Routes>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, Mailbox)> {
        let epoll = Epoll::new()?;
        let mailbox = Mailbox::new()?;
        epoll.add(&*mailbox.wake, Kind::Wake, Key { index: 0, generation: 0 }, epoll::Watch::Read)?;
        let context = Context::new(number, epoll, routes, settings, shared);
        let worker = Self {
            context,
            mailbox: mailbox.clone(),
            listeners: Slots::default(),
            passages: Passages::default(),
            pooled: Pooled::default(),
            draining: false,
            deaf_until: None,
            next_tick: Timestamp::ZERO,
        };
        Ok((worker, mailbox))
    }

    /// Carries data until it is told to stop and the last client has gone.
    pub(crate) fn run(mut self) {
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        loop {
            let limit = if self.context.has_again() {
                Duration::ZERO
            } else {
                self.context.now.until(self.next_tick)
            };
            if let Err(error) = self.context.epoll.wait(limit, &mut batch, &mut events) {
                error!(%error, "a thread of the proxy cannot wait for events any more");
                return;
            }
            self.context.now = clock::now();
            for (kind, key, readiness) in events.drain(..) {
                self.dispatch(kind, key, readiness);
            }
            for (kind, key) in self.context.take_again() {
                let nothing_new = Readiness { readable: false, writable: false, hung_up: false };
                self.dispatch(kind, key, nothing_new);
            }
            if self.context.now >= self.next_tick {
                self.tick();
            }
            if self.draining && self.passages.len() + self.pooled.len() == 0 {
                return;
            }
        }
    }

    #[inline]
    fn dispatch(&mut self, kind: Kind, key: Key, readiness: Readiness) {
        match kind {
            Kind::PassageClient | Kind::PassageServer => {
                self.passages.event(&mut self.context, kind, key, readiness);
            }
            Kind::Client => self.pooled.client_event(&mut self.context, key, readiness),
            Kind::Server => self.pooled.server_event(&mut self.context, key, readiness),
            Kind::Listener => self.accept(key),
            Kind::Courier => self.passages.courier_event(&mut self.context, key, readiness),
            Kind::Wake => self.hear(),
        }
        self.send_cancels();
        self.end_cancels();
        // A stage that a clock ends must not wait for the calm tick.
        if self.is_restless() {
            self.next_tick = self.next_tick.min(self.context.now + RESTLESS_TICK);
        }
    }

    fn send_cancels(&mut self) {
        for cancel in self.pooled.take_cancels() {
            self.context.shared.metrics.cancels.found.add(u64::from(cancel.caller.is_some()));
            self.passages.carry(&mut self.context, cancel);
        }
    }

    fn end_cancels(&mut self) {
        for (server, fate) in self.passages.take_ended_cancels() {
            self.pooled.cancel_ended(&mut self.context, server, fate);
        }
    }

    fn is_restless(&self) -> bool {
        self.passages.is_restless() || self.pooled.is_restless()
    }

    fn tick(&mut self) {
        // A picture that may no longer be believed changes what is allowed without any message.
        self.passages.enforce(&mut self.context);
        self.passages.serve_waiting(&mut self.context);
        self.passages.tick(&mut self.context);
        self.end_cancels();
        self.pooled.enforce(&mut self.context);
        self.pooled.tick(&mut self.context);
        self.send_cancels();
        if self.deaf_until.is_some_and(|until| until <= self.context.now) {
            self.accept_again();
        }
        let period = if self.is_restless() { RESTLESS_TICK } else { CALM_TICK };
        self.next_tick = self.context.now + period;
    }

    fn hear(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.mailbox.wake, &mut count);
        while let Some(command) = self.mailbox.receive() {
            match command {
                Command::Routes(routes, done) => {
                    // Whoever writes to a member that leads no more is cut before anybody reaches the one that does.
                    self.context.routes = routes;
                    self.passages.enforce(&mut self.context);
                    self.pooled.enforce(&mut self.context);
                    drop(done);
                    self.passages.serve_waiting(&mut self.context);
                    self.pooled.serve_waiting(&mut self.context);
                }
                Command::Secret(client, answer) => {
                    self.pooled.secret_found(&mut self.context, client, answer)
                }
                Command::SystemUser(client, name) => {
                    self.pooled.system_user_found(&mut self.context, client, name);
                }
                Command::Catalogue(database, catalogue) => self.pooled.catalogue_read(&database, catalogue),
                Command::Position(position, asked) => self.pooled.primary_is_at(position, asked),
                Command::Settings(settings) => self.context.set_settings(settings),
                Command::Console(client, answer) => {
                    self.pooled.console_answered(&mut self.context, client, &answer)
                }
                Command::Cancel(process, secret, caller) => self.pooled.cancel(process, &secret, caller),
                Command::Cancelled(client) => self.pooled.cancelled(&mut self.context, client),
                Command::Pools(command) => self.pooled.obey(&mut self.context, command),
                Command::Spare { pool, must } => self.pooled.spare(&mut self.context, pool, must),
                Command::Room { pool } => self.pooled.has_room(&mut self.context, pool),
                Command::Report(to) => {
                    let _ = to.try_send(self.pooled.report(&self.context));
                }
                Command::Listeners(listeners) => self.listen(&listeners),
                Command::Stop => {
                    self.listen(&[]);
                    self.draining = true;
                    self.passages.stop(&mut self.context);
                    self.pooled.stop(&mut self.context);
                }
            }
        }
        self.next_tick = self.next_tick.min(self.context.now + RESTLESS_TICK);
    }

    fn listen(&mut self, wanted: &[Arc<Listener>]) {
        let old: Vec<Key> = self.listeners.iter().map(|(key, _)| key).collect();
        for key in old {
            if let Some((_, socket)) = self.listeners.remove(key) {
                self.context.epoll.remove(&*socket);
            }
        }
        for listener in wanted {
            for socket in &listener.sockets {
                self.listeners.insert((listener.clone(), socket.clone()));
            }
        }
        self.accept_again();
    }

    fn accept(&mut self, key: Key) {
        for _ in 0..ACCEPTS {
            let Some((listener, socket)) = self.listeners.get(key) else { return };
            match accept_with(&**socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    let listener = listener.clone();
                    self.admit(&listener, fd);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    // Without file descriptors the client stays in the kernel's queue, and the socket readable: asking again at once
                    // would only take the time that those need who could leave.
                    warn!(error = %io::Error::from(error), listener = &*listener.name, "a client could not be accepted: raise the limit of open files (`LimitNOFILE`), or lower router.maxconn");
                    return self.stop_accepting();
                }
            }
        }
    }

    fn stop_accepting(&mut self) {
        for (_, (_, socket)) in self.listeners.iter() {
            self.context.epoll.remove(&**socket);
        }
        self.deaf_until = Some(self.context.now + DEAF);
    }

    fn accept_again(&mut self) {
        self.deaf_until = None;
        for (key, (listener, socket)) in self.listeners.iter() {
            if let Err(error) = self.context.epoll.add_shared(&**socket, Kind::Listener, key) {
                error!(%error, listener = &*listener.name, "a listener of the proxy takes no clients");
            }
        }
    }

    fn admit(&mut self, listener: &Arc<Listener>, fd: OwnedFd) {
        sockets::tune(&fd);
        listener.counts.accepted.add(1);
        let settings = &self.context.settings;
        let metrics = &self.context.shared.metrics;
        let clients = &metrics.clients;
        let (limit, present) = match listener.mode {
            Mode::Tcp => (settings.limits.max_connections, clients.get()),
            // Who asks for the console is let in, so some more may say what they want.
            Mode::Session | Mode::Transaction | Mode::Statement => {
                (settings.pooler.max_clients + AT_THE_DOOR, metrics.pooled.get())
            }
        };
        if present >= limit as u64 {
            let refusal = Refusal::TooManyConnections { limit };
            listener.counts.refused(refusal.label());
            let mut last = Vec::new();
            refusal.write(&mut last);
            let _ = rustix::net::send(&fd, &last, rustix::net::SendFlags::NOSIGNAL);
            return;
        }
        clients.add(1);
        match listener.mode {
            Mode::Tcp => self.passages.accept(&mut self.context, listener, fd),
            Mode::Session | Mode::Transaction | Mode::Statement => {
                self.pooled.accept(&mut self.context, listener, fd);
            }
        }
    }
}
