//! Pools: one for each database, user, role and mode.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use bellwether_pgwire::auth::login::Login;
use bellwether_types::{MemberName, Timestamp};

use crate::{
    admin::Totals,
    quota::{Full, Names},
    routes::Target,
    settings::Mode,
    worker::epoll::Key,
};

/// A pool's place; pools are never removed while a worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolId(usize);

impl PoolId {
    /// As other threads know it.
    pub(super) fn number(self) -> usize {
        self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) database: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) target: Target,
    pub(super) mode: Mode,
    pub(super) startup: Settled,
}

/// What a session's servers are started with, so that RESET and DISCARD go back to it. Empty in other modes, where clients that
/// began differently share servers.
pub(super) type Settled = Arc<[(String, String)]>;

/// What a server says of itself to whoever logs in.
pub(super) type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) database: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) target: Target,
    pub(super) mode: Mode,
    pub(super) startup: Settled,
    /// Servers that nobody has; the one used last is taken first.
    pub(super) idle: Vec<Key>,
    /// Clients in the order in which they came.
    pub(super) waiting: VecDeque<Key>,
    /// Clients that wait to be let in.
    pub(super) newcomers: Vec<Key>,
    /// All servers, those included that are being opened.
    pub(super) open: usize,
    /// The same by member.
    pub(super) open_at: BTreeMap<MemberName, usize>,
    /// When it was last looked for a member that has no server of this pool.
    pub(super) spread_at: Timestamp,
    /// Servers that are being opened or given back.
    pub(super) coming: usize,
    /// What the last client has shown, which servers take as well.
    pub(super) login: Login,
    pub(super) parameters: Option<Arc<Parameters>>,
    /// After a failure nobody tries at once.
    pub(super) retry_at: Timestamp,
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    /// The limit that keeps it from opening a server; there is a claim to the next one then.
    pub(super) full: Option<Full>,
    /// Until then the next server that comes back is closed for others who wait.
    pub(super) owes_until: Timestamp,
    pub(super) totals: Totals,
}

#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: Vec<Pool>,
    by_key: HashMap<PoolKey, PoolId>,
    /// Some client has been dismissed and may not have gone yet.
    pub(super) leaving: bool,
    /// All pools are paused.
    pub(super) is_paused: bool,
    /// Databases whose pools are.
    pub(super) paused: BTreeSet<String>,
    /// Databases that nobody may log in to.
    pub(super) disabled: BTreeSet<String>,
    /// Clients at the door.
    pub(super) arriving: usize,
}

impl Pools {
    pub(super) fn get(&self, id: PoolId) -> &Pool {
        &self.pools[id.0]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: PoolId) -> &mut Pool {
        &mut self.pools[id.0]
    }

    pub(super) fn ids(&self) -> Vec<PoolId> {
        (0..self.pools.len()).map(PoolId).collect()
    }

    /// The pool that other threads know by this number.
    pub(super) fn id_of(&self, number: usize) -> Option<PoolId> {
        (number < self.pools.len()).then_some(PoolId(number))
    }

    /// The pool for these, which is made if there is none.
    pub(super) fn for_key(&mut self, key: PoolKey, login: Login) -> PoolId {
        if let Some(id) = self.by_key.get(&key) {
            // Who has shown a certificate brings nothing that a server takes: what another login has brought is worth more.
            if !matches!(login, Login::Nothing) {
                self.pools[id.0].login = login;
            }
            return *id;
        }
        let id = PoolId(self.pools.len());
        self.pools.push(Pool {
            database: key.database.clone(),
            user: key.user.clone(),
            target: key.target,
            mode: key.mode,
            startup: key.startup.clone(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            newcomers: Vec::new(),
            open: 0,
            open_at: BTreeMap::new(),
            spread_at: Timestamp::ZERO,
            coming: 0,
            login,
            parameters: None,
            retry_at: Timestamp::ZERO,
            failures: 0,
            last_error: None,
            full: None,
            owes_until: Timestamp::ZERO,
            totals: Totals::default(),
        });
        self.by_key.insert(key, id);
        id
    }

    pub(super) fn is_paused(&self, database: &str) -> bool {
        self.is_paused || self.paused.contains(database)
    }

    pub(super) fn is_restless(&self) -> bool {
        self.leaving
            || self.arriving > 0
            || self
                .pools
                .iter()
                .any(|pool| !pool.waiting.is_empty() || !pool.newcomers.is_empty() || pool.coming > 0)
    }
}

impl Pool {
    /// Takes a client out of the queues.
    pub(super) fn leave(&mut self, client: Key) {
        self.waiting.retain(|waiting| *waiting != client);
        self.newcomers.retain(|newcomer| *newcomer != client);
    }

    /// Takes note of a server of this member.
    pub(super) fn opened(&mut self, member: &MemberName) {
        self.open += 1;
        self.coming += 1;
        *self.open_at.entry(member.clone()).or_default() += 1;
    }

    /// And of its end.
    pub(super) fn closed(&mut self, member: &MemberName) {
        self.open -= 1;
        if let Some(open) = self.open_at.get_mut(member) {
            *open -= 1;
            if *open == 0 {
                self.open_at.remove(member);
            }
        }
    }

    /// What its servers count for.
    pub(super) fn names(&self) -> Names {
        Names { database: self.database.clone(), user: self.user.clone(), target: self.target }
    }

    /// Whether one more server should be opened, if that is allowed.
    pub(super) fn wants_more(&self, now: Timestamp) -> bool {
        let wanted = self.waiting.len() + usize::from(!self.newcomers.is_empty());
        self.coming < wanted && now >= self.retry_at
    }
}
