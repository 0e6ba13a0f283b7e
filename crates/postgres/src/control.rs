//! The control file (`pg_controldata`), typed.

use bellwether_types::{Lsn, SystemId, TimelineId};

/// What the control file says. Values of a running server may be as old as its last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    pub system_id: SystemId,
    pub state: ClusterState,
    /// Where the latest checkpoint record starts; after a clean stop, the shutdown checkpoint.
    pub checkpoint: Lsn,
    pub redo: Lsn,
    /// The timeline of the latest checkpoint.
    pub timeline: TimelineId,
    pub prev_timeline: TimelineId,
    /// How far a standby must replay before it is consistent; zero if it is not one.
    pub min_recovery_end: Lsn,
    pub min_recovery_timeline: TimelineId,
    /// Non-zero while a backup is being restored.
    pub backup_start: Lsn,
    pub backup_end: Lsn,
    pub end_of_backup_required: bool,
    pub data_checksums: bool,
    pub wal_log_hints: bool,
    pub wal_segment_size: u32,
    pub max_connections: u32,
    pub max_worker_processes: u32,
    pub max_wal_senders: u32,
    pub max_prepared_transactions: u32,
    pub max_locks_per_transaction: u32,
}

/// "Database cluster state".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
    Unknown,
}
