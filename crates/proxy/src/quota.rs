//! How many servers, and how many clients, all threads together may have.
//!
//! A table that the threads share. It is asked when a server connection is opened or closed and when a client logs in or
//! leaves, never while data moves. Where a limit is reached, the pool of a thread lays a claim: it is next when a server is
//! closed, in the order of the claims, and meanwhile others are asked for a server that they can spare. What the table wants
//! others to be told is returned as [`Notice`]s: it has no way to them itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_types::Timestamp;

use crate::routes::Target;

/// A claim that nobody has renewed for so long is none any more: its thread looks at it many times a second.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// How often all are asked for a server that they do not use.
const ASK_ALL: Duration = Duration::from_millis(200);

/// A pool of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Holder {
    pub(crate) worker: usize,
    pub(crate) pool: usize,
}

/// What a pool's servers count for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) target: Target,
}

/// The most servers; `None`: as many as are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For one database, user and role.
    pub(crate) pool: usize,
    /// For one database, whoever uses it.
    pub(crate) database: Option<usize>,
    /// For one user, in all databases.
    pub(crate) user: Option<usize>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Pool(usize),
    Database(usize),
    User(usize),
}

/// What somebody is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A server of this pool is wanted elsewhere: one that nobody uses, or, if it `must`, the next that comes back.
    Spare { holder: Holder, must: bool },
    /// This pool may open a server now.
    Room(Holder),
}

/// The table; cheap to ask.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    servers: Mutex<Table>,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Table {
    holders: BTreeMap<Holder, Held>,
    scopes: Vec<ScopeState>,
    by_scope: HashMap<Scope, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Pool(Names),
    Database(Arc<str>),
    User(Arc<str>),
}

/// Everything that counts for one limit.
#[derive(Debug, Default)]
struct ScopeState {
    used: usize,
    holders: Vec<Holder>,
    asked_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Held {
    /// Its places in `scopes`: pool, database, user.
    scopes: [usize; 3],
    used: usize,
    /// When it opened its last server.
    taken_at: Timestamp,
    claim: Option<Claim>,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    since: Timestamp,
    renewed_at: Timestamp,
    limits: Limits,
}

impl Limits {
    fn of(&self, scope: usize) -> usize {
        [Some(self.pool), self.database, self.user][scope].unwrap_or(usize::MAX)
    }

    fn full(&self, scope: usize) -> Full {
        match scope {
            0 => Full::Pool(self.of(0)),
            1 => Full::Database(self.of(1)),
            _ => Full::User(self.of(2)),
        }
    }
}

impl Quota {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more server of `holder`. If a limit is reached it counts nothing, and claims the next that is free; whether
    /// the claim is a new one is told with the limit.
    pub(crate) fn take(
        &self,
        holder: Holder,
        names: &Names,
        limits: Limits,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.table().take(holder, names, limits, now)
    }

    /// A server of `holder` has gone.
    pub(crate) fn give(&self, holder: Holder, now: Timestamp) -> Vec<Notice> {
        let mut table = self.table();
        let Some(held) = table.holders.get_mut(&holder) else { return vec![] };
        held.used = held.used.saturating_sub(1);
        let scopes = held.scopes;
        for scope in scopes {
            table.scopes[scope].used = table.scopes[scope].used.saturating_sub(1);
        }
        table.next_in(scopes, now)
    }

    /// `holder` needs no more servers than it has.
    pub(crate) fn withdraw(&self, holder: Holder, now: Timestamp) -> Vec<Notice> {
        let mut table = self.table();
        let Some(held) = table.holders.get_mut(&holder) else { return vec![] };
        let scopes = held.scopes;
        if held.claim.take().is_none() {
            return vec![];
        }
        table.next_in(scopes, now)
    }

    /// Servers for `names` in all threads.
    pub(crate) fn used(&self, names: &Names) -> usize {
        let table = self.table();
        table.by_scope.get(&Scope::Pool(names.clone())).map_or(0, |at| table.scopes[*at].used)
    }

    /// Whether more are there than may be: a limit has become lower.
    pub(crate) fn is_over(&self, holder: Holder, limits: Limits) -> bool {
        let table = self.table();
        let Some(held) = table.holders.get(&holder) else { return false };
        (0..3).any(|at| table.scopes[held.scopes[at]].used > limits.of(at))
    }
}

/// Why no server may be opened now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) full: Full,
    /// It did not wait before.
    pub(crate) is_new: bool,
    pub(crate) notices: Vec<Notice>,
}

impl Table {
    fn take(&mut self, holder: Holder, names: &Names, limits: Limits, now: Timestamp) -> Result<(), Refused> {
        let scopes = self.enter(holder, names);
        let claim = self.holders[&holder].claim;
        let since = claim.map_or(now, |claim| claim.since);
        let full = (0..3).find(|at| self.scopes[scopes[*at]].used >= limits.of(*at));
        let promised = || {
            (0..3).find(|at| {
                let free = limits.of(*at) - self.scopes[scopes[*at]].used;
                let earlier = self
                    .claims_in(scopes[*at], now)
                    .filter(|(other, _, claim)| *other != holder && (claim.since, *other) < (since, holder));
                earlier.count() >= free
            })
        };
        // Nobody overtakes those who wait for the same.
        if let Some(at) = full.or_else(promised) {
            let held = self.holders.get_mut(&holder).expect("it was entered");
            held.claim = Some(Claim { since, renewed_at: now, limits });
            let notices = if full.is_some() { self.ask(scopes[at], holder, now) } else { vec![] };
            return Err(Refused { full: limits.full(at), is_new: claim.is_none(), notices });
        }
        for scope in scopes {
            self.scopes[scope].used += 1;
        }
        let held = self.holders.get_mut(&holder).expect("it was entered");
        held.used += 1;
        held.taken_at = now;
        held.claim = None;
        Ok(())
    }

