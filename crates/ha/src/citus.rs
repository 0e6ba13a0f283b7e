//! Citus: what the leader of the coordinator does about `pg_dist_node`, the table that says where every group's nodes are.
//!
//! [`Register`] takes in what the store says of the groups ([`Group`]) and what their leaders report ([`CitusEvent`]), and says what is to
//! be done next ([`Next`]). Like everything here it is pure: whoever runs the statements tells how they ended. It decides nothing
//! about who leads, and nothing that does waits for it.
//!
//! A worker that is about to give up its primary says so first. Its row is then changed in a transaction that stays open, so that
//! queries wait for the new primary instead of failing; the new primary's report ends it. A report that never comes must not
//! block the group for ever (P22): at its deadline the transaction ends either way.

mod changes;
mod register;

use std::{collections::BTreeSet, fmt};

use bellwether_types::MemberName;

pub use bellwether_types::citus::{CitusEvent, CitusEventKind};
pub use register::{Cause, End, Next, Register, Ticket, Work};

/// The coordinator's group.
pub const COORDINATOR: u32 = 0;

/// What is written behind the host of a primary that is being replaced: nobody can be reached there.
const PARKED: &str = "-demoted";

/// Where a node is reached. No two rows have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What a node is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    Primary,
    Secondary,
}

impl NodeRole {
    /// As `noderole` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// A row of `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub group: u32,
    pub address: Address,
    pub role: NodeRole,
    /// The host is made unreachable, in the transaction that is open.
    pub parked: bool,
}

impl Row {
    /// As it was read outside of any transaction of ours.
    pub fn new(id: i64, group: u32, address: Address, role: NodeRole) -> Self {
        Self { id, group, address, role, parked: false }
    }
}

/// A group as the store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub leader: Option<GroupLeader>,
    /// Members other than the leader that may serve reads.
    pub secondaries: BTreeSet<Address>,
}

/// Who holds the leader lock of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLeader {
    pub name: MemberName,
    pub address: Address,
    /// It says that it runs as a primary.
    pub is_primary: bool,
}

/// One change of `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Update { id: i64, host: String, port: u16 },
    Add { group: u32, address: Address, role: NodeRole },
    Remove { address: Address },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update { id, host, port } => write!(f, "node {id} is at {host}:{port}"),
            Self::Add { address, role, .. } => write!(f, "added {address} as {}", role.as_str()),
            Self::Remove { address } => write!(f, "removed {address}"),
        }
    }
}
