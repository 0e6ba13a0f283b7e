//! Streaming: walsenders, WAL receivers, and what the way between them does to both.

use std::rc::Rc;

use crate::{
    event::{Event, HostId, PostgresEvent},
    names::letter,
    pg::{
        Run,
        sync_rule::{Sender, SyncRule},
    },
    schedule::{MILLIS, Nanos, SECONDS},
    wal::Pos,
    world::World,
};

/// How often a WAL receiver without a connection tries again (`wal_retrieve_retry_interval`).
const RETRY: Nanos = 200 * MILLIS;
const STATUS_INTERVAL: Nanos = 10 * SECONDS;

/// One replication connection. The sides end separately: each learns of the other's end late or never.
#[derive(Debug)]
pub struct Connection {
    pub up: HostId,
    pub up_generation: u32,
    pub down: HostId,
    pub down_generation: u32,
    pub sender_open: bool,
    pub receiver_open: bool,
    /// Everything up to here has arrived.
    pub sent: Pos,
    pub in_flight: bool,
    /// The standby has caught up once: state `streaming`.
    pub streaming: bool,
    /// What the standby said that it has flushed.
    pub acked: Option<Pos>,
    /// `synchronous_standby_names` as this walsender has read it.
    pub rule: Rc<SyncRule>,
}

impl World {
    pub(crate) fn try_receiver_in(&mut self, host: HostId, delay: Nanos) {
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if server.in_recovery && server.upstream.is_some() && !server.receiver_retry {
            server.receiver_retry = true;
            self.pg_later(host, delay, PostgresEvent::ReceiverTries);
        }
    }

    pub(crate) fn receiver_tries(&mut self, host: HostId) {
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        server.receiver_retry = false;
        if !server.in_recovery || server.promoting || server.receiver.is_some() || server.stop.is_some() {
            return;
        }
        if self.is_reading_own_wal(host).is_some() {
            // It asks for more when it has come to the end of what is there.
            return self.try_receiver_in(host, RETRY);
        }
        let Some(server) = self.hosts[host].pg.server() else { return };
        let Some(upstream) = &server.upstream else { return };
        if upstream.is_remote {
            return self.follow_remote(host);
        }
        match self.names.source(upstream) {
            Some(up) if self.accepts_standby(up, host) => self.connect(up, host),
            _ => self.try_receiver_in(host, RETRY),
        }
    }

    /// Would a walsender of `up` serve `down` from where it is?
    fn accepts_standby(&self, up: HostId, down: HostId) -> bool {
        if up == down || !self.is_way_open(up, down) || !self.is_way_open(down, up) {
            return false;
        }
        let (upper, lower) = (&self.hosts[up], &self.hosts[down]);
        let Some(server) = upper.pg.server() else { return false };
        let Some(standby) = lower.pg.server() else { return false };
        let slot = standby.upstream.as_ref().and_then(|upstream| upstream.slot.as_ref());
        upper.is_alive()
            && !upper.pg.frozen
            && server.stop.is_none()
            && upper.pg.data.system_id == lower.pg.data.system_id
            && slot.is_none_or(|slot| upper.pg.data.slots.contains_key(slot))
            && self.wal.contains(upper.pg.data.flushed, standby.inserted)
    }

    fn connect(&mut self, up: HostId, down: HostId) {
        let id = u32::try_from(self.connections.len()).expect("few connections");
        let (up_generation, down_generation) = (self.hosts[up].pg.generation, self.hosts[down].pg.generation);
        let standby = self.hosts[down].pg.server_mut().expect("it asked");
        standby.receiver = Some(id);
        let sent = standby.inserted;
        let acked = Some(self.hosts[down].pg.data.flushed);
        let server = self.hosts[up].pg.server_mut().expect("it accepted");
        server.senders.push(id);
        let rule = server.rule.clone();
        self.connections.push(Connection {
            up,
            up_generation,
            down,
            down_generation,
            sender_open: true,
            receiver_open: true,
            sent,
            in_flight: false,
            streaming: false,
            acked,
            rule,
        });
        self.note(down, "wal", &[1, up as u64], || format!("streams from {}", letter(up)));
        self.pump(id);
        self.pg_later(down, STATUS_INTERVAL, PostgresEvent::StatusDue { connection: id });
    }

