//! What the status says *now*: the published snapshot, judged by the clock.

use bellwether_types::{
    Lsn, PostgresState, ReplicationState, Role, Timestamp,
    cluster::Cluster,
    settings::SyncMode,
    status::{NodeStatus, ServerStatus, WalStatus},
};

/// The inputs of every GET, derived once. Everything in here fails closed: a status older than `ttl` has no server, no view
/// of the store and no lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) status: &'a NodeStatus,
    pub(crate) now: Timestamp,
    /// The agent published within `ttl`.
    pub(crate) is_fresh: bool,
    /// PostgreSQL's answers, if it runs and answered.
    pub(crate) server: Option<&'a ServerStatus>,
    /// The last view of the store.
    pub(crate) view: Option<&'a Cluster>,
    /// `None`: PostgreSQL should run, but did not answer.
    pub(crate) state: Option<PostgresState>,
    pub(crate) role: Role,
    /// This member holds the leader lease and is not stepping down.
    pub(crate) leads: bool,
    /// Lines of the log that wait to be written, and how many have been lost so far.
    pub(crate) log_backlog: (usize, u64),
    /// This member is in `/sync` while synchronous mode is on.
    pub(crate) standby: Option<SyncStandby>,
}

/// The kind of synchronous standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncStandby {
    Sync,
    Quorum,
}

impl SyncStandby {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Sync => "sync_standby",
            Self::Quorum => "quorum_standby",
        }
    }

    /// What the voters of `/sync` are called in this mode.
    pub(crate) fn of(mode: SyncMode) -> Option<Self> {
        match mode {
            SyncMode::Off => None,
            SyncMode::On => Some(Self::Sync),
            SyncMode::Quorum => Some(Self::Quorum),
        }
    }
}

impl<'a> Facts<'a> {
    pub(crate) fn new(status: &'a NodeStatus, now: Timestamp) -> Self {
        let is_fresh = now.since(status.taken_at) <= status.settings.ttl;
        let answers = matches!(
            status.state,
            PostgresState::Running | PostgresState::Restarting | PostgresState::Starting
        );
        let server = status.server.as_ref().filter(|_| is_fresh && answers);
        let view = status.store.as_ref().filter(|_| is_fresh);
        let state = match (server, status.state) {
            (None, PostgresState::Running) => None,
            (_, state) => Some(state),
        };
        let role = match server {
            Some(server) if !server.in_recovery => Role::Primary,
            Some(_) if status.settings.standby_cluster.is_none() => Role::Replica,
            _ => status.role,
        };
        let is_voter = || view.and_then(Cluster::active_sync).is_some_and(|sync| sync.has_voter(&status.me));
        let standby = match (server, role) {
            (Some(_), Role::Replica) if is_voter() => SyncStandby::of(status.settings.sync_mode()),
            _ => None,
        };
        // Who steps down keeps the lease until its server is gone, and must get no client meanwhile.
        let leads = is_fresh && status.holds_lease_at(now) && status.role != Role::Demoted;
        Self { status, now, is_fresh, server, view, state, role, leads, standby, log_backlog: (0, 0) }
    }

    pub(crate) fn with_log_backlog(mut self, backlog: (usize, u64)) -> Self {
        self.log_backlog = backlog;
        self
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == Some(PostgresState::Running)
    }

    pub(crate) fn is_standby_cluster(&self) -> bool {
        self.status.settings.standby_cluster.is_some()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.status.settings.pause
    }

    pub(crate) fn is_unlocked(&self) -> bool {
        self.view.is_none_or(Cluster::is_unlocked)
    }

    pub(crate) fn is_failsafe_active(&self) -> bool {
        self.is_fresh && self.status.is_failsafe_active_at(self.now)
    }

    pub(crate) fn replication_state(&self) -> Option<ReplicationState> {
        self.server?.replication_state
    }

    /// Where the leader's WAL ends, as far as this member heard; `None` if nobody told.
    pub(crate) fn leader_lsn(&self) -> Option<Lsn> {
        let published = self.view.map(Cluster::optime);
        let announced = self.server.and_then(|server| server.latest_end_lsn);
        published.into_iter().chain(announced).max().filter(|lsn| *lsn > Lsn::ZERO)
    }

    /// (received, replayed); zero on a primary and where PostgreSQL does not answer.
    pub(crate) fn standby_positions(&self) -> (Lsn, Lsn) {
        match self.server.map(|server| &server.wal) {
            Some(WalStatus::Standby { received, replayed, .. }) => (*received, *replayed),
            _ => (Lsn::ZERO, Lsn::ZERO),
        }
    }
}
