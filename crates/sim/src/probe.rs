//! The commit that an agent tries on its primary, and what its PostgreSQL says of it.

use bellwether_ha::view::health::{Activity, Health, Probe, ProbeStage};
use bellwether_types::Timestamp;

use crate::{event::HostId, pg::Commit, wal::RecordKind, world::World};

/// A commit that was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    began_at: Timestamp,
    generation: u32,
    commit: Commit,
}

impl World {
    /// One at a time.
    pub(crate) fn probe_commit(&mut self, host: HostId) {
        let now = self.hosts[host].clock(self.now);
        let generation = self.hosts[host].pg.generation;
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if server.in_recovery || server.stop.is_some() {
            return;
        }
        if self.is_out_of_space(host) {
            self.pg_panics(host);
            return;
        }
        let server = self.hosts[host].pg.server_mut().expect("just seen");
        server.inserted = self.wal.append(server.inserted, 0x40, RecordKind::Commit, host);
        let commit = Commit { pos: server.inserted, lsn: self.wal.lsn(server.inserted) };
        server.waiting.push(commit);
        self.hosts[host].agent.mind.tried = Some(Tried { began_at: now, generation, commit });
        self.flush_soon(host);
    }

    pub(crate) fn health(&mut self, host: HostId) -> Health {
        let h = &self.hosts[host];
        let now = h.clock(self.now);
        let disks = self.disks_view(host);
        let checksum_failures = h.troubles.checksum_failures;
        let Some(server) = h.pg.server() else {
            return Health { disks, checksum_failures, ..Health::default() };
        };
        let flushed = self.wal.lsn(h.pg.data.flushed);
        let is_done = |tried: &Tried| server.waiting.iter().all(|waiting| waiting.lsn != tried.commit.lsn);
        let tried = h.agent.mind.tried.filter(|tried| tried.generation == h.pg.generation);
        let probe = tried.map(|tried| {
            let done = is_done(&tried);
            let after = h.agent.mind.probe_took.unwrap_or_else(|| now.since(tried.began_at));
            let stage = if done { ProbeStage::Committed { after } } else { ProbeStage::Committing };
            (done.then_some(after), Probe { began_at: tried.began_at, stage, at: Some(tried.commit.lsn) })
        });
        let flushing = server.waiting.iter().filter(|commit| commit.lsn > flushed).count();
        let waiting = server.waiting.len() - flushing;
        let waits = tried.is_some_and(|tried| !is_done(&tried) && tried.commit.lsn <= flushed);
        let count = |number: usize| u32::try_from(number).expect("few sessions");
        let activity = Activity {
            clients: if h.troubles.no_connections > 0 { 100 } else { count(server.waiting.len()) },
            clients_allowed: 100,
            flushing: count(flushing),
            waiting_for_standbys: count(waiting),
            probe_waits_for_standbys: waits,
        };
        let primary = !server.in_recovery;
        let took = probe.as_ref().and_then(|(took, _)| *took);
        self.hosts[host].agent.mind.probe_took = took;
        Health {
            probe: probe.map(|(_, probe)| probe),
            activity: primary.then_some(activity),
            disks,
            checksum_failures,
            ..Health::default()
        }
    }
}
