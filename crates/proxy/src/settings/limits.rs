//! How many servers and clients pools may have: for all, and for single databases and users.

use std::{collections::BTreeMap, time::Duration};

use super::{Mode, TimeoutOverrides, Timeouts};

/// The rule, in PgBouncer's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Servers for one database, user and role, in all threads.
    pub pool_size: usize,
    /// Servers that are kept while the pool has clients.
    pub min_pool_size: usize,
    /// Servers beyond `pool_size` for those who have waited for `reserve_pool_timeout`.
    pub reserve_pool_size: usize,
    /// Zero for never.
    pub reserve_pool_timeout: Duration,
    /// Servers for one database; `None` for as many as are wanted, here and below.
    pub max_db_connections: Option<usize>,
    /// Servers for one user.
    pub max_user_connections: Option<usize>,
    /// Clients of one database.
    pub max_db_client_connections: Option<usize>,
    /// Clients that are one user.
    pub max_user_client_connections: Option<usize>,
    pub timeouts: Timeouts,
    /// What differs, by database.
    pub databases: BTreeMap<String, Overrides>,
    /// What differs, by user; where both say something, the user counts.
    pub users: BTreeMap<String, Overrides>,
}

/// What differs for one database, or for one user. `None`: nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of the listener's.
    pub pool_mode: Option<Mode>,
    pub pool_size: Option<usize>,
    pub min_pool_size: Option<usize>,
    pub reserve_pool_size: Option<usize>,
    /// Servers of all its pools; zero for as many as are wanted.
    pub max_connections: Option<usize>,
    /// The same of clients.
    pub max_client_connections: Option<usize>,
    /// Zero for ever.
    pub server_lifetime: Option<Duration>,
    /// Of users only.
    pub timeouts: TimeoutOverrides,
    /// Reads stay at the primary, whatever the listener says.
    pub is_unsplit: bool,
}

/// What holds for one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimit {
    pub(crate) size: usize,
    pub(crate) min: usize,
    pub(crate) reserve: usize,
    pub(crate) max_db: Option<usize>,
    pub(crate) max_user: Option<usize>,
    pub(crate) max_db_clients: Option<usize>,
    pub(crate) max_user_clients: Option<usize>,
}

impl PoolLimits {
    pub(crate) fn of(&self, database: &str, user: &str) -> PoolLimit {
        let (database, user) = (self.databases.get(database), self.users.get(user));
        let either =
            |of: fn(&Overrides) -> Option<usize>| user.and_then(of).or_else(|| database.and_then(of));
        let own = |overrides: Option<&Overrides>, of: fn(&Overrides) -> Option<usize>, rule| match overrides
            .and_then(of)
        {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => rule,
        };
        let size = either(|it| it.pool_size).unwrap_or(self.pool_size).max(1);
        PoolLimit {
            size,
            min: either(|it| it.min_pool_size).unwrap_or(self.min_pool_size).min(size),
            reserve: either(|it| it.reserve_pool_size).unwrap_or(self.reserve_pool_size),
            max_db: own(database, |it| it.max_connections, self.max_db_connections),
            max_user: own(user, |it| it.max_connections, self.max_user_connections),
            max_db_clients: own(database, |it| it.max_client_connections, self.max_db_client_connections),
            max_user_clients: own(user, |it| it.max_client_connections, self.max_user_client_connections),
        }
    }

    /// How servers are shared, if not as the listener says.
    pub(crate) fn mode_of(&self, database: &str, user: &str) -> Option<Mode> {
        let mode = |own: Option<&Overrides>| own.and_then(|own| own.pool_mode);
        mode(self.users.get(user)).or_else(|| mode(self.databases.get(database)))
    }

    pub(crate) fn timeouts_of(&self, user: &str) -> Timeouts {
        self.timeouts.with(self.users.get(user).map(|own| own.timeouts).unwrap_or_default())
    }

    /// Whether reads of this user in this database may go to replicas.
    pub(crate) fn splits(&self, database: &str, user: &str) -> bool {
        let is_unsplit = |of: Option<&Overrides>| of.is_some_and(|it| it.is_unsplit);
        !is_unsplit(self.databases.get(database)) && !is_unsplit(self.users.get(user))
    }

    /// How long servers live that are connected to this database, if that differs.
    pub(crate) fn server_lifetime_in(&self, database: &str) -> Option<Duration> {
        self.databases.get(database)?.server_lifetime
    }
}

impl PoolLimit {
    /// For the table of all threads.
    pub(crate) fn servers(&self, with_reserve: bool) -> crate::quota::Limits {
        let reserve = if with_reserve { self.reserve } else { 0 };
        crate::quota::Limits { pool: self.size + reserve, database: self.max_db, user: self.max_user }
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            pool_size: 20,
            min_pool_size: 0,
            reserve_pool_size: 0,
            reserve_pool_timeout: Duration::from_secs(5),
            max_db_connections: None,
            max_user_connections: None,
            max_db_client_connections: None,
            max_user_client_connections: None,
            timeouts: Timeouts::default(),
            databases: BTreeMap::new(),
            users: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_counts_before_a_database_and_both_before_the_rule() {
        let overrides = |size| Overrides { pool_size: Some(size), ..Overrides::default() };
        let limits = PoolLimits {
            min_pool_size: 9,
            max_db_connections: Some(50),
            max_user_connections: Some(60),
            databases: [
                ("shop".into(), overrides(5)),
                ("free".into(), Overrides { max_connections: Some(0), ..Overrides::default() }),
            ]
            .into(),
            users: [("batch".into(), Overrides { max_connections: Some(2), ..overrides(3) })].into(),
            ..PoolLimits::default()
        };
        let of = |database, user| {
            let limit = limits.of(database, user);
            (limit.size, limit.min, limit.max_db, limit.max_user)
        };
        assert_eq!(of("other", "app"), (20, 9, Some(50), Some(60)));
        assert_eq!(of("shop", "app"), (5, 5, Some(50), Some(60)));
        assert_eq!(of("shop", "batch"), (3, 3, Some(50), Some(2)));
        assert_eq!(of("free", "app"), (20, 9, None, Some(60)));
    }
}
