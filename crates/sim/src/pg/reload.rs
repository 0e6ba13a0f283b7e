//! Files that change under a running server: each process reads them at its own time.

use std::rc::Rc;

use bellwether_ha::view::Upstream;

use crate::{
    event::{HostId, PostgresEvent},
    pg::{Run, sync_rule::SyncRule},
    schedule::{MILLIS, Nanos},
    world::World,
};

impl World {
    /// Writes `synchronous_standby_names` into the files and reloads a running server: each process reads it at its own time.
    pub(crate) fn pg_set_sync_names(&mut self, host: HostId, names: &str) {
        self.hosts[host].pg.data.sync_names = names.to_owned();
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        let rule = Rc::new(SyncRule::parse(names));
        server.rule = rule;
        let senders = server.senders.clone();
        self.signal_checkpointer(host);
        for connection in senders {
            let delay = self.reload_delay();
            self.pg_later(host, delay, PostgresEvent::SenderReloaded { connection });
        }
    }

    /// Mostly at once, sometimes late: a walsender that is busy or stopped reads the setting when it gets to it.
    fn reload_delay(&mut self) -> Nanos {
        if self.random.percent(10) {
            self.random.between(100, 1_500) * MILLIS
        } else {
            self.random.between(1, 20) * MILLIS
        }
    }

    /// SIGHUP to the checkpointer alone.
    pub(crate) fn signal_checkpointer(&mut self, host: HostId) {
        let delay = self.reload_delay();
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        server.reloads += 1;
        self.pg_later(host, delay, PostgresEvent::Reloaded);
    }

    /// The checkpointer reads the files, as soon as it is not busy with a checkpoint.
    pub(crate) fn checkpointer_reads(&mut self, host: HostId) {
        let busy = self.hosts[host].checkpointer_busy > 0;
        let late = self.random.percent(10);
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if server.reloads == 0 {
            // Signals do not queue: what was read for another one is the answer to this one, too.
            return;
        }
        if busy || server.reading.is_some() {
            return self.pg_later(host, 20 * MILLIS, PostgresEvent::Reloaded);
        }
        server.reading = Some((server.rule.clone(), server.reloads));
        if !late {
            return self.checkpointer_tells(host);
        }
        // Between reading and telling it may be stopped like every process.
        let delay = self.random.between(10, 800) * MILLIS;
        self.pg_later(host, delay, PostgresEvent::ReloadTold);
    }

    pub(crate) fn checkpointer_tells(&mut self, host: HostId) {
        let busy = self.hosts[host].checkpointer_busy > 0;
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if busy {
            return self.pg_later(host, 20 * MILLIS, PostgresEvent::ReloadTold);
        }
        let Some((rule, answered)) = server.reading.take() else { return };
        server.reloads -= answered;
        server.sync_defined = rule.is_defined();
        if !server.sync_defined {
            // PostgreSQL wakes everybody who waits, and they report success.
            self.answer_waiting(host, None);
        }
    }

    /// The checkpointer has read the files since it was last told to.
    pub(crate) fn is_checkpointer_idle(&self, host: HostId) -> bool {
        let pg = &self.hosts[host].pg;
        !pg.frozen && self.hosts[host].is_alive() && pg.server().is_some_and(|server| server.reloads == 0)
    }

    pub(crate) fn sender_reloaded(&mut self, id: u32) {
        let up = self.connections[id as usize].up;
        // It reads the file as it is now, which may be newer than what the signal was sent for.
        let Some(rule) = self.hosts[up].pg.server().map(|server| server.rule.clone()) else { return };
        let connection = &mut self.connections[id as usize];
        if connection.sender_open {
            // Who waits is looked after at the next reply of a standby, not now.
            connection.rule = rule;
        }
    }

    /// Writes another upstream into the files and reloads.
    pub(crate) fn pg_follow(&mut self, host: HostId, upstream: Option<Upstream>) {
        self.hosts[host].pg.data.upstream = upstream;
        if self.hosts[host].pg.server().is_some() {
            let delay = self.random.between(5, 20) * MILLIS;
            self.pg_later(host, delay, PostgresEvent::UpstreamReloaded);
        }
    }

    pub(crate) fn upstream_reloaded(&mut self, host: HostId) {
        let pg = &mut self.hosts[host].pg;
        let Run::Up(server) = &mut pg.run else { return };
        if !server.in_recovery || server.upstream == pg.data.upstream {
            return;
        }
        server.upstream = pg.data.upstream.clone();
        if let Some(receiver) = server.receiver.take() {
            self.close_side(receiver, host, true);
        }
        self.try_receiver_in(host, 5 * MILLIS);
    }
}
