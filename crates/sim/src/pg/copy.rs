//! Copies of data directories: base backup, rewind, single-user recovery. The effects; how long they take is the job's affair.

use bellwether_ha::view::ControlState;

use crate::{
    event::HostId,
    pg::{Data, Files},
    wal::RecordKind,
    world::World,
};

impl World {
    /// `pg_basebackup` is done: everything that `source` had flushed.
    pub(crate) fn pg_cloned(&mut self, host: HostId, source: HostId) {
        let from = &self.hosts[source].pg.data;
        let mut data = Data {
            files: Files::Present,
            system_id: from.system_id,
            flushed: from.flushed,
            control: from.control.clone(),
            backup_label: true,
            has_roles: from.has_roles,
            ..Data::default()
        };
        data.control.shutdown_end = None;
        data.control.minimum_recovery = Some(from.flushed);
        self.hosts[host].pg.data = data;
    }

    /// `pg_rewind` is done: what only the target had is gone, what the source has is there.
    pub(crate) fn pg_rewound(&mut self, host: HostId, source: HostId) {
        let (flushed, mut control) = {
            let from = &self.hosts[source].pg.data;
            (from.flushed, from.control.clone())
        };
        control.state = ControlState::InArchiveRecovery;
        control.minimum_recovery = Some(flushed);
        control.shutdown_end = None;
        let data = &mut self.hosts[host].pg.data;
        data.flushed = flushed;
        data.control = control;
        data.backup_label = true;
        data.torn = false;
        self.stats.rewinds += 1;
    }

    /// `postgres --single` replayed what it had and shut down cleanly.
    pub(crate) fn pg_crash_recovered(&mut self, host: HostId) {
        let data = &mut self.hosts[host].pg.data;
        data.control.checkpoint = self.wal.lsn(data.flushed);
        data.flushed = self.wal.append(data.flushed, 0x80, RecordKind::ShutdownCheckpoint, host);
        data.control.state = ControlState::ShutDown;
        data.control.timeline = self.wal.timeline(data.flushed);
        data.control.shutdown_end = Some(self.wal.lsn(data.flushed));
    }

    /// What the data directory of a former standby or primary shows as the end of its WAL when nobody runs it.
    pub(crate) fn is_consistent_clone_source(&self, host: HostId) -> bool {
        let h = &self.hosts[host];
        let is_whole = h.pg.data.files == Files::Present && h.troubles.damage.is_none();
        h.is_alive() && is_whole && !h.pg.frozen && h.pg.server().is_some_and(|server| server.stop.is_none())
    }
}
