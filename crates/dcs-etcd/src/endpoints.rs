//! The endpoints that we know, and which of them to ask first.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bellwether_dcs::store;
use bellwether_types::Timestamp;

use crate::{config::Endpoint, connection::Connection};

/// An endpoint that failed is asked after the others for so long.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

/// One endpoint with its connection.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) endpoint: Endpoint,
    /// Held while connecting, so that callers share one connection.
    pub(crate) connection: tokio::sync::Mutex<Option<Connection>>,
    /// Nanoseconds of CLOCK_BOOTTIME; zero = it answered last.
    failed_at: AtomicU64,
}

impl Slot {
    fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self { endpoint, connection: tokio::sync::Mutex::default(), failed_at: AtomicU64::new(0) })
    }

    fn failed_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.failed_at.load(Ordering::Relaxed))
    }
}

/// The list. An endpoint that works is kept until it fails.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    /// From the configuration or DNS.
    written: Vec<Arc<Slot>>,
    /// From the cluster itself.
    advertised: Vec<Arc<Slot>>,
    preferred: Option<Arc<Slot>>,
}

impl Endpoints {
    /// Replaces the endpoints of the configuration. Those that stay keep their connections.
    pub(crate) fn write(&self, endpoints: &[Endpoint]) {
        let mut list = self.lock();
        list.written = list.slots_of(endpoints);
        list.forget_unlisted();
    }

    /// Replaces the endpoints that the cluster told us of, as far as they fit the written ones.
    pub(crate) fn advertise(&self, endpoints: &[Endpoint]) {
        let mut list = self.lock();
        let written: Vec<Endpoint> = list.written.iter().map(|slot| slot.endpoint.clone()).collect();
        let fitting: Vec<Endpoint> = endpoints
            .iter()
            .filter(|endpoint| endpoint.fits(&written) && !written.contains(endpoint))
            .cloned()
            .collect();
        list.advertised = list.slots_of(&fitting);
        list.forget_unlisted();
    }

    /// All of them, the best first: the one that answered last, those that have not failed lately, and the rest with those
    /// that failed longest ago first.
    pub(crate) fn in_order(&self) -> Vec<Arc<Slot>> {
        let list = self.lock();
        let shunned_after = store::now().saturating_sub(SHUNNED_FOR);
        let mut slots: Vec<Arc<Slot>> = list.written.iter().chain(&list.advertised).cloned().collect();
        slots.sort_by_key(|slot| {
            let failed_at = slot.failed_at();
            let preferred = list.preferred.as_ref().is_some_and(|preferred| Arc::ptr_eq(preferred, slot));
            let shunned = failed_at > shunned_after;
            (shunned, !preferred, if shunned { failed_at } else { Timestamp::default() })
        });
        slots
    }

    pub(crate) fn answered(&self, slot: &Arc<Slot>) {
        slot.failed_at.store(0, Ordering::Relaxed);
        let mut list = self.lock();
        // A late answer of one that failed meanwhile does not take us back while another one works.
        match &list.preferred {
            Some(preferred) if preferred.failed_at() == Timestamp::default() => return,
            Some(preferred) => {
                tracing::info!(left = %preferred.endpoint, endpoint = %slot.endpoint, "etcd is asked through another member");
            }
            None => tracing::debug!(endpoint = %slot.endpoint, "etcd is asked through this member"),
        }
        list.preferred = Some(slot.clone());
    }

    /// Its connection is not used for anything new; what is under way on it may still end well.
    pub(crate) fn failed(&self, slot: &Slot) {
        slot.failed_at.store(store::now().as_nanos(), Ordering::Relaxed);
        if let Ok(mut connection) = slot.connection.try_lock() {
            *connection = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn slots_of(&self, endpoints: &[Endpoint]) -> Vec<Arc<Slot>> {
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for endpoint in endpoints {
            if slots.iter().any(|slot| slot.endpoint == *endpoint) {
                continue;
            }
            let known = self.written.iter().chain(&self.advertised).find(|slot| slot.endpoint == *endpoint);
            slots.push(known.cloned().unwrap_or_else(|| Slot::new(endpoint.clone())));
        }
        slots
    }

    fn forget_unlisted(&mut self) {
        let listed = |slot: &Arc<Slot>| {
            self.written.iter().chain(&self.advertised).any(|listed| Arc::ptr_eq(listed, slot))
        };
        if !self.preferred.as_ref().is_some_and(listed) {
            self.preferred = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(endpoints: &Endpoints) -> Vec<u16> {
        endpoints.in_order().iter().map(|slot| slot.endpoint.port).collect()
    }

    fn slot(endpoints: &Endpoints, port: u16) -> Arc<Slot> {
        endpoints.in_order().into_iter().find(|slot| slot.endpoint.port == port).unwrap()
    }

    #[test]
    fn the_one_that_works_is_kept_and_the_one_that_failed_waits() {
        let endpoints = Endpoints::default();
        let all = [1, 2, 3].map(|port| Endpoint::new(false, "127.0.0.1", port));
        endpoints.write(&all[..2]);
        assert_eq!(order(&endpoints), [1, 2]);
        endpoints.advertise(&all);
        assert_eq!(order(&endpoints), [1, 2, 3]);
        let (one, two) = (slot(&endpoints, 1), slot(&endpoints, 2));
        endpoints.answered(&two);
        assert_eq!(order(&endpoints), [2, 1, 3]);
        endpoints.failed(&two);
        assert_eq!(order(&endpoints), [1, 3, 2]);
        endpoints.answered(&one);
        endpoints.answered(&two);
        assert_eq!(order(&endpoints), [1, 2, 3], "one that works is not left for one that works again");
        endpoints.failed(&one);
        endpoints.failed(&two);
        assert_eq!(order(&endpoints), [3, 1, 2], "of those that failed the one that had longest to recover");
        endpoints.advertise(&[Endpoint::new(true, "127.0.0.1", 4), Endpoint::new(false, "127.0.0.1", 5)]);
        assert_eq!(order(&endpoints), [5, 1, 2], "replaced, and nothing with another protection");
    }
}
