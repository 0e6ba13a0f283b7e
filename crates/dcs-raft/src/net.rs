//! Frames between nodes: length-prefixed, over mutual TLS, many requests in flight on one connection.
//!
//! A connection begins with a [`message::Hello`] that names cluster, store and the node meant, so that two clusters
//! never mix and a message to a node that was replaced never reaches its successor.

mod certificates;
pub(crate) mod connection;
pub(crate) mod credentials;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod message;
pub(crate) mod raft_network;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bellwether_types::Timestamp;

use crate::{
    clock::now,
    config::TlsFiles,
    consensus::NodeId,
    net::credentials::{Credentials, CredentialsError},
};

/// What all connections of a process have in common.
pub(crate) struct Net {
    pub(crate) cluster: String,
    /// For connections to come; those that stand keep what they were opened with.
    credentials: RwLock<Credentials>,
    /// This node; `None` for a client without a vote.
    pub(crate) node: Option<NodeId>,
    /// The store this process belongs to, once known. Set by the node, or by the first answer a client gets.
    store: Mutex<Option<u64>>,
    isolated: AtomicBool,
    complaints: Throttle,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(
        cluster: String,
        credentials: Credentials,
        node: Option<NodeId>,
        store: Option<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            credentials: RwLock::new(credentials),
            node,
            store: Mutex::new(store),
            isolated: AtomicBool::new(false),
            complaints: Throttle::default(),
        })
    }

    /// What the next connection is opened or accepted with.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes other certificates into use for connections to come; after an error the present ones stay in force. Reads
    /// files: blocks for a moment.
    pub(crate) fn renew_certificates(
        &self,
        files: &TlsFiles,
        self_addr: Option<&str>,
    ) -> Result<(), CredentialsError> {
        if self.credentials().pinned {
            return Err(CredentialsError::OtherKind);
        }
        let renewed = certificates::read_acceptable(files, self_addr)?;
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    pub(crate) fn store(&self) -> Option<u64> {
        *self.store.lock().expect("no code panics while it holds the store's id")
    }

    pub(crate) fn set_store(&self, store: u64) {
        *self.store.lock().expect("no code panics while it holds the store's id") = Some(store);
    }

    /// Cuts this process off: nothing is sent and nothing that arrives is looked at. For drills and tests.
    pub(crate) fn set_isolated(&self, isolated: bool) {
        self.isolated.store(isolated, Ordering::SeqCst);
    }

    pub(crate) fn is_isolated(&self) -> bool {
        self.isolated.load(Ordering::SeqCst)
    }

    /// Whether to log a complaint about `subject` again: a peer that retries must not fill the log.
    pub(crate) fn may_complain(&self, subject: &str) -> bool {
        self.complaints.pass(subject, now())
    }
}

const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Throttle(Mutex<BTreeMap<String, Timestamp>>);

impl Throttle {
    fn pass(&self, subject: &str, now: Timestamp) -> bool {
        let mut last = self.0.lock().expect("no code panics while it holds the complaints");
        last.retain(|_, at| now.since(*at) < COMPLAINT_INTERVAL);
        if last.contains_key(subject) {
            return false;
        }
        last.insert(subject.to_owned(), now);
        true
    }
}
