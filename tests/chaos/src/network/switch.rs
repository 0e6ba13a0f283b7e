//! A switch in this process: each host's interface ends here, and each frame is judged by the [`Rules`].

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use rand::RngExt as _;
use tappers::{Interface, tokio::AsyncTap};
use tokio::{
    runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Rules,
    frame::{self, Destination},
};

/// An Ethernet frame of the usual size, with its header.
const FRAME: usize = 1_514;

/// A running switch; it runs as long as the process.
#[derive(Clone, Debug)]
pub struct Switch {
    rules: Arc<RwLock<Rules>>,
}

/// A frame that is on its way, and when it arrives.
type OnItsWay = (Instant, Vec<u8>);

impl Switch {
    /// Makes one interface per name in this namespace, in the order of the switch's ports, and forwards between them.
    pub fn start(names: &[String]) -> io::Result<Self> {
        let rules: Arc<RwLock<Rules>> = Arc::default();
        // A thread of its own: whatever the clients do, the network goes on.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let devices = {
            let _inside = runtime.enter();
            names.iter().map(|name| interface(name)).collect::<io::Result<Vec<_>>>()?
        };
        let judges = Arc::clone(&rules);
        std::thread::Builder::new().name("switch".to_owned()).spawn(move || {
            // Wires are not slow because a host is busy. Root alone may say so; for others a busy machine is a slow network.
            let _ = rustix::process::nice(-20);
            runtime.block_on(forward_all(devices, judges));
        })?;
        Ok(Self { rules })
    }

    /// The rules, to be changed.
    pub fn rules(&self) -> RwLockWriteGuard<'_, Rules> {
        self.rules.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn interface(name: &str) -> io::Result<Arc<AsyncTap>> {
    let device = Interface::new(name).and_then(AsyncTap::new_named);
    device.map(Arc::new).map_err(|error| io::Error::other(format!("interface {name}: {error}")))
}

async fn forward_all(devices: Vec<Arc<AsyncTap>>, rules: Arc<RwLock<Rules>>) {
    let mut from_each = Vec::new();
    for from in 0..devices.len() {
        // One queue per direction between two hosts keeps their frames in order.
        let queues = devices.iter().map(|to| deliver_in_order(Arc::clone(to))).collect();
        let device = Arc::clone(&devices[from]);
        from_each.push(tokio::spawn(forward(from, device, queues, Arc::clone(&rules))));
    }
    for task in from_each {
        let _ = task.await;
    }
}

async fn forward(
    from: usize,
    device: Arc<AsyncTap>,
    queues: Vec<mpsc::UnboundedSender<OnItsWay>>,
    rules: Arc<RwLock<Rules>>,
) {
    let mut buffer = [0; FRAME];
    // An interface that is down for a moment gives an error, and frames again when it is up.
    loop {
        let Ok(length) = device.recv(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let frame = &buffer[..length];
        let to = match frame::destination(frame, queues.len()) {
            Some(Destination::Port(port)) => port..port + 1,
            Some(Destination::Everybody) => 0..queues.len(),
            None => continue,
        };
        for to in to.filter(|&to| to != from) {
            let fate = rand::rng().random();
            let judged = {
                let rules = rules.read().unwrap_or_else(PoisonError::into_inner);
                rules.judge(from, to, frame::tcp_ports(frame), fate)
            };
            if let Some(delay) = judged {
                let _ = queues[to].send((Instant::now() + delay, frame.to_vec()));
            }
        }
    }
}

fn deliver_in_order(device: Arc<AsyncTap>) -> mpsc::UnboundedSender<OnItsWay> {
    let (sender, mut frames) = mpsc::unbounded_channel::<OnItsWay>();
    tokio::spawn(async move {
        while let Some((arrives, frame)) = frames.recv().await {
            if arrives > Instant::now() {
                sleep_until(arrives).await;
            }
            // A host whose interface is down loses what arrives.
            let _ = device.send(&frame).await;
        }
    });
    sender
}
