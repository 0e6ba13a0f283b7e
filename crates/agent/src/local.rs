//! What the agent knows about its own PostgreSQL between two ticks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bellwether_ha::view::{self, Divergence, Process, Upstream};
use bellwether_postgres::{
    config::PendingRestart,
    control::{ClusterState, ControlData},
    datadir::DataDirState,
    observation::{Observation, SlotRow, WalPositions, WalSenderRow},
    postmaster::Postmaster,
    settings::PgSettings,
};
use bellwether_types::{Lsn, PostgresState, Role, SystemId, TimelineId, Timestamp};

use crate::local_history::HistoryFile;

/// The local server: what was observed, and what we did to it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) postmaster: Option<Postmaster>,
    /// When this postmaster was first seen.
    pub(crate) postmaster_since: Timestamp,
    /// It has answered a query since it was seen.
    pub(crate) answered: bool,
    /// It was told to stop.
    pub(crate) stopping_since: Option<Timestamp>,
    pub(crate) state: PostgresState,
    pub(crate) role: Role,
    pub(crate) data: DataDirState,
    /// When the data directory was looked at.
    pub(crate) data_seen_at: Timestamp,
    pub(crate) system_id: Option<SystemId>,
    pub(crate) control: Option<ControlFacts>,
    pub(crate) observation: Option<(Timestamp, Observation)>,
    pub(crate) upstream: Option<Upstream>,
    /// The value of `synchronous_standby_names` that we wrote last; `None` = never in this life.
    pub(crate) sync_names: Option<String>,
    /// The checkpointer of this postmaster acts by the files as they were then, or later.
    pub(crate) checkpointer_read_at: Option<Timestamp>,
    /// The latest timeline that this postmaster was seen to receive WAL of. The control file tells it only after the next restart
    /// point, and the WAL receiver no more once it has lost its upstream.
    pub(crate) received_timeline: Option<TimelineId>,
    /// The startup process that was seen at the end of its own WAL: it looks for more now and then, and is not seen waiting for it meanwhile.
    own_wal_read_by: Option<i32>,
    /// Marks of a promotion that an earlier agent did not get to were looked for.
    pub(crate) forgot_skipped: bool,
    pub(crate) divergence: Option<Divergence>,
    /// Why histories could not be compared the last time.
    pub(crate) not_compared: Option<String>,
    /// What PostgreSQL said when it did not let the agent log in the last time.
    pub(crate) refuses_login: Option<String>,
    /// The history file of the timeline that is written, read once per timeline.
    pub(crate) history: HistoryFile,
    pub(crate) pending_restart: Vec<PendingRestart>,
    /// A user's command makes, or has made, the first data directory, and the bootstrap has not ended: the server recovers by files of
    /// its own.
    pub(crate) custom_bootstrap: bool,
    /// The job has begun to change the data files; until then they are whole, whatever the mark on disk says.
    pub(crate) files_changing: bool,
    /// What the job that starts the server was given to write into its files, until it has ended.
    pub(crate) given: Option<Given>,
    /// `hot_standby_feedback` is on in the files, whatever the user wants.
    pub(crate) feedback_forced: bool,
    pub(crate) slots: SlotFacts,
}

/// What the files of the server are made of.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) settings: Arc<PgSettings>,
    pub(crate) as_primary: bool,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) sync_names: Option<String>,
    pub(crate) feedback_forced: bool,
}

impl Given {
    /// Nothing of it has been replaced since. (New settings are a new object, even if they say the same.)
    pub(crate) fn is_still(&self, now: &Self) -> bool {
        Arc::ptr_eq(&self.settings, &now.settings)
            && self.as_primary == now.as_primary
            && self.upstream == now.upstream
            && self.sync_names == now.sync_names
            && self.feedback_forced == now.feedback_forced
    }
}

/// What was found out about logical slots beside the loop.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotFacts {
    pub(crate) of_leader: Option<view::LeaderSlots>,
    /// The state files that came with it.
    pub(crate) states: BTreeMap<String, Vec<u8>>,
    pub(crate) unusable: BTreeSet<String>,
}

