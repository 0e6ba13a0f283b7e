//! Data directories: founded, copied from another member, compared with the leader's and rewound to it.

use bellwether_ha::view::{ControlState, Divergence, Upstream};

use super::{CONNECT_TIMEOUT, LOOK_AGAIN, Next};
use crate::{
    event::HostId,
    pg::{Data, Files, Run},
    schedule::MILLIS,
    world::World,
};

impl World {
    pub(super) fn bootstrap(&mut self, host: HostId, step: u32) -> Next {
        match step {
            0 => Next::At(1, self.random.between(300, 1_500) * MILLIS),
            1 => {
                self.pg_initdb(host);
                match self.pg_start(host, false) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => match &self.hosts[host].pg.run {
                Run::Up(_) => Next::Succeeded,
                Run::Starting { .. } => Next::At(2, LOOK_AGAIN),
                Run::Down => Next::Failed("the server did not start"),
            },
        }
    }

    fn can_copy_from(&self, host: HostId, source: HostId) -> bool {
        source != host
            && self.is_way_open(host, source)
            && self.is_way_open(source, host)
            && self.is_consistent_clone_source(source)
    }

    pub(super) fn unreachable(&self, step: u32) -> Next {
        match step {
            0 => Next::At(1, CONNECT_TIMEOUT),
            _ => Next::SourceUnreachable("nobody is there"),
        }
    }

    pub(super) fn clone_from(&mut self, host: HostId, step: u32, from: Option<&Upstream>) -> Next {
        let Some(from) = from else { return Next::Failed("no method without a source") };
        let Some(source) = self.names.source(from) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source);
        let pg = &mut self.hosts[host].pg;
        match step {
            _ if !pg.is_down() => Next::Failed("the server runs"),
            0 if !reachable => Next::At(2, CONNECT_TIMEOUT),
            0 => {
                pg.data = Data { files: Files::Partial, ..Data::default() };
                Next::At(1, self.random.between(300, 5_000) * MILLIS)
            }
            1 if reachable => {
                self.pg_cloned(host, source);
                self.stats.clones += 1;
                Next::Succeeded
            }
            _ => Next::SourceUnreachable("could not connect to the source"),
        }
    }

    /// A big directory takes longer to remove than any lease lasts.
    pub(super) fn wipe(&mut self, host: HostId, step: u32) -> Next {
        let pg = &mut self.hosts[host].pg;
        if !pg.is_down() || pg.orphans.is_some() {
            return Next::Failed("the server runs");
        }
        if step > 0 {
            pg.data = Data::default();
            self.note(host, "pg", &[10], || "data directory removed".to_owned());
            return Next::Succeeded;
        }
        pg.data = Data { files: Files::Partial, ..Data::default() };
        Next::At(1, self.random.between(50, 20_000) * MILLIS)
    }

    pub(super) fn reinitialize(&mut self, host: HostId, step: u32, from: &Upstream) -> Next {
        let down = self.hosts[host].pg.is_down();
        match step {
            0 => {
                self.pg_stop(host, false);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !down => Next::At(1, LOOK_AGAIN),
            1 => {
                self.hosts[host].pg.orphans = None;
                self.clone_step(host, 0, from)
            }
            step => self.clone_step(host, step - 10, from),
        }
    }

    /// The steps of a clone, counted from ten.
    fn clone_step(&mut self, host: HostId, step: u32, from: &Upstream) -> Next {
        match self.clone_from(host, step, Some(from)) {
            Next::At(step, delay) => Next::At(step + 10, delay),
            other => other,
        }
    }

    pub(super) fn check_divergence(&mut self, host: HostId, step: u32, leader: &Upstream) -> Next {
        let Some(source) = self.names.source(leader) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source);
        match step {
            0 if !reachable => Next::At(2, CONNECT_TIMEOUT),
            0 => Next::At(1, self.random.between(2, 30) * MILLIS),
            1 if reachable => match self.divergence(host, source) {
                Some(found) => {
                    self.hosts[host].agent.mind.divergence = Some(found);
                    Next::Succeeded
                }
                None => Next::Failed("the local position is not known yet"),
            },
            _ => Next::SourceUnreachable("could not connect to the leader"),
        }
    }

    /// The evidence, collected as section 2.19.4 of the semantics tells.
    fn divergence(&self, host: HostId, source: HostId) -> Option<Divergence> {
        let (mine, theirs) = (&self.hosts[host].pg, &self.hosts[source].pg);
        let control = &mine.data.control;
        let lsn = |at| self.wal.lsn(at);
        let (local_timeline, local_lsn) = match (mine.server(), control.state) {
            (Some(_), _) => (self.wal.timeline(mine.data.flushed), lsn(mine.data.flushed)),
            (None, ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery) => {
                match control.minimum_recovery {
                    Some(at) => (self.wal.timeline(at), lsn(at)),
                    None => (control.timeline, control.checkpoint),
                }
            }
            (None, ControlState::ShutDown) => (control.timeline, control.checkpoint),
            _ => return None,
        };
        Some(Divergence {
            checked_at: self.hosts[host].clock(self.now),
            leader: self.names.of(source).clone(),
            leader_is_primary: theirs.is_primary(),
            leader_timeline: self.wal.timeline(theirs.data.flushed),
            leader_history: self.wal.history(theirs.data.flushed).to_vec(),
            local_timeline,
            local_history: self.wal.history(mine.data.flushed).to_vec(),
            local_lsn,
            local_was_primary: mine.server().is_none() && control.state == ControlState::ShutDown,
            shutdown_checkpoint_end: control.shutdown_end,
        })
    }

    pub(super) fn crash_recovery(&mut self, host: HostId, step: u32) -> Next {
        let pg = &self.hosts[host].pg;
        if !pg.is_down() || pg.orphans.is_some() || pg.data.files != Files::Present || pg.data.torn {
            return Next::Failed("single-user mode did not start");
        }
        if step == 0 {
            return Next::At(1, self.random.between(100, 3_000) * MILLIS);
        }
        self.pg_crash_recovered(host);
        Next::Succeeded
    }

    pub(super) fn rewind(&mut self, host: HostId, step: u32, source: &Upstream) -> Next {
        let Some(source) = self.names.source(source) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source) && self.hosts[source].pg.is_primary();
        let pg = &mut self.hosts[host].pg;
        match step {
            0 => {
                self.pg_stop(host, true);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !pg.is_down() => Next::At(1, LOOK_AGAIN),
            1 if !reachable => Next::At(3, CONNECT_TIMEOUT),
            1 if pg.data.files != Files::Present => Next::Failed("no data directory"),
            1 => {
                pg.data.torn = true;
                pg.data.control.state = ControlState::InArchiveRecovery;
                Next::At(2, self.random.between(200, 4_000) * MILLIS)
            }
            2 if reachable => {
                let (mine, theirs) = (self.hosts[host].pg.data.flushed, self.hosts[source].pg.data.flushed);
                if self.wal.common(mine, theirs).is_none() {
                    return Next::Failed("source and target cluster are from different systems");
                }
                self.pg_rewound(host, source);
                Next::Succeeded
            }
            _ => Next::SourceUnreachable("could not connect to the source"),
        }
    }
}
