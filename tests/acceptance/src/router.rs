//! The proxies of a cluster's nodes.

use serde_json::{Value, json};

use crate::{ports::Ports, sql::SUPERUSER};

/// The ports of one node's proxy.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterPorts {
    pub primary: u16,
    pub replicas: u16,
    /// To the primary, a server for each transaction.
    pub pooled: u16,
    /// Reads at replicas, everything else at the primary.
    pub split: u16,
    /// The same, with reads that are at most a second old.
    pub bounded: u16,
}

impl RouterPorts {
    pub(crate) fn take(ports: &mut Ports) -> Self {
        let [primary, replicas, pooled, split, bounded] = [(); 5].map(|()| ports.take_one());
        Self { primary, replicas, pooled, split, bounded }
    }

    /// The section of the node's file.
    pub(crate) fn patch(&self) -> Value {
        json!({"router": {
            "bind": "127.0.0.1",
            "stats": {"enabled": false},
            "listeners": {
                "primary": {"port": self.primary},
                "replicas": {"port": self.replicas},
                "sync": {"enabled": false},
                "async": {"enabled": false},
                "split": {"port": self.split, "mode": "transaction", "split": "conservative", "split_wait": "500ms"},
                "bounded": {"port": self.bounded, "mode": "transaction", "split": "conservative", "split_max_lag": "1s"},
            },
        }, "pooler": {"listen_port": self.pooled, "admin_users": [SUPERUSER]}})
    }
}
