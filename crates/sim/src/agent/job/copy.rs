//! Data directories: founded, copied from another member, compared with the leader's and rewound to it.

use bellwether_ha::view::{ControlState, Divergence, Upstream};
use bellwether_types::{Lsn, TimelineId};

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
            1 if self.is_bootstrap_failing() => Next::Failed("the custom bootstrap exited with status 1"),
            1 => {
                self.pg_initdb(host);
                match self.pg_start(host, false) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => self.founder_starts(host),
        }
    }

    fn founder_starts(&self, host: HostId) -> Next {
        match &self.hosts[host].pg.run {
            Run::Up(_) => Next::Succeeded,
            Run::Starting { .. } => Next::At(2, LOOK_AGAIN),
            Run::Down => Next::Failed("the server did not start"),
        }
    }

    fn can_copy_from(&self, host: HostId, source: HostId) -> bool {
        source != host
            && self.is_way_open(host, source)
            && self.is_way_open(source, host)
            && self.is_consistent_clone_source(source)
    }

    /// A standby cluster is founded by a copy of the other one.
    pub(super) fn bootstrap_standby(&mut self, host: HostId, step: u32, from: &Upstream) -> Next {
        match step {
            0 => Next::At(1, self.random.between(300, 4_000) * MILLIS),
            1 if !self.pg_copied_from_remote(host, true) => Next::SourceUnreachable("nobody is there"),
            1 => {
                self.hosts[host].pg.data.upstream = Some(from.clone());
                match self.pg_start(host, true) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => self.founder_starts(host),
        }
    }

    /// What takes a while, and the other cluster.
    fn with_remote(&mut self, step: u32, what: impl FnOnce(&mut Self) -> bool) -> Next {
        match step {
            0 if !self.is_remote_there() => Next::At(2, CONNECT_TIMEOUT),
            0 => Next::At(1, self.random.between(100, 3_000) * MILLIS),
            1 if what(self) => Next::Succeeded,
            _ => Next::SourceUnreachable("nobody is there"),
        }
    }

    pub(super) fn clone_from(&mut self, host: HostId, step: u32, from: Option<&Upstream>) -> Next {
        let Some(from) = from else { return self.restore_backup(host, step) };
        let Some(source) = self.names.source(from) else {
            if !self.hosts[host].pg.is_down() {
                return Next::Failed("the server runs");
            }
            return self.with_remote(step, |world| world.pg_copied_from_remote(host, false));
        };
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

    /// The method that needs no source.
    fn restore_backup(&mut self, host: HostId, step: u32) -> Next {
        match step {
            0 => Next::At(1, self.random.between(500, 10_000) * MILLIS),
            _ if !self.hosts[host].pg.is_down() => Next::Failed("the server runs"),
            _ => match self.pg_from_backup(host) {
                true => Next::Succeeded,
                false => Next::Failed("there is no backup yet"),
            },
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
        let Some(source) = self.names.source(leader) else {
            return self.with_remote(step, |world| world.compare_with_remote(host, leader));
        };
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

    /// Where the WAL of a member ends, as far as it knows.
    pub(crate) fn local_end(&self, host: HostId) -> Option<(TimelineId, Lsn)> {
        let mine = &self.hosts[host].pg;
        let control = &mine.data.control;
        let of = |at| (self.wal.timeline(at), self.wal.lsn(at));
        match (mine.server(), control.state) {
            (Some(_), _) => Some(of(mine.data.flushed)),
            (None, ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery) => {
                Some(control.minimum_recovery.map_or((control.timeline, control.checkpoint), of))
            }
            (None, ControlState::ShutDown) => Some((control.timeline, control.checkpoint)),
            _ => None,
        }
    }

    /// The evidence, collected as section 2.19.4 of the semantics tells.
    fn divergence(&self, host: HostId, source: HostId) -> Option<Divergence> {
        let (mine, theirs) = (&self.hosts[host].pg, &self.hosts[source].pg);
        let control = &mine.data.control;
        let (local_timeline, local_lsn) = self.local_end(host)?;
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
        let is_damaged = self.hosts[host].troubles.damage.is_some() || self.can_write_at_start(host).is_err();
        if is_damaged
            || !pg.is_down()
            || pg.orphans.is_some()
            || pg.data.files != Files::Present
            || pg.data.torn
        {
            return Next::Failed("single-user mode did not start");
        }
        if step == 0 {
            return Next::At(1, self.random.between(100, 3_000) * MILLIS);
        }
        self.pg_crash_recovered(host);
        Next::Succeeded
    }

    fn rewind_to_remote(&mut self, host: HostId, step: u32) -> Next {
        let is_down = self.hosts[host].pg.is_down();
        match step {
            0 => {
                self.pg_stop(host, true);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !is_down => Next::At(1, LOOK_AGAIN),
            1 if !self.is_remote_there() => Next::At(3, CONNECT_TIMEOUT),
            1 if self.hosts[host].troubles.rewind_fails > 0 => {
                Next::Failed("could not find previous WAL record")
            }
            1 => Next::At(2, self.random.between(200, 4_000) * MILLIS),
            2 if is_down && self.pg_rewound_to_remote(host) => Next::Succeeded,
            _ => Next::SourceUnreachable("could not connect to the source"),
        }
    }

    pub(super) fn rewind(&mut self, host: HostId, step: u32, source: &Upstream) -> Next {
        let Some(source) = self.names.source(source) else { return self.rewind_to_remote(host, step) };
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
                if self.hosts[host].troubles.rewind_fails > 0 {
                    return Next::Failed("could not find previous WAL record");
                }
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