    /// Sends what the standby does not have yet.
    pub(crate) fn pump(&mut self, id: u32) {
        let connection = &self.connections[id as usize];
        if !connection.sender_open || connection.in_flight {
            return;
        }
        let (up, down) = (connection.up, connection.down);
        let upto = self.hosts[up].pg.data.flushed;
        if connection.sent == upto {
            if !connection.streaming {
                self.connections[id as usize].streaming = true;
                self.release_waiting(id);
            }
            return;
        }
        if self.hosts[up].pg.frozen || !self.is_way_open(up, down) {
            return;
        }
        self.connections[id as usize].in_flight = true;
        let delay = self.delay(up, down);
        self.schedule.push(self.now + delay, Event::Deliver { connection: id, upto });
    }

    pub(crate) fn pump_all_of(&mut self, host: HostId) {
        let Some(server) = self.hosts[host].pg.server() else { return };
        for i in 0..server.senders.len() {
            let Some(server) = self.hosts[host].pg.server() else { return };
            let id = server.senders[i];
            self.pump(id);
        }
    }

    pub(crate) fn delivered(&mut self, id: u32, upto: Pos) {
        let connection = &mut self.connections[id as usize];
        connection.in_flight = false;
        let (up, down) = (connection.up, connection.down);
        if !connection.receiver_open || !self.is_way_open(up, down) {
            return;
        }
        self.hosts[down].heard = Some((up, self.now));
        let connection = &mut self.connections[id as usize];
        connection.sent = upto;
        if let Some(server) = self.hosts[down].pg.server_mut() {
            server.inserted = upto;
            self.flush_soon(down);
        }
        self.pump(id);
    }

    /// Asks for a flush of the WAL that was written so far.
    pub(crate) fn flush_soon(&mut self, host: HostId) {
        let stalled = self.hosts[host].disk_stalls > 0;
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if server.flush_pending {
            return;
        }
        server.flush_pending = true;
        if stalled {
            // The end of the stall asks again.
            return;
        }
        let late = self.lateness(|jitter| jitter.flush);
        let delay = self.random.between(MILLIS / 4, 3 * MILLIS) + late;
        self.pg_later(host, delay, PostgresEvent::Flushed);
    }

    pub(crate) fn wal_flushed(&mut self, host: HostId) {
        if self.hosts[host].disk_stalls > 0 {
            return;
        }
        let is_standby = self.hosts[host].pg.server().is_some_and(|server| server.in_recovery);
        if is_standby && self.pg_panics(host) {
            return;
        }
        let remember_minimum = self.random.percent(30);
        let pg = &mut self.hosts[host].pg;
        let Run::Up(server) = &mut pg.run else { return };
        server.flush_pending = false;
        pg.data.flushed = server.inserted;
        if server.in_recovery {
            if remember_minimum {
                pg.data.control.minimum_recovery = Some(pg.data.flushed);
            }
            if let Some(receiver) = server.receiver {
                self.reply(receiver);
            }
        } else if !server.sync_defined {
            self.answer_waiting(host, None);
        }
        self.pump_all_of(host);
    }

    /// `wal_receiver_status_interval`: a standby tells where it is even if nothing happens.
    pub(crate) fn status_due(&mut self, id: u32) {
        let connection = &self.connections[id as usize];
        if connection.receiver_open {
            let down = connection.down;
            self.reply(id);
            self.pg_later(down, STATUS_INTERVAL, PostgresEvent::StatusDue { connection: id });
        }
    }

    /// The WAL receiver tells what it has.
    fn reply(&mut self, id: u32) {
        let connection = &self.connections[id as usize];
        let (up, down) = (connection.up, connection.down);
        let upto = self.hosts[down].pg.data.flushed;
        if connection.receiver_open && self.is_way_open(down, up) {
            let delay = self.delay(down, up);
            self.schedule.push(self.now + delay, Event::Acknowledge { connection: id, upto });
        }
    }

    pub(crate) fn acknowledged(&mut self, id: u32, upto: Pos) {
        let connection = &mut self.connections[id as usize];
        let (up, down) = (connection.up, connection.down);
        if !connection.sender_open || !self.is_way_open(down, up) {
            return;
        }
        // One connection delivers in order.
        let known = self.connections[id as usize].acked.map(|at| self.wal.lsn(at));
        if known <= Some(self.wal.lsn(upto)) {
            self.connections[id as usize].acked = Some(upto);
            self.slot_follows(up, down, self.wal.lsn(upto));
        }
        self.release_waiting(id);
    }

