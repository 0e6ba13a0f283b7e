//! A running node: the Raft core, its files, its network, and the tasks around them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether_dcs::Deadline;
use openraft::{
    Config as RaftConfig, Instant as _, ServerState, SnapshotPolicy, async_runtime::watch::WatchReceiver as _,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    bootstrap,
    config::Config,
    consensus::{LogId, Metrics, NodeId, Peer, Raft, metrics},
    leadership,
    leases::LeaseTimers,
    membership,
    net::{Net, credentials::Credentials, listener::listen, message::PROTOCOL, raft_network::Network},
    router::Router,
    status::{MemberInfo, MemberRole, StoreStatus},
    storage::{directory::Directory, identity::Identity, log_store::LogStore, machine::Machine, record},
    store::StartError,
};

/// Entries between two snapshots, and entries kept for followers that lag.
const ENTRIES_PER_SNAPSHOT: u64 = 2000;
const ENTRIES_KEPT: u64 = 500;
/// Entries in one message: with the biggest transactions still below the limit of a frame.
const ENTRIES_PER_MESSAGE: u64 = 16;
const HAND_OVER_LIMIT: Duration = Duration::from_secs(1);
const LOOK_FOR_END: Duration = Duration::from_millis(500);
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(20);

/// Shared by the node's tasks, its listener and its clients in this process.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) id: NodeId,
    pub(crate) raft: Raft,
    pub(crate) machine: Machine,
    pub(crate) net: Arc<Net>,
    pub(crate) network: Network,
    pub(crate) router: Router,
    pub(crate) timers: Mutex<LeaseTimers>,
    pub(crate) identity: AsyncMutex<Identity>,
    /// One change of the membership at a time.
    pub(crate) changing: AsyncMutex<()>,
    /// Whether the member of this node leads PostgreSQL.
    pub(crate) member_leads: watch::Sender<bool>,
    /// What the bootstrap waits for, for people.
    pub(crate) waiting_for: Mutex<Option<String>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("addr", &self.config.self_addr)
            .finish_non_exhaustive()
    }
}

/// A node with what must be ended with it.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    tasks: JoinSet<()>,
    log_closed: oneshot::Receiver<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.node.fmt(f)
    }
}

impl Running {
    /// Opens the files, listens, and starts to take part. Does not wait for the others.
    pub(crate) async fn start(config: Config) -> Result<Self, StartError> {
        let (directory, credentials) = open(&config).await?;
        let Directory { identity, log, machine, closed } = directory;
        let address = config.listen_addr().to_owned();
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|cause| StartError::Bind { address: address.clone(), cause })?;
        let net = Net::new(config.cluster.clone(), credentials, Some(identity.node), identity.store);
        let network = Network::new(net.clone());
        let raft = start_raft(&config, &identity, network.clone(), log, machine.clone()).await?;
        let node = Arc::new(Node {
            id: identity.node,
            raft,
            machine,
            router: Router::new(net.clone(), config.partners()),
            net,
            network,
            timers: Mutex::new(LeaseTimers::new(2 * config.timing.election_max)),
            identity: AsyncMutex::new(identity),
            changing: AsyncMutex::default(),
            member_leads: watch::Sender::new(false),
            waiting_for: Mutex::default(),
            config,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, node.clone()));
        tasks.spawn(leadership::end_leases(node.clone()));
        tasks.spawn(leadership::step_aside(node.clone()));
        tasks.spawn(membership::finish_changes(node.clone()));
        tasks.spawn(bootstrap::take_part(node.clone()));
        tracing::info!(
            address = %address, node = format_args!("{:x}", node.id), credentials = ?node.net.credentials(),
            "the store's node runs"
        );
        Ok(Self { node, tasks, log_closed: closed })
    }

    /// Hands the leadership over, if it is here, and closes the files.
    pub(crate) async fn stop(mut self, by: Deadline) {
        if metrics(&self.node.raft).state == ServerState::Leader
            && let Some(successor) = leadership::successor(&self.node)
        {
            // The successor may have died a moment ago; the files are to be closed all the same.
            let by = Deadline::after(HAND_OVER_LIMIT.min(by.remaining()));
            let _ = leadership::hand_over(&self.node, successor, by).await;
        }
        let _ = timeout(by.remaining(), self.node.raft.shutdown()).await;
        self.tasks.shutdown().await;
        let Self { node, log_closed, .. } = self;
        drop(node);
        let _ = timeout(by.remaining(), log_closed).await;
    }
}

async fn open(config: &Config) -> Result<(Directory, Credentials), StartError> {
    config.check()?;
    let config = config.clone();
    let work = move || {
        let credentials = Credentials::new(&config.cluster, config.password.as_ref(), config.tls.as_ref())?;
        let directory = Directory::open(&config.data_dir, &config.cluster)?;
        Ok((directory, credentials))
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Raft(error.to_string()))?
}

