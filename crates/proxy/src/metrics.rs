//! What is counted: plain numbers that any thread may read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bellwether_types::MemberName;

/// A number that only grows, or one that follows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    pub fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }
}

/// The numbers of one listener.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    /// Clients that are connected.
    pub connections: Count,
    /// Clients that have been accepted.
    pub accepted: Count,
    /// Clients that wait for a member.
    pub waiting: Count,
    /// Clients of whom a load balancer has told where they are.
    pub proxied: Count,
    /// Bytes from clients.
    pub received: Count,
    /// Bytes to clients.
    pub sent: Count,
    /// Sessions that were ended because their member no longer serves them.
    pub cut: Count,
    /// Statements that were sent to another server, because the first was shut down before it did anything.
    pub repeated: Count,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    members: Mutex<BTreeMap<MemberName, Arc<MemberCounts>>>,
}

/// Connections of one listener, or of the pools of one target, to one member.
#[derive(Debug, Default)]
pub struct MemberCounts {
    pub current: Count,
    pub total: Count,
}

/// Counts as a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<MemberCounts>);

impl Counted {
    pub(crate) fn begin(counts: Arc<MemberCounts>) -> Self {
        counts.current.add(1);
        counts.total.add(1);
        Self(counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.current.sub(1);
    }
}

impl ListenerCounts {
    /// Rare: never on the path of data.
    pub(crate) fn refused(&self, why: &'static str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    pub(crate) fn member(&self, member: &MemberName) -> Arc<MemberCounts> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.entry(member.clone()).or_default().clone()
    }

    /// Connections to members.
    pub fn members(&self) -> BTreeMap<MemberName, Arc<MemberCounts>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Clients that were refused or cut, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Requests to cancel what a client of a pool does.
#[derive(Debug, Default)]
pub struct CancelCounts {
    /// A client of this node was found.
    pub found: Count,
    /// Another node, whose client's key it was, has taken it.
    pub sent_on: Count,
    /// Another node has sent it on to this one.
    pub received: Count,
    /// The other node did not take it, or too many came at once.
    pub dropped: Count,
}

/// All numbers of the proxy.
#[derive(Debug, Default)]
pub struct Metrics {
    listeners: Mutex<BTreeMap<Arc<str>, Arc<ListenerCounts>>>,
    /// Clients in all modes.
    pub clients: Count,
    /// Clients of pools, those at the door included.
    pub pooled: Count,
    /// How often a pool had to wait because of a limit: its own, its database's, its user's.
    pub full: [Count; 3],
    pub cancels: CancelCounts,
    /// Clients that were brought to a member, and how long that took them altogether.
    pub routed: Count,
    pub routed_micros: Count,
}

impl Metrics {
    /// Connections to a member at present, by all listeners and pools.
    pub(crate) fn connections_to(&self, member: &MemberName) -> u64 {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |counts: &Arc<ListenerCounts>| {
            counts.members().get(member).map_or(0, |counts| counts.current.get())
        };
        listeners.values().map(of).sum()
    }

    pub(crate) fn routed(&self, after: Duration) {
        self.routed.add(1);
        self.routed_micros.add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }

    /// The numbers of a listener; they outlive a reload that takes it away and brings it back.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerCounts> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.entry(name.clone()).or_default().clone()
    }

    pub fn listeners(&self) -> BTreeMap<Arc<str>, Arc<ListenerCounts>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