    fn enter(&mut self, holder: Holder, names: &Names) -> [usize; 3] {
        if let Some(held) = self.holders.get(&holder) {
            return held.scopes;
        }
        let scopes = [
            Scope::Pool(names.clone()),
            Scope::Database(names.database.clone()),
            Scope::User(names.user.clone()),
        ]
        .map(|scope| {
            let next = self.scopes.len();
            let at = *self.by_scope.entry(scope).or_insert(next);
            if at == next {
                self.scopes.push(ScopeState::default());
            }
            self.scopes[at].holders.push(holder);
            at
        });
        self.holders.insert(holder, Held { scopes, used: 0, taken_at: Timestamp::ZERO, claim: None });
        scopes
    }

    /// Claims that count for `scope` and could be met at once.
    fn claims_in(&self, scope: usize, now: Timestamp) -> impl Iterator<Item = (Holder, &Held, Claim)> {
        self.scopes[scope].holders.iter().filter_map(move |holder| {
            let held = &self.holders[holder];
            let claim = held.claim?;
            let is_met = (0..3).all(|at| self.scopes[held.scopes[at]].used < claim.limits.of(at));
            (is_met && now.since(claim.renewed_at) < FORGOTTEN).then_some((*holder, held, claim))
        })
    }

    /// Who is next now that something is free in these.
    fn next_in(&self, scopes: [usize; 3], now: Timestamp) -> Vec<Notice> {
        let next = scopes.into_iter().filter_map(|scope| {
            let claims = self.claims_in(scope, now);
            claims.min_by_key(|(holder, _, claim)| (claim.since, *holder)).map(|(holder, ..)| holder)
        });
        let next: std::collections::BTreeSet<Holder> = next.collect();
        next.into_iter().map(Notice::Room).collect()
    }

    /// Asks for a server: everybody for what is not used, and who has most, if that is more than fair, for the next that comes back.
    fn ask(&mut self, scope: usize, claimant: Holder, now: Timestamp) -> Vec<Notice> {
        let own = self.holders[&claimant].used;
        let others = self.scopes[scope].holders.iter().filter(|holder| **holder != claimant);
        let others: Vec<(Holder, usize, Timestamp)> = others
            .map(|holder| (*holder, self.holders[holder].used, self.holders[holder].taken_at))
            .filter(|(_, used, _)| *used > 0)
            .collect();
        let most = others.iter().max_by_key(|(holder, used, taken_at)| {
            (*used, std::cmp::Reverse(*taken_at), std::cmp::Reverse(*holder))
        });
        // To take one from somebody with one more would only move the want.
        let most = most.filter(|(_, used, _)| own == 0 || *used > own + 1).map(|(holder, ..)| *holder);
        let state = &mut self.scopes[scope];
        let asks_all = state.asked_at.is_none_or(|at| now.since(at) >= ASK_ALL);
        if asks_all {
            state.asked_at = Some(now);
        }
        others
            .iter()
            .map(|(holder, ..)| Notice::Spare { holder: *holder, must: Some(*holder) == most })
            .filter(|notice| asks_all || matches!(notice, Notice::Spare { must: true, .. }))
            .collect()
    }
}

/// Clients that have logged in.
#[derive(Debug, Default)]
struct Clients {
    databases: HashMap<Arc<str>, usize>,
    users: HashMap<Arc<str>, usize>,
}

/// The limit on clients that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    OfDatabase(usize),
    OfUser(usize),
}

impl Quota {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a client, unless there are too many.
    pub(crate) fn admit(
        &self,
        (database, most_of_database): (&Arc<str>, Option<usize>),
        (user, most_of_user): (&Arc<str>, Option<usize>),
    ) -> Result<(), TooMany> {
        let mut clients = self.clients();
        let count = |counts: &HashMap<Arc<str>, usize>, name| counts.get(name).copied().unwrap_or(0);
        if let Some(most) = most_of_database.filter(|most| count(&clients.databases, database) >= *most) {
            return Err(TooMany::OfDatabase(most));
        }
        if let Some(most) = most_of_user.filter(|most| count(&clients.users, user) >= *most) {
            return Err(TooMany::OfUser(most));
        }
        *clients.databases.entry(database.clone()).or_default() += 1;
        *clients.users.entry(user.clone()).or_default() += 1;
        Ok(())
    }

    /// A client that was counted has gone.
    pub(crate) fn dismiss(&self, database: &Arc<str>, user: &Arc<str>) {
        let mut clients = self.clients();
        let Clients { databases, users } = &mut *clients;
        for (counts, name) in [(databases, database), (users, user)] {
            if let Some(count) = counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