    /// What this walsender makes of the positions of all of them.
    pub(crate) fn release_waiting(&mut self, id: u32) {
        let connection = &self.connections[id as usize];
        let up = connection.up;
        let Some(server) = self.hosts[up].pg.server() else { return };
        if server.waiting.is_empty() || !connection.rule.is_defined() {
            return;
        }
        let senders = self.senders_of(up);
        let Some(me) = server.senders.iter().position(|&other| other == id) else { return };
        if let Some(lsn) = connection.rule.released(me, &senders) {
            self.answer_waiting(up, Some(lsn));
        }
    }

    /// The walsenders of a host as they see each other, in the order of `Server::senders`.
    pub(crate) fn senders_of(&self, host: HostId) -> Vec<Sender> {
        let Some(server) = self.hosts[host].pg.server() else { return Vec::new() };
        let sender = |&id: &u32| {
            let connection = &self.connections[id as usize];
            Sender {
                priority: connection.rule.priority(self.names.of(connection.down).as_str()),
                streaming: connection.streaming,
                flush: connection.acked.map(|at| self.wal.lsn(at)),
            }
        };
        server.senders.iter().map(sender).collect()
    }

    /// The process of `host` at one end of a connection is gone.
    pub(crate) fn close_side(&mut self, id: u32, host: HostId, polite: bool) {
        let connection = &mut self.connections[id as usize];
        let (up, down) = (connection.up, connection.down);
        let (other, event) = if host == up {
            connection.sender_open = false;
            (down, Event::ReceiverClosed { connection: id })
        } else {
            connection.receiver_open = false;
            (up, Event::SenderClosed { connection: id })
        };
        if polite && self.is_way_open(host, other) {
            let delay = self.delay(host, other);
            self.schedule.push(self.now + delay, event);
        } else {
            self.schedule
                .push(self.now + self.scenario.wal_timeout, Event::ConnectionTimeout { connection: id });
        }
    }

    pub(crate) fn sender_closed(&mut self, id: u32) {
        let connection = &mut self.connections[id as usize];
        if !std::mem::take(&mut connection.sender_open) {
            return;
        }
        let up = connection.up;
        if let Some(server) = self.hosts[up].pg.server_mut() {
            server.senders.retain(|&other| other != id);
        }
    }

    pub(crate) fn receiver_closed(&mut self, id: u32) {
        let connection = &mut self.connections[id as usize];
        if !std::mem::take(&mut connection.receiver_open) {
            return;
        }
        let down = connection.down;
        if let Some(server) = self.hosts[down].pg.server_mut()
            && server.receiver == Some(id)
        {
            server.receiver = None;
            self.try_receiver_in(down, RETRY / 4);
        }
    }

    /// `wal_sender_timeout` and `wal_receiver_timeout`.
    pub(crate) fn connection_timeout(&mut self, id: u32) {
        let connection = &self.connections[id as usize];
        let (up, down) = (connection.up, connection.down);
        let both = connection.sender_open && connection.receiver_open;
        let ways = self.is_way_open(up, down) && self.is_way_open(down, up);
        let alive = !self.hosts[up].pg.frozen && !self.hosts[down].pg.frozen;
        if both && ways && alive {
            return;
        }
        // Each side that can run gives up. One that cannot (suspended, frozen) will when it runs again.
        if self.hosts[up].is_alive() {
            self.sender_closed(id);
        }
        if self.hosts[down].is_alive() {
            self.receiver_closed(id);
        }
    }

    /// The way between hosts changed: what can flow flows, what cannot will time out.
    pub(crate) fn ways_changed(&mut self) {
        for id in 0..self.connections.len() {
            let connection = &self.connections[id];
            let (up, down) = (connection.up, connection.down);
            if !connection.sender_open && !connection.receiver_open {
                continue;
            }
            let id = u32::try_from(id).expect("few connections");
            let ways = self.is_way_open(up, down) && self.is_way_open(down, up);
            if ways && connection.sender_open && connection.receiver_open {
                self.reply(id);
                self.pump(id);
            } else {
                let at = self.now + self.scenario.wal_timeout;
                self.schedule.push(at, Event::ConnectionTimeout { connection: id });
            }
        }
    }
}
