//! The file system of the WAL. What fills it are slots: of members that are away, whose WAL nobody may remove.

use bellwether_ha::view::health::{Disk, Disks};

use crate::{event::HostId, world::World};

/// With less than two segments of 16 MB left it counts as full: the next one may not fit.
const FULL: u64 = 2 * 16 * 1024 * 1024;
/// PostgreSQL finds no room for another segment so much later.
const RESERVE: u64 = 200_000;
const SIZE: u64 = 10 << 30;
/// What clients write in a second, about.
const PACE: u64 = 20_000;

/// What else is on the file system leaves so much for WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    left: u64,
    /// What was held back when this was so.
    held_back: u64,
}

impl World {
    pub(crate) fn disk_fills(&mut self, host: HostId, left: u64) {
        let held_back = self.held_back(host);
        self.hosts[host].troubles.room = Some(Room { left, held_back });
    }

    /// Bytes of WAL that slots keep from being removed.
    fn held_back(&self, host: HostId) -> u64 {
        let data = &self.hosts[host].pg.data;
        let oldest = data.slots.values().map(|slot| slot.restart).min();
        oldest.map_or(0, |oldest| self.wal.lsn(data.flushed) - oldest)
    }

    /// Bytes that PostgreSQL can still take; `None`: more than enough.
    fn free(&self, host: HostId) -> Option<u64> {
        let room = self.hosts[host].troubles.room?;
        let more = self.held_back(host).saturating_sub(room.held_back);
        Some((FULL + room.left).saturating_sub(more))
    }

    /// Not another byte of WAL can be written.
    pub(crate) fn is_out_of_space(&self, host: HostId) -> bool {
        self.free(host).is_some_and(|free| free + RESERVE < FULL)
    }

    /// A write fails for want of space: PostgreSQL ends with a PANIC.
    pub(crate) fn pg_panics(&mut self, host: HostId) -> bool {
        let is_full = self.is_out_of_space(host);
        if is_full {
            self.note(host, "pg", &[11], || "PANIC: No space left on device".to_owned());
            self.pg_kill(host);
        }
        is_full
    }

    /// Whether a server could be started on this disk.
    pub(crate) fn can_write_at_start(&self, host: HostId) -> Result<(), &'static str> {
        if self.is_out_of_space(host) {
            return Err("No space left on device");
        }
        if self.hosts[host].troubles.read_only > 0 {
            return Err("Read-only file system");
        }
        Ok(())
    }

    pub(crate) fn disks_view(&self, host: HostId) -> Option<Disks> {
        if !self.scenario.gray {
            return None;
        }
        let h = &self.hosts[host];
        let read_only = h.troubles.read_only > 0;
        let free = self.free(host);
        let wal = Disk {
            size: SIZE,
            free: free.unwrap_or(SIZE / 2),
            read_only,
            full_in: free.map(|free| std::time::Duration::from_secs(free.saturating_sub(FULL) / PACE)),
        };
        let data = Disk { size: SIZE, free: SIZE / 2, read_only, full_in: None };
        Some(Disks { looked_at: h.clock(self.now), wal, data })
    }

    /// Flushes that waited go on.
    pub(crate) fn disk_works_again(&mut self, host: HostId) {
        self.hosts[host].disk_stalls -= 1;
        let server = self.hosts[host].pg.server_mut();
        server.into_iter().for_each(|server| server.flush_pending = false);
        self.flush_soon(host);
    }
}
