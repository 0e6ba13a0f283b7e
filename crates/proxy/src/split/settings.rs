//! How a listener, database or user splits.

use crate::settings::Balance;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitSettings {
    pub mode: Mode,
    pub consistency: Consistency,
    /// How long a replica is waited for that has not replayed a client's last write yet. Then it is the primary.
    pub wait: Duration,
    /// For so long after a write a client's reads go to the primary, where no WAL position is kept.
    pub sticky: Duration,
    /// A replica that has failed is left alone for so long; each failure in a row doubles it.
    pub ban_time: Duration,
    pub ban_time_most: Duration,
    /// A replica that is further behind is not asked. `None`: it may be as far behind as it likes.
    pub max_lag_bytes: Option<u64>,
    pub max_lag: Option<Duration>,
    /// Replicas in this zone are preferred to all others.
    pub zone: Option<String>,
    pub balance: Balance,
    pub fallback: Fallback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes to the primary.
    Off,
    /// Single reads outside of transactions, and transactions that say `READ ONLY`.
    Conservative,
    /// Besides, a transaction goes where its first statement belongs. A later write is then an error.
    Transaction,
    /// Only what the client sends there by a hint.
    Manual,
}

/// Which of its own and others' writes a client sees on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Whatever the replica has.
    Eventual,
    /// Nothing older than the limits of lag allow.
    Bounded,
    /// All of its own.
    Session,
    /// All that were acknowledged before, anybody's.
    Global,
}

/// What happens to a read when no replica may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    Primary,
    Error,
}

impl Default for SplitSettings {
    fn default() -> SplitSettings {
        SplitSettings {
            mode: Mode::Off,
            consistency: Consistency::Session,
            wait: Duration::from_millis(50),
            sticky: Duration::from_secs(5),
            ban_time: Duration::from_secs(5),
            ban_time_most: Duration::from_secs(60),
            max_lag_bytes: Some(100 << 20),
            max_lag: None,
            zone: None,
            balance: Balance::LeastConnections,
            fallback: Fallback::Primary,
        }
    }
}
