//! Requests to cancel that came to this node and are meant for clients of another one: behind a load balancer or an address that
//! moves, the connection that brings the request may end anywhere.
//!
//! The key says who gave it out; that member is told by its REST API, and sends nothing on. Strangers can send as many requests as
//! they like, so there is a limit to how many go on.

use std::{sync::Arc, time::Duration};

use bellwether_types::topology::Topology;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::confirm::Peers;
use crate::{
    cancel::may_be_of,
    worker::{Caller, context::Shared},
};

/// For one member to take one request, and do what it says.
const TAKEN_WITHIN: Duration = Duration::from_secs(6);
/// At once, and within a second.
const AT_ONCE: usize = 32;
const PER_SECOND: u32 = 100;

#[derive(Debug)]
pub(super) struct Cancels {
    peers: Arc<dyn Peers>,
    topology: watch::Receiver<Arc<Topology>>,
    shared: Arc<Shared>,
    under_way: JoinSet<()>,
    second: (Instant, u32),
}

impl Cancels {
    pub(super) fn new(
        peers: Arc<dyn Peers>,
        topology: watch::Receiver<Arc<Topology>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { peers, topology, shared, under_way: JoinSet::new(), second: (Instant::now(), 0) }
    }

    /// Tells the member that has given out the key, if it is another one.
    pub(super) fn send_on(&mut self, process: u32, secret: &[u8], caller: &Arc<Caller>) {
        let topology = self.topology.borrow().clone();
        let others = topology.members.iter().filter(|member| member.name != topology.me);
        for url in
            others.filter(|member| may_be_of(process, &member.name)).filter_map(|it| it.api_url.clone())
        {
            if !self.may_send() {
                self.shared.metrics.cancels.dropped.add(1);
                continue;
            }
            let call = self.peers.cancel(url, process, secret.to_vec());
            // Told of the end when all have let go of it.
            let (shared, caller) = (self.shared.clone(), caller.clone());
            self.under_way.spawn(async move {
                let counts = &shared.metrics.cancels;
                match tokio::time::timeout(TAKEN_WITHIN, call).await {
                    Ok(true) => counts.sent_on.add(1),
                    Ok(false) | Err(_) => counts.dropped.add(1),
                }
                drop(caller);
            });
        }
    }

    fn may_send(&mut self) -> bool {
        if self.second.0.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 0);
        }
        let may = self.under_way.len() < AT_ONCE && self.second.1 < PER_SECOND;
        self.second.1 += u32::from(may);
        may
    }

    /// Waits until one has been taken. Safe to drop.
    pub(super) async fn ended(&mut self) {
        if self.under_way.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}
