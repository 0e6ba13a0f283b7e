//! The dynamic configuration (`/config`), parsed: how the cluster is to behave.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Duty, MemberName,
    slots::{PermanentSlot, SlotMatcher},
};

/// Whether commits wait for standbys, and how a promotion may trust them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMode {
    #[default]
    Off,
    /// A fixed list of synchronous standbys, every one of which has every commit.
    On,
    /// `ANY n (...)`: a promotion asks as many voters as it takes to meet every commit.
    Quorum,
}

/// Everything that `/config` decides about the decision core. Times are already adjusted to the timing rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub ttl: Duration,
    pub loop_wait: Duration,
    pub retry_timeout: Duration,
    /// Bytes that a candidate may lag behind the last published position.
    pub maximum_lag_on_failover: u64,
    /// Bytes that a synchronous standby may lag before it is replaced; `None` = no limit.
    pub maximum_lag_on_syncnode: Option<u64>,
    /// Entries kept in `/history`; 0 = all.
    pub max_timelines_history: usize,
    pub check_timeline: bool,
    /// How long a primary may take to start or recover before it is failed over; zero = fail over at once.
    pub primary_start_timeout: Duration,
    /// Each stage of stopping a synchronous primary; zero = wait for ever.
    pub primary_stop_timeout: Duration,
    pub primary_race_backoff: Duration,
    pub synchronous_mode: SyncMode,
    pub synchronous_mode_strict: bool,
    pub synchronous_node_count: u32,
    /// Replace a leader that too many voters have stopped hearing before its lease ends; for mode `quorum` only.
    #[serde(default)]
    pub quorum_takeover: bool,
    /// How long a voter must have got nothing from the primary before it suspects that it is gone.
    #[serde(default = "detect_timeout")]
    pub detect_timeout: Duration,
    pub failsafe_mode: bool,
    pub pause: bool,
    pub standby_cluster: Option<StandbyCluster>,
    /// How long the slot of an absent member is kept; zero = dropped at once.
    pub member_slots_ttl: Duration,
    pub use_slots: bool,
    /// Permanent replication slots by name.
    #[serde(default)]
    pub slots: BTreeMap<String, PermanentSlot>,
    /// Slots that are left alone.
    #[serde(default)]
    pub ignore_slots: Vec<SlotMatcher>,
    /// The database of a part of a Citus cluster: slots that Citus makes there to move or split shards are left alone.
    #[serde(default)]
    pub citus_database: Option<String>,
    pub use_pg_rewind: bool,
    pub remove_data_directory_on_rewind_failure: bool,
    pub remove_data_directory_on_diverged_timelines: bool,
    /// Commits are tried on the primary while others commit.
    #[serde(default = "yes")]
    pub commit_probe: bool,
    /// How long a leader may be in trouble before it hands over; zero = it never does. `None` = twice the `ttl`, 10 s at least.
    #[serde(default)]
    pub gray_failure_timeout: Option<Duration>,
    #[serde(default)]
    pub wal_disk_guard: WalDiskGuard,
    /// Members that take no readers; all others are ready.
    #[serde(default)]
    pub routing: BTreeMap<MemberName, Duty>,
}

fn yes() -> bool {
    true
}

/// What is done about a file system of `pg_wal` that fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalDiskGuard {
    pub mode: WalDiskMode,
    /// An alarm comes up when the disk will be full within this time.
    pub forecast: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WalDiskMode {
    Off,
    #[default]
    Alarm,
    /// Drop slots of members that are away, the one that holds back most first, when the disk is nearly full.
    EvictSlots,
}

impl Default for WalDiskGuard {
    fn default() -> Self {
        Self { mode: WalDiskMode::Alarm, forecast: Duration::from_secs(30 * 60) }
    }
}

/// A cluster that follows another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyCluster {
    /// A host, or several with commas between them.
    pub host: Option<String>,
    /// A port, or as many as there are hosts.
    pub port: Option<String>,
    /// The slot of the standby leader in that cluster; without a name it uses none.
    pub primary_slot_name: Option<String>,
    pub restore_command: Option<String>,
    #[serde(default)]
    pub archive_cleanup_command: Option<String>,
    /// For the standby leader only.
    #[serde(default)]
    pub recovery_min_apply_delay: Option<String>,
    /// How members of this cluster are copied; `None` = by pg_basebackup.
    #[serde(default)]
    pub create_replica_methods: Option<Vec<String>>,
}

fn detect_timeout() -> Duration {
    Duration::from_secs(1)
}

impl Default for Settings {
    /// Patroni's defaults.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            loop_wait: Duration::from_secs(10),
            retry_timeout: Duration::from_secs(10),
            maximum_lag_on_failover: 1_048_576,
            maximum_lag_on_syncnode: None,
            max_timelines_history: 0,
            check_timeline: false,
            primary_start_timeout: Duration::from_secs(300),
            primary_stop_timeout: Duration::ZERO,
            primary_race_backoff: Duration::ZERO,
            synchronous_mode: SyncMode::Off,
            synchronous_mode_strict: false,
            synchronous_node_count: 1,
            quorum_takeover: false,
            detect_timeout: detect_timeout(),
            failsafe_mode: false,
            pause: false,
            standby_cluster: None,
            member_slots_ttl: Duration::from_secs(30 * 60),
            use_slots: true,
            slots: BTreeMap::new(),
            ignore_slots: Vec::new(),
            citus_database: None,
            use_pg_rewind: false,
            remove_data_directory_on_rewind_failure: false,
            remove_data_directory_on_diverged_timelines: false,
            commit_probe: true,
            gray_failure_timeout: None,
            wal_disk_guard: WalDiskGuard::default(),
            routing: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The mode in force: a standby cluster has no synchronous replication.
    pub fn sync_mode(&self) -> SyncMode {
        if self.standby_cluster.is_some() { SyncMode::Off } else { self.synchronous_mode }
    }

    /// How long a leader may be in trouble before it hands over; `None` = it never does.
    pub fn gray_failure_limit(&self) -> Option<Duration> {
        let least = Duration::from_secs(10);
        let limit = self.gray_failure_timeout.unwrap_or_else(|| (self.ttl * 2).max(least));
        (!limit.is_zero()).then_some(limit)
    }

    /// The fewest synchronous standbys that commits may be left with.
    pub fn min_sync(&self) -> u32 {
        u32::from(self.synchronous_mode_strict)
    }

    /// How many synchronous standbys are wanted.
    pub fn wanted_sync(&self) -> u32 {
        self.synchronous_node_count.max(self.min_sync())
    }
}
