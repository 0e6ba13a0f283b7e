//! The suite that every store passes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bellwether_dcs::{
    Store,
    conformance::{
        Bench, Failure, Harness, Timing,
        link::{Flow, Link},
        run,
    },
};
use bellwether_dcs_etcd::{EtcdConfig, EtcdStore};
use rustix::process::Signal;
use tokio::{
    sync::{Mutex, OnceCell},
    task::JoinHandle,
    time::sleep,
};

use crate::servers::{Servers, linked};

/// What was on its way when the disturbance ended has arrived after so long.
const LATE_WRITES: Duration = Duration::from_millis(700);

/// Cases share three members, each below a prefix of its own; a case that disturbs gets members of its own.
struct Clusters {
    shared: Arc<Servers>,
    next: AtomicUsize,
}

struct Prefix {
    name: String,
    shared: Arc<Servers>,
    own: OnceCell<Disturbed>,
    next: AtomicUsize,
}

struct Disturbed {
    servers: Arc<Mutex<Servers>>,
    links: Arc<Vec<Link>>,
    disturbing: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl Harness for Clusters {
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure> {
        let name = format!("/service/case{}/", self.next.fetch_add(1, Ordering::SeqCst));
        Ok(Arc::new(Prefix {
            name,
            shared: self.shared.clone(),
            own: OnceCell::new(),
            next: AtomicUsize::new(0),
        }))
    }

    fn concurrency(&self) -> usize {
        4
    }
}

#[async_trait]
impl Bench for Prefix {
    /// Of each member in turn.
    async fn client(&self) -> Result<Arc<dyn Store>, Failure> {
        let turn = self.next.fetch_add(1, Ordering::SeqCst);
        let client = match self.own.get() {
            Some(own) => own.servers.lock().await.client(&self.name, turn).await,
            None => self.shared.client(&self.name, turn).await,
        };
        Ok(Arc::new(client))
    }

    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let own = self.own.get_or_init(Disturbed::start).await;
        let mut config = EtcdConfig::new(&self.name, own.links.iter().map(linked).collect());
        // The way around the links.
        config.discover_members = false;
        let client = EtcdStore::start(config).await.map_err(|error| error.to_string())?;
        *own.disturbing.lock().await = Some(tokio::spawn(disturb(own.servers.clone(), own.links.clone())));
        Ok(Some(Arc::new(client)))
    }

    async fn calm(&self) {
        let Some(own) = self.own.get() else { return };
        if let Some(disturbing) = own.disturbing.lock().await.take() {
            disturbing.abort();
            let _ = disturbing.await;
        }
        // What is held back in a link never arrives.
        own.links.iter().for_each(|link| link.set(Flow::Cut));
        let servers = own.servers.lock().await;
        servers.members.iter().for_each(|member| member.signal(Signal::CONT));
        own.links.iter().for_each(|link| link.set(Flow::Open));
        sleep(LATE_WRITES).await;
        servers.ready().await;
    }

    fn timing(&self) -> Timing {
        // Leases are whole seconds, and expiries are looked for twice a second.
        Timing { ttl: Duration::from_secs(2), expires_within: Duration::from_secs(3), ..Timing::default() }
    }
}

impl Disturbed {
    async fn start() -> Self {
        let servers = Servers::start(3).await;
        let mut links = Vec::new();
        for member in &servers.members {
            links.push(Link::to(&member.address()).await);
        }
        Self { servers: Arc::new(Mutex::new(servers)), links: Arc::new(links), disturbing: Mutex::default() }
    }
}

/// Answers are lost (of one member, where a repeated question would find another; then of all), everything is silent, members
/// freeze and thaw, connections break.
async fn disturb(servers: Arc<Mutex<Servers>>, links: Arc<Vec<Link>>) {
    let all = |flow| links.iter().for_each(|link| link.set(flow));
    loop {
        for link in links.iter() {
            sleep(Duration::from_millis(150)).await;
            link.set(Flow::AnswersLost);
            sleep(Duration::from_millis(250)).await;
            link.set(Flow::Cut);
            sleep(Duration::from_millis(20)).await;
            link.set(Flow::Open);
        }
        sleep(Duration::from_millis(300)).await;
        all(Flow::AnswersLost);
        sleep(Duration::from_millis(400)).await;
        all(Flow::Cut);
        sleep(Duration::from_millis(50)).await;
        all(Flow::Open);
        sleep(Duration::from_millis(600)).await;
        let leader = servers.lock().await.leader().await;
        servers.lock().await.members[leader].signal(Signal::STOP);
        // Longer than an election.
        sleep(Duration::from_millis(1500)).await;
        servers.lock().await.members[leader].signal(Signal::CONT);
        sleep(Duration::from_millis(600)).await;
        all(Flow::Silent);
        sleep(Duration::from_millis(400)).await;
        all(Flow::Open);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_of_etcd_keep_every_promise_of_a_store() {
    let shared = Arc::new(Servers::start(3).await);
    run(Arc::new(Clusters { shared, next: AtomicUsize::new(0) })).await.assert_passed();
}
