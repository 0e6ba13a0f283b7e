//! What the leader of a worker's group says to the leader of the coordinator.
//!
//! One report after the other: the coordinator must hear of the end of a change after its beginning. A report that is lost costs
//! nothing but time, because the coordinator looks into the store as well.

use std::{sync::Arc, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_dcs::{Deadline, codec};
use bellwether_types::{
    MemberName,
    citus::{CitusEvent, CitusEventKind},
    status::NodeStatus,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Groups, Surroundings, leads};
use crate::{clock, work::chain};

/// How long a report takes at most that nobody waits for.
const LIMIT: Duration = Duration::from_secs(2);

/// A report to be sent.
#[derive(Debug)]
pub(crate) struct Told {
    pub(super) kind: CitusEventKind,
    /// Whoever waits is told when it was taken in, or given up.
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// The task that sends them.
#[derive(Debug)]
pub(super) struct Worker {
    me: MemberName,
    group: u32,
    coordinator: Groups,
    client: ApiClient,
    status: watch::Receiver<Arc<NodeStatus>>,
    told: mpsc::Receiver<Told>,
}

impl Worker {
    pub(super) fn new(group: u32, around: Surroundings, told: mpsc::Receiver<Told>) -> Self {
        let Surroundings { me, groups, client, status, .. } = around;
        Self { me, group, coordinator: groups, client, status, told }
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut led = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(told) = self.told.recv() => {
                    self.report(told.kind).await;
                    // What it did to the primary is still to come, and its end is told again.
                    led = led && told.kind == CitusEventKind::AfterPromote;
                    if let Some(done) = told.done {
                        let _ = done.send(());
                    }
                }
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let leads = leads(&self.status.borrow_and_update(), clock::now());
                    if leads && !led {
                        self.report(CitusEventKind::AfterPromote).await;
                    }
                    led = leads;
                }
            }
        }
    }

    /// Once, and not for long.
    async fn report(&self, kind: CitusEventKind) {
        let (ttl, cooldown) = {
            let settings = &self.status.borrow().settings;
            (settings.ttl, settings.retry_timeout)
        };
        let limit = if kind == CitusEventKind::BeforeDemote { ttl } else { LIMIT };
        let event = CitusEvent { kind, group: self.group, leader: self.me.clone(), timeout: ttl, cooldown };
        let word = kind.as_str();
        match tokio::time::timeout(limit, self.send(&event, limit)).await {
            Ok(Ok(Some(name))) => {
                info!(event = word, leader = %name, "told the coordinator of the Citus cluster")
            }
            Ok(Ok(None)) => debug!(event = word, "the coordinator of the Citus cluster has no leader"),
            Ok(Err(why)) => warn!(event = word, why, "the coordinator of the Citus cluster was not told"),
            Err(_) => {
                warn!(event = word, ?limit, "the coordinator of the Citus cluster did not answer in time")
            }
        }
    }

    /// To whom it was sent; `None`: there is nobody.
    async fn send(&self, event: &CitusEvent, limit: Duration) -> Result<Option<MemberName>, String> {
        let snapshot = self
            .coordinator
            .snapshot(Deadline::after(LIMIT.min(limit)))
            .await
            .map_err(|error| chain(&error))?;
        let cluster = codec::decode(&snapshot);
        let Some(name) = cluster.leader_name() else { return Ok(None) };
        let url = cluster.member(name).and_then(|member| member.api_url.clone());
        let url = url.ok_or_else(|| format!("member {name} publishes no address of its API"))?;
        let body = event.to_json();
        let answer = self.client.call(Method::POST, &url, "citus", Some(&body), limit).await;
        match answer {
            Ok(answer) if answer.is_success() => Ok(Some(name.clone())),
            Ok(answer) => Err(format!("{name} answered {}: {}", answer.status, answer.body)),
            Err(error) => Err(chain(&error)),
        }
    }
}
