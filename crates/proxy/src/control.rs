//! The proxy beside the agent: follows the picture of the cluster and the settings, and tells the workers.

pub(crate) mod ask;
mod cancels;
pub(crate) mod confirm;
pub(crate) mod console;
mod listen;
pub(crate) mod reload;
mod resolve;
mod statistics;

use std::{io, sync::Arc, time::Duration};

use bellwether_types::topology::Topology;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    cancels::Cancels, confirm::Confirmation, listen::Listeners, resolve::Resolver, statistics::Statistics,
};
use crate::{
    metrics::Metrics,
    report::PoolReport,
    routes::Routes,
    settings::Settings,
    worker::{Caller, Command, Mailbox, Worker, context::Shared},
};

/// How often names are looked up again, and sockets that could not be bound are tried.
const LOOK: Duration = Duration::from_secs(5);
/// A worker that does not cut sessions within this time is stuck, and must not keep all others from the new primary.
const CUT_WITHIN: Duration = Duration::from_millis(500);
/// How often the age of the picture is looked at.
const AGES: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A little more than a server has for it.
const CANCELLED_WITHIN: Duration = Duration::from_secs(6);
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
    cancels: Option<Cancels>,
    confirmation: Confirmation,
    statistics: Statistics,
    shown: watch::Sender<Arc<Routes>>,
    console: console::Console,
}

/// A look at the proxy's numbers.
#[derive(Clone, Debug)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
    workers: Vec<Mailbox>,
}

impl ProxyHandle {
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Cancels what a client of this node's pools does, if one has this key, and waits until that is done. For another node's
    /// proxy: nothing is sent on.
    pub async fn cancel(&self, process: u32, secret: &[u8]) {
        self.shared.metrics.cancels.received.add(1);
        let (done, over) = oneshot::channel();
        let caller = Arc::new(Caller::Node { _done: done });
        for worker in &self.workers {
            worker.send(Command::Cancel(process, secret.to_vec(), caller.clone()));
        }
        drop(caller);
        let _ = tokio::time::timeout(CANCELLED_WITHIN, over).await;
    }

    /// All pools, those of all threads together; a thread that does not answer within a second is left out.
    pub async fn pools(&self) -> Vec<PoolReport> {
        PoolReport::together(self.reports().await.into_iter().flat_map(|report| report.pools))
    }
}

impl Proxy {
    /// Starts the threads. Nothing listens until [`Proxy::run`].
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        topology: watch::Receiver<Arc<Topology>>,
        secrets: Arc<dyn ask::Secrets>,
        peers: Arc<dyn confirm::Peers>,
    ) -> io::Result<(Self, ProxyHandle)> {
        let (ask, asks) = mpsc::channel(ASKS);
        let shared = Arc::new(Shared::new(ask, &topology.borrow().me));
        let (first, cancelled) = (settings.borrow().clone(), topology.clone());
        let routes = Arc::new(Routes::unknown(topology.borrow().cluster.as_str()));
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for number in 0..first.threads.max(1) {
            let (worker, mailbox) = Worker::new(number, first.clone(), routes.clone(), shared.clone())?;
            let thread = std::thread::Builder::new().name(format!("proxy-{number}"));
            threads.push(thread.spawn(move || worker.run())?);
            workers.push(mailbox);
        }
        let _ = shared.workers.set(workers.clone());
        let handle = ProxyHandle { shared: shared.clone(), workers: workers.clone() };
        let (shown, seen) = watch::channel(routes.clone());
        let console = console::Console {
            handle: handle.clone(),
            settings: settings.clone(),
            routes: seen.clone(),
            topology: topology.clone(),
            peers: peers.clone(),
            averages: Arc::new(console::snapshot::Averages::from_now()),
            reloads: reload::Wishes::default(),
        };
        let statistics = Statistics::new(handle.clone(), seen, settings.clone());
        let listeners = Listeners::default();
        let resolver = Resolver::default();
        let proxy = Self {
            settings,
            topology,
            shared: shared.clone(),
            workers,
            threads,
            listeners,
            resolver,
            routes,
            asks: Some(asks),
            secrets,
            cancels: Some(Cancels::new(peers.clone(), cancelled, shared.clone())),
            confirmation: Confirmation::new(peers),
            statistics,
            shown,
            console,
        };
        Ok((proxy, handle))
    }

    /// RELOAD on the console is to be done by whoever asks for this; before [`Proxy::run`], and once.
    pub fn reload_wishes(&mut self) -> mpsc::Receiver<reload::ReloadWish> {
        self.console.reloads.open()
    }

    /// Serves until `stop`. Ending it early (by a drop) leaves the threads to the end of the process.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        let mut ages = tokio::time::interval(AGES);
        ages.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Ends with this scope.
        let mut answering = JoinSet::new();
        if let (Some(asks), Some(cancels)) = (self.asks.take(), self.cancels.take()) {
            answering.spawn(ask::answer(asks, self.console.clone(), self.secrets.clone(), cancels));
            answering.spawn(self.console.clone().note_totals());
        }
        self.route().await;
        self.listen().await;
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
                () = self.confirmation.heard() => self.route().await,
                _ = ages.tick() => {
                    let topology = self.topology.borrow().clone();
                    self.confirmation.look(&topology, self.routes.open_until);
                }
                _ = look.tick() => {
                    self.resolver.look_again();
                    self.listen().await;
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
        self.listen().await;
        self.route().await;
        info!(listeners = settings.listeners.len(), "the settings of the proxy have been read anew");
    }

    /// Brings the sockets in line with the settings.
    async fn listen(&mut self) {
        let settings = self.settings.borrow().clone();
        self.statistics.bring_about(&settings.statistics).await;
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
        let topology = self.confirmation.applied_to(&topology);
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
        self.shown.send_replace(self.routes.clone());
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
