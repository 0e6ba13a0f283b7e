//! Clients that write to whichever server accepts writes, isolated ones included: there are clients on both sides of a partition.

use bellwether_types::Lsn;

use crate::{
    event::{HostId, PostgresEvent},
    pg::{Commit, Run},
    schedule::MILLIS,
    wal::{Pos, RecordKind},
    world::World,
};

/// More commits than that do not wait at once: every session is busy.
const SESSIONS: usize = 8;

impl World {
    pub(crate) fn clients_begin(&mut self, host: HostId) {
        let delay = self.random.between(1, self.scenario.write_interval);
        self.pg_later(host, delay, PostgresEvent::ClientWrites);
    }

    pub(crate) fn client_writes(&mut self, host: HostId) {
        let interval = self.scenario.write_interval;
        let size = self.random.between(100, 20_000);
        let delay = self.random.between(interval / 2, interval * 3 / 2);
        let Run::Up(server) = &self.hosts[host].pg.run else { return };
        if server.in_recovery || !server.serves || self.pg_panics(host) {
            return;
        }
        let Run::Up(server) = &mut self.hosts[host].pg.run else { return };
        if server.waiting.len() < SESSIONS {
            server.inserted = self.wal.append(server.inserted, size, RecordKind::Commit, host);
            server.waiting.push(Commit { pos: server.inserted, lsn: self.wal.lsn(server.inserted) });
            self.stats.writes += 1;
            self.flush_soon(host);
        }
        self.pg_later(host, delay, PostgresEvent::ClientWrites);
    }

    /// Commits that are flushed here and, with `upto`, also at enough standbys, are reported as done.
    pub(crate) fn answer_waiting(&mut self, host: HostId, upto: Option<Lsn>) {
        let thawed_until = self.hosts[host].thawed_until;
        if self.now < thawed_until {
            // Nothing else may happen that would look again.
            return self.pg_later(host, thawed_until - self.now, PostgresEvent::Flushed);
        }
        let pg = &mut self.hosts[host].pg;
        let flushed = self.wal.lsn(pg.data.flushed);
        let Run::Up(server) = &mut pg.run else { return };
        if pg.frozen || !server.serves {
            return;
        }
        let upto = upto.map_or(flushed, |lsn| lsn.min(flushed));
        let done = server.waiting.iter().take_while(|commit| commit.lsn <= upto).count();
        if done == 0 {
            return;
        }
        let last = server.waiting[done - 1].pos;
        server.waiting.drain(..done);
        self.stats.acknowledged += done as u64;
        self.acknowledge(host, last);
    }

    /// A client was told that everything up to `pos` is committed.
    pub(crate) fn acknowledge(&mut self, host: HostId, pos: Pos) {
        self.trace.mix(&[self.now, 0xAC, host as u64, u64::from(pos.branch), u64::from(pos.count)]);
        self.check_acknowledgement(host, pos);
    }

    /// Could a client of `host` be told that a commit succeeded, at this instant?
    ///
    /// Its server runs outside recovery with clients connected, is neither frozen nor suspended, and either no commit waits for
    /// standbys, or so many standbys are connected that some walsender would release one. Backends that outlived
    /// their postmaster count too.
    pub(crate) fn can_acknowledge(&self, host: HostId) -> bool {
        let h = &self.hosts[host];
        if !h.is_alive() || h.pg.frozen {
            return false;
        }
        if h.pg.orphans.is_some_and(|orphans| !orphans.synchronous) {
            return true;
        }
        let Some(server) = h.pg.server().filter(|server| !server.in_recovery && server.serves) else {
            return false;
        };
        if self.now < h.thawed_until {
            return false;
        }
        if !server.sync_defined {
            return true;
        }
        let mut senders = self.senders_of(host);
        for (sender, &id) in senders.iter_mut().zip(&server.senders) {
            let connection = &self.connections[id as usize];
            let ways = self.is_way_open(host, connection.down) && self.is_way_open(connection.down, host);
            sender.streaming &= connection.receiver_open && ways && self.hosts[connection.down].is_alive();
        }
        let rule_of = |&id: &u32| &self.connections[id as usize].rule;
        server.senders.iter().enumerate().any(|(me, id)| rule_of(id).released(me, &senders).is_some())
    }
}

/// How long after a thaw a host's backends cannot report yet: the guardian runs first, and a report takes a network round trip.
pub(crate) const THAW_GRACE: u64 = 5 * MILLIS;