/// The control file, and the files beside it that say how the server would start.
#[derive(Clone, Debug)]
pub(crate) struct ControlFacts {
    pub(crate) data: ControlData,
    pub(crate) has_recovery_signal: bool,
    pub(crate) has_backup_label: bool,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self {
            postmaster: None,
            postmaster_since: Timestamp::ZERO,
            answered: false,
            stopping_since: None,
            state: PostgresState::Stopped,
            role: Role::Uninitialized,
            data: DataDirState::Missing,
            data_seen_at: Timestamp::ZERO,
            system_id: None,
            control: None,
            observation: None,
            upstream: None,
            sync_names: None,
            checkpointer_read_at: None,
            received_timeline: None,
            own_wal_read_by: None,
            forgot_skipped: false,
            divergence: None,
            not_compared: None,
            refuses_login: None,
            history: HistoryFile::default(),
            pending_restart: Vec::new(),
            given: None,
            custom_bootstrap: false,
            files_changing: false,
            feedback_forced: false,
            slots: SlotFacts::default(),
        }
    }

    /// A postmaster was started or found.
    pub(crate) fn adopt(&mut self, postmaster: Postmaster, now: Timestamp) {
        self.postmaster = Some(postmaster);
        self.postmaster_since = now;
        self.answered = false;
        self.stopping_since = None;
        self.observation = None;
        self.checkpointer_read_at = None;
        self.received_timeline = None;
        self.forgot_skipped = false;
        self.state =
            if self.custom_bootstrap { PostgresState::BootstrapStarting } else { PostgresState::Starting };
    }

    /// The postmaster is gone.
    pub(crate) fn lost_postmaster(&mut self, expected: bool) {
        self.postmaster = None;
        self.answered = false;
        self.stopping_since = None;
        self.observation = None;
        self.refuses_login = None;
        self.checkpointer_read_at = None;
        self.control = None;
        self.pending_restart.clear();
        self.state = match self.state {
            PostgresState::Running | PostgresState::Starting if !expected => PostgresState::Crashed,
            PostgresState::Crashed => PostgresState::Crashed,
            // Down for a moment: the job that restarts it says how that ends.
            PostgresState::Restarting if expected => PostgresState::Restarting,
            _ => PostgresState::Stopped,
        };
    }

    /// An answer of the server, asked at `at`: what it is overrides what we thought it was.
    pub(crate) fn observed(&mut self, mut observation: Observation, at: Timestamp) {
        if observation.has_read_own_wal {
            self.own_wal_read_by = observation.startup_pid;
        } else if observation.startup_pid.is_some() {
            observation.has_read_own_wal = self.own_wal_read_by == observation.startup_pid;
        }
        self.answered = true;
        if self.stopping_since.is_none() {
            self.state = PostgresState::Running;
        }
        self.role = match (observation.in_recovery, self.role) {
            (false, Role::Demoted) if self.stopping_since.is_some() => Role::Demoted,
            (false, _) => Role::Primary,
            (true, keep @ (Role::StandbyLeader | Role::Promoted)) => keep,
            (true, _) => Role::Replica,
        };
        let received = observation.receiver.as_ref().and_then(|receiver| receiver.received_timeline);
        self.received_timeline = self.received_timeline.max(received);
        self.observation = Some((at, observation));
    }

    pub(crate) fn process(&self) -> Process {
        match (&self.postmaster, self.stopping_since) {
            (None, _) => Process::NotRunning,
            (Some(_), Some(since)) => Process::Stopping { since },
            (Some(_), None) if self.answered => Process::Running { since: self.postmaster_since },
            (Some(_), None) => Process::Starting { since: self.postmaster_since },
        }
    }

    /// The last answer and when it was asked for, if that is no longer ago than `limit`: what others may be told of where this
    /// server is.
    pub(crate) fn fresh(
        &self,
        now: Timestamp,
        limit: std::time::Duration,
    ) -> Option<(Timestamp, &Observation)> {
        let (asked_at, observation) = self.observation.as_ref()?;
        (now.since(*asked_at) <= limit).then_some((*asked_at, observation))
    }

    /// The timeline that [`Local::position`] is on: the one being written, or the latest that was received or replayed.
    pub(crate) fn timeline(&self) -> Option<TimelineId> {
        let (_, observation) = self.observation.as_ref()?;
        let reached = Some(observation.control_timeline).max(self.received_timeline);
        observation.timeline.or(reached).filter(|timeline| timeline.0 > 0)
    }

    /// Where the WAL of this server ends, as far as is known.
    pub(crate) fn position(&self) -> Option<Lsn> {
        self.observation.as_ref().map(|(_, observation)| match &observation.wal {
            WalPositions::Primary { flushed } => *flushed,
            WalPositions::Standby { received, replayed, .. } => received.unwrap_or(*replayed).max(*replayed),
        })
    }

    /// The running server's version, else the data directory's major one; 0 = unknown.
    pub(crate) fn server_version(&self) -> u32 {
        match &self.observation {
            Some((_, observation)) => observation.server_version,
            None => self.data.major().map_or(0, |major| major * 10_000),
        }
    }

    /// `interrupted`: the job that began to change these files and has not succeeded.
    pub(crate) fn data_view(&self, interrupted: Option<&view::JobKind>) -> view::DataDirectory {
        match &self.data {
            DataDirState::Incomplete { .. } | DataDirState::Present { .. } if interrupted.is_some() => {
                let by = interrupted.cloned().expect("just looked");
                view::DataDirectory::Interrupted { by }
            }
            DataDirState::Missing => view::DataDirectory::Missing,
            DataDirState::Empty => view::DataDirectory::Empty,
            DataDirState::Unreadable { reason } => view::DataDirectory::Unreadable(reason.clone()),
            DataDirState::Incomplete { reason } => view::DataDirectory::Invalid(reason.clone()),
            DataDirState::Present { .. } => view::DataDirectory::Present,
        }
    }

    pub(crate) fn control_view(&self) -> Option<view::Control> {
        let facts = self.control.as_ref()?;
        let nonzero = |lsn: Lsn| (lsn != Lsn::ZERO).then_some(lsn);
        Some(view::Control {
            state: control_state(facts.data.state),
            timeline: facts.data.timeline,
            checkpoint: facts.data.checkpoint,
            minimum_recovery_end: nonzero(facts.data.min_recovery_end),
            minimum_recovery_timeline: nonzero(facts.data.min_recovery_end)
                .map(|_| facts.data.min_recovery_timeline),
            rewindable: facts.data.data_checksums || facts.data.wal_log_hints,
            has_recovery_signal: facts.has_recovery_signal,
            has_backup_label: facts.has_backup_label,
        })
    }

    pub(crate) fn server_view(&self) -> Option<view::Server> {
        let (answered_at, observation) = self.observation.as_ref()?;
        let position = self.position().unwrap_or_default();
        let (received, replayed, replay_paused) = match &observation.wal {
            WalPositions::Primary { .. } => (position, position, false),
            WalPositions::Standby { received, replayed, paused, .. } => {
                (received.unwrap_or(*replayed), *replayed, *paused)
            }
        };
        let receiver = observation.receiver.as_ref();
        Some(view::Server {
            answered_at: *answered_at,
            in_recovery: observation.in_recovery,
            timeline: self.timeline(),
            position,
            has_read_own_wal: observation.has_read_own_wal,
            received,
            replayed,
            replay_paused,
            streaming: receiver.is_some_and(|receiver| receiver.status == "streaming"),
            receiver_source: receiver.and_then(|receiver| {
                Some(format!("{}:{}", receiver.sender_host.as_ref()?, receiver.sender_port?))
            }),
            synchronous_standby_names: observation.synchronous_standby_names.clone(),
            synchronous_commit: observation.synchronous_commit.clone(),
            standbys: observation.walsenders.iter().map(standby).collect(),
            slots: observation.slots.iter().map(slot).collect(),
            hot_standby_feedback: observation.hot_standby_feedback,
            wal_level: observation.wal_level.clone(),
            max_replication_slots: observation.max_replication_slots,
            kept_wal: observation.kept_wal,
        })
    }
}

