//! How many servers and clients pools may have.

use std::{collections::BTreeMap, time::Duration};

use super::{MODES, read_lasting, read_span};
use crate::{section::Section, sections::router::ListenerMode};

/// For all pools, and what differs for single databases and users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    pub default_pool_size: usize,
    pub min_pool_size: usize,
    pub reserve_pool_size: usize,
    /// Zero: never.
    pub reserve_pool_timeout: Duration,
    /// Zero: as many as are wanted, here and below.
    pub max_db_connections: usize,
    pub max_user_connections: usize,
    pub max_db_client_connections: usize,
    pub max_user_client_connections: usize,
    pub timeouts: Timeouts,
    /// By database.
    pub databases: BTreeMap<String, Overrides>,
    /// By user.
    pub users: BTreeMap<String, Overrides>,
}

/// Zero is never; `None`: nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub query: Option<Duration>,
    pub transaction: Option<Duration>,
    pub idle_transaction: Option<Duration>,
    pub client_idle: Option<Duration>,
}

impl Timeouts {
    fn read(section: &Section<'_>) -> Self {
        Self {
            query: read_lasting(section, "query_timeout"),
            transaction: read_lasting(section, "transaction_timeout"),
            idle_transaction: read_lasting(section, "idle_transaction_timeout"),
            client_idle: read_lasting(section, "client_idle_timeout"),
        }
    }
}

/// What differs for one database or one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of the listener's.
    pub pool_mode: Option<ListenerMode>,
    pub pool_size: Option<usize>,
    pub min_pool_size: Option<usize>,
    pub reserve_pool_size: Option<usize>,
    /// `max_db_connections` or `max_user_connections`.
    pub max_connections: Option<usize>,
    /// `max_db_client_connections` or `max_user_client_connections`.
    pub max_client_connections: Option<usize>,
    pub server_lifetime: Option<Duration>,
    pub timeouts: Timeouts,
    /// Its reads stay at the primary, whatever the listener says.
    pub is_unsplit: bool,
}

impl PoolLimits {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let at_most = |key: &str| count(section, key, 0).unwrap_or(0);
        Self {
            default_pool_size: count(section, "default_pool_size", 1).unwrap_or(20),
            min_pool_size: at_most("min_pool_size"),
            reserve_pool_size: at_most("reserve_pool_size"),
            reserve_pool_timeout: read_span(section, "reserve_pool_timeout", 5),
            max_db_connections: at_most("max_db_connections"),
            max_user_connections: at_most("max_user_connections"),
            max_db_client_connections: at_most("max_db_client_connections"),
            max_user_client_connections: at_most("max_user_client_connections"),
            timeouts: Timeouts::read(section),
            databases: read_each(&section.child("databases"), |one| Overrides {
                min_pool_size: count(one, "min_pool_size", 0),
                max_connections: count(one, "max_db_connections", 0),
                max_client_connections: count(one, "max_db_client_connections", 0),
                server_lifetime: read_lasting(one, "server_lifetime"),
                ..Overrides::read(one)
            }),
            users: read_each(&section.child("users"), |one| Overrides {
                max_connections: count(one, "max_user_connections", 0),
                max_client_connections: count(one, "max_user_client_connections", 0),
                timeouts: Timeouts::read(one),
                ..Overrides::read(one)
            }),
        }
    }
}

impl Overrides {
    /// What may stand in both.
    fn read(one: &Section<'_>) -> Self {
        Self {
            pool_mode: one.choice("pool_mode", &MODES),
            pool_size: count(one, "pool_size", 1),
            reserve_pool_size: count(one, "reserve_pool_size", 0),
            is_unsplit: one.flag("split") == Some(false),
            ..Self::default()
        }
    }
}

fn read_each(section: &Section<'_>, read: impl Fn(&Section<'_>) -> Overrides) -> BTreeMap<String, Overrides> {
    let entries = section.entries().iter();
    entries.map(|entry| (entry.key.clone(), read(&section.child(&entry.key)))).collect()
}

fn count(section: &Section<'_>, key: &str, least: i64) -> Option<usize> {
    section.integer(key, least..=1_000_000).and_then(|n| usize::try_from(n).ok())
}
