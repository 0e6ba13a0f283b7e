//! How long writes are away, by event, for each stack: the same hosts, the same clients, the same events.

mod measure;
mod plot;
mod side_by_side;
mod table;

pub use measure::{Measured, StackReport, measure};
pub use side_by_side::{side_by_side, together};

use std::fmt;

use clap::ValueEnum;

use crate::faults::Fault;

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Event {
    /// The leader's link goes down; the store's leader is elsewhere.
    LinkDown,
    /// The same with the store's leader on that host.
    LinkDownStoreToo,
    /// Everything on the leader's host dies at once; the store's leader is elsewhere.
    PowerOff,
    /// The same with the store's leader on that host.
    PowerOffStoreToo,
    /// The store's leader dies, on another host than the cluster's leader.
    StoreLeaderKilled,
    /// The leader is cut off from its peers; clients still reach it.
    Isolated,
    PostgresKilled,
    PostgresFrozen,
    AgentKilled,
    AgentFrozen,
    GuardianKilled,
    Switchover,
    /// The members of the store do not hear each other for ten seconds.
    StoreMajorityLost,
}

impl Event {
    /// Whether the store's leader is to be on the leader's host; `None`: it does not matter.
    fn store_leader_on_it(self) -> Option<bool> {
        match self {
            Self::LinkDown | Self::PowerOff | Self::StoreLeaderKilled => Some(false),
            Self::LinkDownStoreToo | Self::PowerOffStoreToo => Some(true),
            _ => None,
        }
    }

    /// The harm that is done to the leader's host.
    fn fault(self) -> Fault {
        match self {
            Self::LinkDown | Self::LinkDownStoreToo => Fault::Cut,
            Self::PowerOff | Self::PowerOffStoreToo => Fault::PowerOff,
            Self::StoreLeaderKilled => Fault::StoreLeaderKilled,
            Self::Isolated => Fault::Isolated,
            Self::PostgresKilled => Fault::PostmasterKilled,
            Self::PostgresFrozen => Fault::PostgresFrozen,
            Self::AgentKilled => Fault::AgentKilled,
            Self::AgentFrozen => Fault::AgentFrozen,
            Self::GuardianKilled => Fault::GuardianKilled,
            Self::Switchover => Fault::Switchover,
            Self::StoreMajorityLost => Fault::StoreSplit,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no event is hidden");
        f.write_str(value.get_name())
    }
}
