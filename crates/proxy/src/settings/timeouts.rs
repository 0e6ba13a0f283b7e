//! How long clients may take: for all, and for single users.

use std::time::Duration;

/// Zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a server to answer.
    pub query: Duration,
    /// For a transaction, from its first statement on.
    pub transaction: Duration,
    /// For a client to go on with a transaction.
    pub idle_transaction: Duration,
    /// For a client between transactions to say something.
    pub client_idle: Duration,
}

/// What differs for one user. `None`: nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    pub query: Option<Duration>,
    pub transaction: Option<Duration>,
    pub idle_transaction: Option<Duration>,
    pub client_idle: Option<Duration>,
}

impl Timeouts {
    /// The same but for what is said there.
    pub fn with(self, own: TimeoutOverrides) -> Self {
        Self {
            query: own.query.unwrap_or(self.query),
            transaction: own.transaction.unwrap_or(self.transaction),
            idle_transaction: own.idle_transaction.unwrap_or(self.idle_transaction),
            client_idle: own.client_idle.unwrap_or(self.client_idle),
        }
    }
}
