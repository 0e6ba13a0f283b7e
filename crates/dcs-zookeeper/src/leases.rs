//! The leases that were granted here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bellwether_types::LeaseId;
use tokio_util::task::AbortOnDropHandle;

use crate::{lease::Lease, servers::Servers};

#[derive(Debug, Default)]
pub(crate) struct Leases {
    kept: Mutex<BTreeMap<LeaseId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    lease: Arc<Lease>,
    keeper: AbortOnDropHandle<()>,
}

impl Leases {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new lease until it is over.
    pub(crate) fn add(&self, lease: Lease, servers: &Arc<Servers>) -> LeaseId {
        let (id, lease, servers) = (lease.id, Arc::new(lease), servers.clone());
        let keeping = lease.clone();
        let keeper = AbortOnDropHandle::new(tokio::spawn(async move { keeping.keep(&servers).await }));
        let mut kept = self.kept();
        kept.retain(|_, kept| !kept.keeper.is_finished());
        kept.insert(id, Kept { lease, keeper });
        id
    }

    /// `None` if it was never granted here, or is long gone.
    pub(crate) fn get(&self, id: LeaseId) -> Option<Arc<Lease>> {
        self.kept().get(&id).map(|kept| kept.lease.clone())
    }

    pub(crate) fn remove(&self, id: LeaseId) {
        self.kept().remove(&id);
    }
}
