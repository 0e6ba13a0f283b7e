//! From the rows that there are to those that there should be.
//!
//! Citus sets the rules: the primary's row keeps its number for ever; no two rows have the same address, so an address is freed
//! before another row takes it; rows may always be changed, but added and removed only while every node has the metadata, which is
//! not so right after the primary's row was changed. What has to wait for that is done the next time.

use std::collections::BTreeSet;

use super::{Address, Change, NodeRole, PARKED, Row};

/// How the rows of a group should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) group: u32,
    pub(super) primary: Address,
    /// The primary is on its way out.
    pub(super) parked: bool,
    pub(super) secondaries: BTreeSet<Address>,
}

/// What leads there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order, in one transaction.
    pub(super) changes: Vec<Change>,
    /// The rows of the group afterwards, but for those that are added or removed.
    pub(super) rows: Vec<Row>,
}

impl Plan {
    fn set(&mut self, at: usize, address: Address, parked: bool) {
        let host = if parked { format!("{}{PARKED}", address.host) } else { address.host.clone() };
        let row = &mut self.rows[at];
        self.changes.push(Change::Update { id: row.id, host, port: address.port });
        row.address = address;
        row.parked = parked;
    }

    fn secondary_at(&self, address: &Address) -> Option<usize> {
        self.rows.iter().position(|row| row.role == NodeRole::Secondary && row.address == *address)
    }

    /// The secondaries that have no row yet, in order.
    fn missing(&self, goal: &Goal) -> Vec<Address> {
        let has_row = |address: &Address| self.rows.iter().any(|row| row.address == *address);
        goal.secondaries.iter().filter(|address| !has_row(address)).cloned().collect()
    }
}

/// `rows` are those of the group. `synced`: no open transaction has changed the primary's row.
pub(super) fn plan(rows: &[Row], goal: &Goal, synced: bool) -> Plan {
    let mut plan = Plan { changes: Vec::new(), rows: rows.to_vec() };
    let synced = match plan.rows.iter().position(|row| row.role == NodeRole::Primary) {
        Some(primary) => !move_primary(&mut plan, primary, goal) && synced,
        None if goal.parked => return plan,
        None => {
            let (group, address) = (goal.group, goal.primary.clone());
            plan.changes.push(Change::Add { group, address, role: NodeRole::Primary });
            synced
        }
    };
    settle_secondaries(&mut plan, goal, synced);
    plan
}

/// Whether the primary's row had to be changed.
fn move_primary(plan: &mut Plan, primary: usize, goal: &Goal) -> bool {
    let Row { address: old, parked, .. } = plan.rows[primary].clone();
    if old == goal.primary {
        if parked != goal.parked {
            plan.set(primary, old, goal.parked);
            return true;
        }
        return false;
    }
    if let Some(promoted) = plan.secondary_at(&goal.primary) {
        let stays = goal.secondaries.contains(&old);
        let newcomer = plan.missing(goal).into_iter().next();
        match newcomer.filter(|_| !stays) {
            Some(newcomer) => plan.set(promoted, newcomer, false),
            // Nobody else needs the row, and it cannot be removed now: it takes the old primary, if only for the time being.
            None => {
                if !parked {
                    plan.set(primary, old.clone(), true);
                }
                plan.set(promoted, old, false);
            }
        }
    }
    plan.set(primary, goal.primary.clone(), goal.parked);
    true
}

fn settle_secondaries(plan: &mut Plan, goal: &Goal, synced: bool) {
    let is_gone = |row: &Row| row.role == NodeRole::Secondary && !goal.secondaries.contains(&row.address);
    let gone: Vec<usize> = (0..plan.rows.len()).filter(|at| is_gone(&plan.rows[*at])).collect();
    let missing = plan.missing(goal);
    for (at, address) in gone.iter().zip(&missing) {
        plan.set(*at, address.clone(), false);
    }
    if !synced {
        return;
    }
    for at in gone.iter().skip(missing.len()) {
        let address = plan.rows[*at].address.clone();
        plan.changes.push(Change::Remove { address });
    }
    for address in missing.into_iter().skip(gone.len()) {
        plan.changes.push(Change::Add { group: goal.group, address, role: NodeRole::Secondary });
    }
}