fn control_state(state: ClusterState) -> view::ControlState {
    match state {
        ClusterState::StartingUp => view::ControlState::StartingUp,
        ClusterState::ShutDown => view::ControlState::ShutDown,
        ClusterState::ShutDownInRecovery => view::ControlState::ShutDownInRecovery,
        ClusterState::ShuttingDown => view::ControlState::ShuttingDown,
        ClusterState::InCrashRecovery => view::ControlState::InCrashRecovery,
        ClusterState::InArchiveRecovery => view::ControlState::InArchiveRecovery,
        ClusterState::InProduction => view::ControlState::InProduction,
        ClusterState::Unknown => view::ControlState::Unknown,
    }
}

fn standby(row: &WalSenderRow) -> view::Standby {
    view::Standby {
        application_name: row.application_name.clone(),
        connection: format!("{}@{}", row.pid, row.backend_start_unix_micros),
        state: row.state.clone(),
        sync_state: row.sync_state.clone(),
        write: row.write,
        flush: row.flush,
        replay: row.replay,
    }
}

fn slot(row: &SlotRow) -> view::Slot {
    view::Slot {
        name: row.name.clone(),
        physical: row.is_physical(),
        temporary: row.temporary,
        active: row.active,
        restart_lsn: row.restart_lsn,
        has_xmin: row.has_xmin,
        wal_status_lost: row.wal_status.as_deref() == Some("lost"),
        database: row.database.clone(),
        plugin: row.plugin.clone(),
        confirmed_flush_lsn: row.confirmed_flush_lsn,
        catalog_xmin: row.catalog_xmin,
        failover: row.failover,
        synced: row.synced,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn standby_observation() -> Observation {
        Observation {
            server_version: 150_018,
            postmaster_start_time: String::new(),
            postmaster_start_unix: 0.0,
            in_recovery: true,
            timeline: None,
            control_timeline: TimelineId(1),
            wal: WalPositions::Standby {
                received: Some(Lsn(100)),
                replayed: Lsn(100),
                paused: false,
                replayed_timestamp: None,
                replayed_unix: None,
            },
            has_read_own_wal: true,
            startup_pid: None,
            receiver: None,
            synchronous_standby_names: String::new(),
            synchronous_commit: "on".into(),
            restore_command: String::new(),
            primary_conninfo: String::new(),
            primary_slot_name: String::new(),
            walsenders: Vec::new(),
            slots: Vec::new(),
            hot_standby_feedback: false,
            wal_level: "replica".into(),
            max_replication_slots: 10,
            kept_wal: 0,
            activity: None,
        }
    }

    #[test]
    fn what_a_startup_process_has_read_stays_read_until_there_is_another_one() {
        let mut local = Local::new();
        let mut seen = |at_end, pid| {
            let observation =
                Observation { has_read_own_wal: at_end, startup_pid: Some(pid), ..standby_observation() };
            local.observed(observation, Timestamp::default());
            local.server_view().unwrap().has_read_own_wal
        };
        assert_eq!([seen(false, 7), seen(true, 7), seen(false, 7)], [false, true, true]);
        assert_eq!(
            [seen(false, 8), seen(true, 8)],
            [false, true],
            "PostgreSQL has restarted it after a crash"
        );
    }

    #[test]
    fn the_state_tells_why_a_postmaster_is_gone() {
        for (before, expected, after) in [
            (PostgresState::Running, false, PostgresState::Crashed),
            (PostgresState::Stopping, true, PostgresState::Stopped),
            (PostgresState::Restarting, true, PostgresState::Restarting),
            (PostgresState::Crashed, false, PostgresState::Crashed),
        ] {
            let mut local = Local { state: before, ..Local::new() };
            local.lost_postmaster(expected);
            assert_eq!(local.state, after, "{before:?}, expected: {expected}");
        }
    }
}
