//! The proxy beside the agent: follows the picture of the cluster and the settings, and tells the workers.

pub(crate) mod ask;
mod listen;
mod resolve;

use std::{io, sync::Arc, time::Duration};

use bellwether_types::topology::Topology;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{listen::Listeners, resolve::Resolver};
use crate::{
    metrics::Metrics,
    routes::Routes,
    settings::Settings,
    worker::{Command, Mailbox, Worker, context::Shared},
};

/// How often names are looked up again, and sockets that could not be bound are tried.
const LOOK: Duration = Duration::from_secs(5);
/// A worker that does not cut sessions within this time is stuck, and must not keep all others from the new primary.
const CUT_WITHIN: Duration = Duration::from_millis(500);
/// Clients that may be at the door at once.
const ASKS: usize = 4096;
/// For sessions to end when the proxy stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The proxy of this node.
#[derive(Debug)]
pub struct Proxy {
    settings: watch::Receiver<Arc<Settings>>,
    topology: watch::Receiver<Arc<Topology>>,
    shared: Arc<Shared>,
    workers: Vec<Mailbox>,
    threads: Vec<std::thread::JoinHandle<()>>,
    listeners: Listeners,
    resolver: Resolver,
    routes: Arc<Routes>,
    asks: Option<mpsc::Receiver<ask::Ask>>,
    secrets: Arc<dyn ask::Secrets>,
}

/// A look at the proxy's numbers.
#[derive(Clone, Debug)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
}

impl ProxyHandle {
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

impl Proxy {
    /// Starts the threads. Nothing listens until [`Proxy::run`].
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        topology: watch::Receiver<Arc<Topology>>,
        secrets: Arc<dyn ask::Secrets>,
    ) -> io::Result<(Self, ProxyHandle)> {
        let (ask, asks) = mpsc::channel(ASKS);
        let shared = Arc::new(Shared { metrics: Metrics::default(), asks: ask, seed: rand::random() });
        let first = settings.borrow().clone();
        let routes = Arc::new(Routes::unknown(topology.borrow().cluster.as_str()));
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for number in 0..first.threads.max(1) {
            let (worker, mailbox) = Worker::new(number, first.clone(), routes.clone(), shared.clone())?;
            let thread = std::thread::Builder::new().name(format!("proxy-{number}"));
            threads.push(thread.spawn(move || worker.run())?);
            workers.push(mailbox);
        }
        let handle = ProxyHandle { shared: shared.clone() };
        let listeners = Listeners::default();
        let resolver = Resolver::default();
        let proxy = Self {
            settings,
            topology,
            shared,
            workers,
            threads,
            listeners,
            resolver,
            routes,
            asks: Some(asks),
            secrets,
        };
        Ok((proxy, handle))
    }

    /// Serves until `stop`. Ending it early (by a drop) leaves the threads to the end of the process.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Ends with this scope.
        let mut answering = JoinSet::new();
        if let Some(asks) = self.asks.take() {
            answering.spawn(ask::answer(asks, self.workers.clone(), self.secrets.clone()));
        }
        self.route().await;
        self.listen();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.topology.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.route().await;
                }
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.reload().await;
                }
                () = self.resolver.found() => self.route().await,
                _ = look.tick() => {
                    self.resolver.look_again();
                    self.listen();
                }
            }
        }
        self.end().await;
    }

    async fn reload(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        for worker in &self.workers {
            worker.send(Command::Settings(settings.clone()));
        }
        self.listen();
        self.route().await;
        info!(listeners = settings.listeners.len(), "the settings of the proxy have been read anew");
    }

    /// Brings the sockets in line with the settings.
    fn listen(&mut self) {
        let settings = self.settings.borrow().clone();
        if let Some(listeners) = self.listeners.bring_about(&settings, &self.shared.metrics) {
            for worker in &self.workers {
                worker.send(Command::Listeners(listeners.clone()));
            }
        }
    }

    /// Tells the workers where the members are. Where the primary is another one, all have cut their sessions at the old one
    /// before any of them leads a client to the new one.
    async fn route(&mut self) {
        let topology = self.topology.borrow_and_update().clone();
        let settings = self.settings.borrow().clone();
        let routes = Routes::of(&topology, &settings.routing, |member| self.resolver.addresses(member));
        let changed = routes.primary.as_ref().map(|route| &route.member)
            != self.routes.primary.as_ref().map(|route| &route.member);
        if changed {
            self.tell(Routes { primary: None, ..routes.clone() }).await;
            match &routes.primary {
                Some(route) => info!(member = %route.member, "the proxy leads writers to this member"),
                None => info!(reason = routes.no_primary.sentence(), "the proxy leads writers nowhere"),
            }
        }
        self.tell(routes.clone()).await;
        self.routes = Arc::new(routes);
    }

    async fn tell(&self, routes: Routes) {
        let routes = Arc::new(routes);
        let (done, mut all_done) = mpsc::channel(1);
        for worker in &self.workers {
            worker.send(Command::Routes(routes.clone(), done.clone()));
        }
        drop(done);
        // Nobody sends: the channel ends with the last acknowledgement.
        if tokio::time::timeout(CUT_WITHIN, all_done.recv()).await.is_err() {
            warn!("a thread of the proxy has not taken the new routes in time");
        }
    }

    async fn end(self) {
        for worker in &self.workers {
            worker.send(Command::Stop);
        }
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                let _ = thread.join();
            }
        });
        if tokio::time::timeout(LAST_WORDS, joined).await.is_err() {
            warn!("sessions of the proxy are left to the end of the process");
        }
    }
}
