//! A base backup in an archive: what a cluster is founded from, and what a member without data takes when nobody can be copied.

use bellwether_ha::view::ControlState;

use crate::{
    event::{HostId, PostgresEvent},
    pg::{ControlFile, Data, Files},
    schedule::MILLIS,
    wal::Pos,
    world::World,
};

/// The last backup.
#[derive(Clone, Debug)]
pub struct Backup {
    system_id: Option<bellwether_types::SystemId>,
    flushed: Pos,
    control: ControlFile,
}

impl World {
    /// Once, when the cluster has just been founded: so it is old when it is needed.
    pub(crate) fn back_up(&mut self, primary: HostId) {
        let data = &self.hosts[primary].pg.data;
        let (system_id, flushed, control) = (data.system_id, data.flushed, data.control.clone());
        self.backup = Some(Backup { system_id, flushed, control });
    }

    pub(crate) fn pg_from_backup(&mut self, host: HostId) -> bool {
        let Some(Backup { system_id, flushed, mut control }) = self.backup.clone() else { return false };
        (control.state, control.shutdown_end) = (ControlState::InArchiveRecovery, None);
        control.minimum_recovery = Some(flushed);
        let files = Files::Present;
        self.hosts[host].pg.data = Data {
            files,
            system_id,
            flushed,
            control,
            backup_label: true,
            has_roles: true,
            ..Data::default()
        };
        true
    }

    /// A cluster that is founded from a backup replays the archive before anybody may write.
    pub(crate) fn is_restoring(&self, host: HostId) -> bool {
        self.scenario.restores && self.hosts[host].pg.data.in_the_making
    }

    pub(crate) fn restore_goes_on(&mut self, host: HostId) {
        let delay = self.random.between(100, 8_000) * MILLIS;
        self.pg_later(host, delay, PostgresEvent::Restored);
    }
}