async fn start_raft(
    config: &Config,
    identity: &Identity,
    network: Network,
    log: LogStore,
    machine: Machine,
) -> Result<Raft, StartError> {
    let timing = config.timing;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft_config = RaftConfig {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        enable_pre_vote: Some(true),
        // A restarted leader stands for election like everybody: what it knew of leases is gone.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // The default of 200 ms is for a whole snapshot.
        install_snapshot_timeout: millis(SNAPSHOT_LIMIT),
        backoff: "20ms 40ms ...200ms".to_owned(),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        replication_lag_threshold: 2 * ENTRIES_PER_SNAPSHOT,
        ..RaftConfig::default()
    };
    let raft_config = raft_config.validate().map_err(|error| StartError::Raft(format!("timing: {error}")))?;
    Raft::new(identity.node, Arc::new(raft_config), network, log, machine)
        .await
        .map_err(|error| StartError::Raft(error.to_string()))
}

impl Node {
    pub(crate) fn metrics(&self) -> Metrics {
        metrics(&self.raft)
    }

    /// Whether this node never took part in a store: it has no log.
    pub(crate) fn is_empty(&self) -> bool {
        let metrics = self.metrics();
        metrics.last_log_index.is_none() && metrics.snapshot.is_none()
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { addr: self.config.self_addr.clone(), witness: self.config.witness }
    }

    /// The address of the store leader, as far as this node knows.
    pub(crate) fn leader_addr(&self) -> Option<String> {
        let roles = self.raft.server_metrics();
        let roles = roles.borrow_watched();
        let leader = roles.current_leader?;
        roles.membership_config.get_node(&leader).map(|peer| peer.addr.clone())
    }

    /// Waits until the node at `addr` is not the leader, as far as this node knows.
    pub(crate) async fn leads_no_more(&self, addr: &str) {
        let mut roles = self.raft.server_metrics();
        loop {
            roles.borrow_and_update();
            if self.leader_addr().as_deref() != Some(addr) || roles.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until all entries before `next` are applied here.
    pub(crate) async fn wait_applied(&self, next: u64, by: Deadline) -> bool {
        let mut progress = self.machine.progress();
        timeout(by.remaining(), progress.wait_for(|progress| progress.next >= next))
            .await
            .is_ok_and(|waited| waited.is_ok())
    }

    /// Wakes when the leader may have changed, or after a moment.
    pub(crate) async fn leader_changes(&self, at_most: Duration) {
        let mut roles = self.raft.server_metrics();
        // A new receiver has seen nothing yet, and would wake at once.
        roles.borrow_and_update();
        tokio::select! {
            _ = roles.changed() => {}
            () = sleep(at_most) => {}
        }
    }

    /// Ends when the Raft core does; says why.
    pub(crate) async fn stopped(&self) -> String {
        let mut watched = self.raft.metrics();
        loop {
            if let Err(fatal) = &watched.borrow_and_update().running_state {
                return fatal.to_string();
            }
            // They change with every heartbeat; an end stands in them until it is read.
            sleep(LOOK_FOR_END).await;
            if watched.changed().await.is_err() {
                return "the Raft core ended".to_owned();
            }
        }
    }

    pub(crate) fn set_waiting(&self, what: Option<String>) {
        *self.waiting_for.lock().expect("no code panics while it holds this") = what;
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let metrics = self.metrics();
        let waiting = self.waiting_for.lock().expect("no code panics while it holds this").clone();
        let (state, detail) = match (&metrics.running_state, metrics.state) {
            (Err(fatal), _) => ("stopped", Some(fatal.to_string())),
            (_, ServerState::Shutdown) => ("stopped", None),
            (_, ServerState::Leader) => ("leader", None),
            (_, ServerState::Follower) => ("follower", None),
            (_, ServerState::Candidate) => ("candidate", None),
            (_, ServerState::Learner) if metrics.last_log_index.is_some() => ("learner", waiting),
            (_, ServerState::Learner) => ("waiting", waiting),
        };
        let (revision, leases) = self.machine.read(|state| (state.revision(), state.leases().len()));
        StoreStatus {
            cluster: self.config.cluster.clone(),
            node: self.id,
            addr: self.config.self_addr.clone(),
            store: self.net.store(),
            state: state.to_owned(),
            detail,
            term: metrics.current_term,
            leader: self.leader_addr(),
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|applied| applied.index),
            revision,
            leases,
            protocol: PROTOCOL,
            format: record::VERSION,
            members: members(&metrics),
        }
    }
}

fn members(metrics: &Metrics) -> Vec<MemberInfo> {
    let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
    let leads = metrics.state == ServerState::Leader;
    let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index + 1);
    metrics
        .membership_config
        .nodes()
        .map(|(id, peer)| {
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id)).copied().flatten();
            let matched = metrics.replication.as_ref().and_then(|matched| matched.get(id)).copied();
            let others = leads && *id != metrics.id;
            MemberInfo {
                id: *id,
                addr: peer.addr.clone(),
                role: if voters.contains(id) { MemberRole::Voter } else { MemberRole::Learner },
                witness: peer.witness,
                leader: metrics.current_leader == Some(*id),
                silent_ms: heard
                    .filter(|_| others)
                    .map(|heard| u64::try_from(heard.into_inner().elapsed().as_millis()).unwrap_or(u64::MAX)),
                lag_entries: matched.filter(|_| others).map(|matched| {
                    metrics.last_log_index.map_or(0, |last| last + 1).saturating_sub(index(matched))
                }),
            }
        })
        .collect()
}
