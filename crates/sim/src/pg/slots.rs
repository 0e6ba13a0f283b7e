//! Replication slots: of members, and permanent ones, physical and logical. A consumer of a logical slot is always at the end.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_ha::view::{LeaderSlot, LeaderSlots, Slot, Upstream};
use bellwether_types::{Lsn, slots::LogicalSlot};

use crate::{event::HostId, world::World};

/// What is on disk of a slot.
#[derive(Clone, Debug, Default)]
pub struct SlotState {
    pub restart: Lsn,
    pub logical: Option<Logical>,
}

#[derive(Clone, Debug)]
pub struct Logical {
    pub slot: LogicalSlot,
    pub confirmed: Lsn,
    pub catalog_xmin: u32,
}

/// Transactions go on with the WAL.
fn xmin_at(at: Lsn) -> u32 {
    u32::try_from(at.0 >> 12).unwrap_or(u32::MAX)
}

impl World {
    pub(crate) fn create_slots(&mut self, host: HostId, names: BTreeSet<String>) {
        let restart = self.wal.lsn(self.hosts[host].pg.data.flushed);
        let slots = &mut self.hosts[host].pg.data.slots;
        for name in names {
            slots.entry(name).or_insert(SlotState { restart, logical: None });
        }
    }

    pub(crate) fn create_logical(&mut self, host: HostId, wanted: BTreeMap<String, LogicalSlot>) {
        let at = self.wal.lsn(self.hosts[host].pg.data.flushed);
        let slots = &mut self.hosts[host].pg.data.slots;
        for (name, slot) in wanted {
            let logical = Some(Logical { slot, confirmed: at, catalog_xmin: xmin_at(at) });
            slots.entry(name).or_insert(SlotState { restart: at, logical });
        }
    }

    pub(crate) fn advance_slots(&mut self, host: HostId, to: impl Iterator<Item = (String, Lsn)>) {
        for (name, to) in to {
            let Some(slot) = self.hosts[host].pg.data.slots.get_mut(&name) else { continue };
            slot.restart = slot.restart.max(to);
            if let Some(logical) = &mut slot.logical {
                logical.confirmed = logical.confirmed.max(to);
                logical.catalog_xmin = xmin_at(logical.confirmed);
            }
        }
    }

    /// The consumers of the primary have taken everything.
    pub(crate) fn consume(&mut self, host: HostId) {
        let is_held_back = self.hosts[host].troubles.long_transaction > 0;
        let pg = &mut self.hosts[host].pg;
        if pg.is_primary() {
            let at = self.wal.lsn(pg.data.flushed);
            let logical = pg.data.slots.values_mut().filter_map(|slot| slot.logical.as_mut());
            for logical in logical {
                logical.confirmed = at;
                if !is_held_back {
                    logical.catalog_xmin = xmin_at(at);
                }
            }
        }
    }

    /// A standby has told where it is.
    pub(crate) fn slot_follows(&mut self, up: HostId, down: HostId, to: Lsn) {
        if let Some(slot) = self.hosts[up].pg.data.slots.get_mut(self.names.of(down).as_str()) {
            slot.restart = slot.restart.max(to);
        }
    }

    /// pg_replication_slots
    pub(crate) fn slots_shown(&self, host: HostId) -> Vec<Slot> {
        let pg = &self.hosts[host].pg;
        let senders = pg.server().map(|server| server.senders.as_slice()).unwrap_or_default();
        let is_active = |name: &str| {
            senders.iter().any(|id| self.names.of(self.connections[*id as usize].down).as_str() == name)
        };
        let shown = |(name, slot): (&String, &SlotState)| {
            let logical = slot.logical.as_ref();
            Slot {
                name: name.clone(),
                physical: logical.is_none(),
                active: is_active(name) || (logical.is_some() && pg.is_primary()),
                restart_lsn: Some(slot.restart),
                database: logical.map(|logical| logical.slot.database.clone()),
                plugin: logical.map(|logical| logical.slot.plugin.clone()),
                confirmed_flush_lsn: logical.map(|logical| logical.confirmed),
                catalog_xmin: logical.map(|logical| logical.catalog_xmin),
                ..Slot::default()
            }
        };
        pg.data.slots.iter().map(shown).collect()
    }

    /// What the primary says of slots, with the state files of some; nothing if it cannot be reached.
    pub(crate) fn ask_leader_slots(
        &mut self,
        host: HostId,
        leader: &Upstream,
        names: &BTreeSet<String>,
        states_of: &BTreeSet<String>,
    ) {
        let Some(up) = self.names.source(leader) else { return };
        let is_there = self.hosts[up].pg.is_primary()
            && self.hosts[up].is_alive()
            && !self.hosts[up].pg.frozen
            && self.is_way_open(host, up)
            && self.is_way_open(up, host);
        if !is_there {
            return;
        }
        let theirs = &self.hosts[up].pg.data.slots;
        let told = |name: &String| {
            let slot = theirs.get(name)?;
            let logical = slot.logical.as_ref();
            let told = LeaderSlot {
                database: logical.map(|logical| logical.slot.database.clone()),
                plugin: logical.map(|logical| logical.slot.plugin.clone()),
                catalog_xmin: logical.map(|logical| logical.catalog_xmin).or_else(|| self.kept_for(name)),
                failover: false,
                has_state: states_of.contains(name),
            };
            Some((name.clone(), told))
        };
        let slots = names.iter().filter_map(told).collect();
        let states = states_of.iter().filter_map(|name| Some((name.clone(), theirs.get(name)?.clone())));
        let states = states.collect();
        let asked_at = self.hosts[host].clock(self.now);
        let mind = &mut self.hosts[host].agent.mind;
        mind.leader_slots = Some(LeaderSlots { asked_at, leader: leader.member.clone(), slots });
        mind.slot_states = states;
    }

    /// What a standby with feedback keeps the primary from removing, by its physical slot.
    fn kept_for(&self, slot: &str) -> Option<u32> {
        let member = (0..self.hosts.len()).find(|host| self.names.of(*host).as_str() == slot)?;
        let data = &self.hosts[member].pg.data;
        let copies = data.slots.values().filter_map(|slot| slot.logical.as_ref());
        copies.map(|logical| logical.catalog_xmin).min().filter(|_| data.feedback)
    }

    /// The state files that came last are put into place.
    pub(crate) fn put_slot_states(&mut self, host: HostId, names: &BTreeSet<String>) {
        let h = &mut self.hosts[host];
        for name in names {
            if let Some(state) = h.agent.mind.slot_states.get(name) {
                h.pg.data.slots.insert(name.clone(), state.clone());
            }
        }
    }
}
