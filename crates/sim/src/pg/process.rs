//! The postmaster: start, stop, crash, promotion.

use std::rc::Rc;

use bellwether_ha::view::ControlState;
use bellwether_types::TimelineId;

use crate::{
    event::{AgentEvent, Event, HostId, PostgresEvent},
    pg::{ControlFile, Data, Files, Orphans, Run, Server, Stop, sync_rule::SyncRule},
    schedule::{MILLIS, Nanos, SECONDS},
    wal::RecordKind,
    world::World,
};

/// How long a fast stop waits for walsenders to hand everything over.
const DRAIN_STEPS: u32 = 20;

impl World {
    pub(crate) fn on_postgres(&mut self, host: HostId, what: PostgresEvent) {
        match what {
            PostgresEvent::Started => self.pg_started(host),
            PostgresEvent::Flushed => self.wal_flushed(host),
            PostgresEvent::ClientWrites => self.client_writes(host),
            PostgresEvent::Promoted => self.pg_promoted(host),
            PostgresEvent::ClientsOut => self.clients_out(host),
            PostgresEvent::ShutdownCheckpoint => self.shutdown_checkpoint(host),
            PostgresEvent::Drained { patience } => self.drained(host, patience),
            PostgresEvent::Exits { fast } => self.pg_exits(host, fast),
            PostgresEvent::Checkpointed => self.checkpointed(host),
            PostgresEvent::ReceiverTries => self.receiver_tries(host),
            PostgresEvent::StatusDue { connection } => self.status_due(connection),
            PostgresEvent::Reloaded => self.checkpointer_reads(host),
            PostgresEvent::ReloadTold => self.checkpointer_tells(host),
            PostgresEvent::SenderReloaded { connection } => self.sender_reloaded(connection),
            PostgresEvent::MissesFiles => self.pg_misses_files(host),
            PostgresEvent::Restored => self.pg_promoted(host),
            PostgresEvent::UpstreamReloaded => self.upstream_reloaded(host),
        }
    }

    pub(crate) fn pg_later(&mut self, host: HostId, delay: Nanos, what: PostgresEvent) {
        let generation = self.hosts[host].pg.generation;
        self.schedule.push(self.now + delay, Event::Postgres { host, generation, what });
    }

    /// A new, empty database, or what the backup of another one makes of it.
    pub(crate) fn pg_initdb(&mut self, host: HostId) {
        let flushed = self.wal.plant(host);
        let drawn = self.random.between(0, 99_999_999_999);
        let number = if self.scenario.same_backup { 1 } else { drawn };
        let system_id = format!("74218339{number:011}").parse();
        let control = ControlFile {
            state: ControlState::ShutDown,
            checkpoint: self.wal.lsn(flushed),
            shutdown_end: Some(self.wal.lsn(flushed)),
            ..ControlFile::default()
        };
        let system_id = Some(system_id.expect("nineteen digits"));
        let in_the_making = !self.bug.forgets_bootstraps();
        let founding = Some(format!("{}-{}", self.names.of(host), self.now));
        let files = Files::Present;
        self.hosts[host].pg.data =
            Data { files, system_id, flushed, control, in_the_making, founding, ..Data::default() };
    }

    /// Forks a postmaster, after the agent wrote the configuration.
    pub(crate) fn pg_start(&mut self, host: HostId, standby: bool) -> Result<(), &'static str> {
        let now = self.now;
        let slow = self.hosts[host].slow_start;
        self.can_write_at_start(host)?;
        if self.hosts[host].troubles.damage.is_some() {
            return Err("the data directory is damaged");
        }
        let pg = &mut self.hosts[host].pg;
        if pg.data.files != Files::Present {
            return Err("no data directory");
        }
        if pg.data.torn {
            return Err("could not locate a valid checkpoint record");
        }
        if !pg.is_down() {
            return Err("another server might be running");
        }
        if pg.orphans.is_some() {
            return Err("pre-existing shared memory block is still in use");
        }
        let clean =
            matches!(pg.data.control.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
        pg.data.standby_signal = standby;
        pg.run = Run::Starting { since: now, stopping: false };
        pg.generation += 1;
        pg.frozen = false;
        let mut delay = self.random.between(30, 300) * MILLIS;
        if !clean {
            delay += self.random.between(20, 2_000) * MILLIS;
        }
        if slow {
            delay += self.random.between(1, 25) * SECONDS;
        }
        self.note(host, "pg", &[1, u64::from(standby)], || format!("starts, standby: {standby}"));
        self.pg_later(host, delay, PostgresEvent::Started);
        Ok(())
    }

    fn pg_started(&mut self, host: HostId) {
        let now = self.now;
        let is_restoring = self.is_restoring(host);
        let pg = &mut self.hosts[host].pg;
        let Run::Starting { stopping: false, .. } = pg.run else { return };
        let standby = pg.data.standby_signal;
        let restores = !standby && is_restoring;
        let crashed =
            !matches!(pg.data.control.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
        pg.data.backup_label = false;
        if !standby {
            if crashed {
                pg.data.flushed = self.wal.append(pg.data.flushed, 0x80, RecordKind::EndOfRecovery, host);
            }
            pg.data.control.timeline = self.wal.timeline(pg.data.flushed);
            pg.data.control.checkpoint = self.wal.lsn(pg.data.flushed);
        }
        pg.data.control.state =
            if standby { ControlState::InArchiveRecovery } else { ControlState::InProduction };
        pg.data.control.shutdown_end = None;
        let rule = Rc::new(SyncRule::parse(&pg.data.sync_names));
        pg.run = Run::Up(Box::new(Server {
            since: now,
            in_recovery: standby || restores,
            promoting: false,
            newest_known: None,
            stop: None,
            serves: true,
            inserted: pg.data.flushed,
            flush_pending: false,
            waiting: Vec::new(),
            senders: Vec::new(),
            receiver: None,
            receiver_retry: false,
            sync_defined: rule.is_defined(),
            reloads: 0,
            reading: None,
            rule,
            upstream: pg.data.upstream.clone(),
            replay_paused: false,
        }));
        self.note(host, "pg", &[2, u64::from(standby)], || {
            format!("accepts connections, standby: {standby}")
        });
        if standby {
            self.try_receiver_in(host, 0);
        } else if restores {
            self.restore_goes_on(host);
        } else {
            self.clients_begin(host);
            self.check_two_writers(host);
        }
    }

    /// Asks the server to stop. A second call may only make it more urgent.
    pub(crate) fn pg_stop(&mut self, host: HostId, fast: bool) {
        let now = self.now;
        let slow = self.hosts[host].slow_stop;
        let pg = &mut self.hosts[host].pg;
        let in_recovery = match &mut pg.run {
            Run::Down => return,
            Run::Starting { stopping, .. } => {
                *stopping = true;
                self.pg_later(host, 10 * MILLIS, PostgresEvent::Exits { fast: false });
                return;
            }
            Run::Up(server) => {
                if server.stop.is_some_and(|stop| !stop.fast || fast) {
                    return;
                }
                // What is on disk stays there, however urgent the rest becomes.
                let checkpointed = server.stop.is_some_and(|stop| stop.checkpointed);
                server.stop = Some(Stop { fast, since: now, checkpointed });
                server.in_recovery
            }
        };
        self.note(host, "pg", &[3, u64::from(fast)], || format!("told to stop, fast: {fast}"));
        let quick = self.random.between(3, 40) * MILLIS;
        if !fast {
            self.pg_later(host, quick, PostgresEvent::Exits { fast: false });
            return;
        }
        self.pg_later(host, quick, PostgresEvent::ClientsOut);
        let mut checkpoint = quick + self.random.between(5, 200) * MILLIS;
        if slow {
            checkpoint += self.random.between(1, 20) * SECONDS;
        }
        let what =
            if in_recovery { PostgresEvent::Exits { fast: true } } else { PostgresEvent::ShutdownCheckpoint };
        self.pg_later(host, checkpoint, what);
    }

    fn clients_out(&mut self, host: HostId) {
        if let Some(server) = self.hosts[host].pg.server_mut() {
            server.serves = false;
            // Cancelled waits end without an answer: the client does not know.
            server.waiting.clear();
        }
    }

    fn shutdown_checkpoint(&mut self, host: HostId) {
        let pg = &mut self.hosts[host].pg;
        let Run::Up(server) = &mut pg.run else { return };
        let Some(stop) = server.stop.as_mut().filter(|stop| stop.fast) else { return };
        stop.checkpointed = true;
        server.inserted = self.wal.append(server.inserted, 0x80, RecordKind::ShutdownCheckpoint, host);
        pg.data.control.checkpoint = self.wal.lsn(pg.data.flushed);
        pg.data.flushed = server.inserted;
        pg.data.control.state = ControlState::ShutDown;
        pg.data.control.timeline = self.wal.timeline(server.inserted);
        pg.data.control.shutdown_end = Some(self.wal.lsn(server.inserted));
        self.note(host, "pg", &[4], || "shutdown checkpoint is on disk".to_owned());
        self.pump_all_of(host);
        self.agent_hears_of_checkpoint(host);
        self.pg_later(host, 2 * MILLIS, PostgresEvent::Drained { patience: DRAIN_STEPS });
    }

    fn drained(&mut self, host: HostId, patience: u32) {
        let flushed = self.hosts[host].pg.data.flushed;
        let Some(server) = self.hosts[host].pg.server() else { return };
        let behind = server.senders.iter().any(|&id| {
            let connection = &self.connections[id as usize];
            connection.sender_open && connection.acked != Some(flushed)
        });
        if behind && patience > 0 {
            self.pg_later(host, 50 * MILLIS, PostgresEvent::Drained { patience: patience - 1 });
        } else {
            self.pg_later(host, 2 * MILLIS, PostgresEvent::Exits { fast: true });
        }
    }

    fn pg_exits(&mut self, host: HostId, fast: bool) {
        let pg = &mut self.hosts[host].pg;
        match &pg.run {
            Run::Down => return,
            // An immediate stop overtook the fast one.
            Run::Up(server) if fast && server.stop.is_none_or(|stop| !stop.fast) => return,
            Run::Up(server) if fast && server.in_recovery => {
                pg.data.control.state = ControlState::ShutDownInRecovery;
                pg.data.control.minimum_recovery = Some(pg.data.flushed);
            }
            _ => {}
        }
        self.note(host, "pg", &[5], || "has exited".to_owned());
        self.pg_gone(host, true);
        self.tell_agent(host, MILLIS / 2, AgentEvent::PostmasterExited);
    }

    /// SIGKILL to every process of it, orphans included: nothing it had in memory survives.
    pub(crate) fn pg_kill(&mut self, host: HostId) {
        self.hosts[host].pg.orphans = None;
        if self.hosts[host].pg.is_down() {
            return;
        }
        self.note(host, "pg", &[6], || "killed whole".to_owned());
        self.pg_gone(host, true);
        self.tell_agent(host, MILLIS / 2, AgentEvent::PostmasterExited);
    }

    /// The postmaster alone dies; busy backends live on for a while.
    pub(crate) fn pg_lose_postmaster(&mut self, host: HostId, orphans_for: Nanos) {
        let pg = &self.hosts[host].pg;
        let Some(server) = pg.server() else { return self.pg_kill(host) };
        let busy = !server.in_recovery && server.serves && !pg.frozen;
        let synchronous = server.sync_defined;
        self.note(host, "pg", &[7, u64::from(busy)], || {
            format!("postmaster killed, backends live on: {busy}")
        });
        self.pg_gone(host, true);
        if busy {
            let until = self.now + orphans_for;
            self.hosts[host].pg.orphans = Some(Orphans { until, synchronous });
            let boot = self.hosts[host].boot;
            let commits_at = self.now + self.random.between(0, orphans_for);
            self.schedule.push(commits_at, Event::OrphanCommits { host, boot });
            self.schedule.push(until, Event::OrphansEnd { host, boot });
        }
        self.tell_agent(host, MILLIS / 2, AgentEvent::PostmasterExited);
    }

    /// A backend without a postmaster finishes its transaction.
    pub(crate) fn orphan_commits(&mut self, host: HostId) {
        let pg = &mut self.hosts[host].pg;
        let Some(Orphans { synchronous, .. }) = pg.orphans else { return };
        pg.data.flushed = self.wal.append(pg.data.flushed, 0x100, RecordKind::Commit, host);
        let pos = pg.data.flushed;
        if !synchronous {
            self.acknowledge(host, pos);
        }
    }

    /// The processes are gone. `polite`: the kernel lives and closes their connections.
    pub(crate) fn pg_gone(&mut self, host: HostId, polite: bool) {
        let pg = &mut self.hosts[host].pg;
        pg.generation += 1;
        pg.frozen = false;
        if pg.data.files == Files::Empty {
            // They were removed while it ran.
            pg.data = Data::default();
        }
        let Run::Up(server) = std::mem::take(&mut pg.run) else { return };
        for id in server.senders.into_iter().chain(server.receiver) {
            self.close_side(id, host, polite);
        }
    }

    /// Asks the server to leave recovery. `skip`: files in `pg_wal` make it take timelines up to this one for begun.
    pub(crate) fn pg_promote(&mut self, host: HostId, skip: Option<TimelineId>) -> bool {
        let Some(server) = self.hosts[host].pg.server_mut() else { return false };
        if !server.in_recovery || server.stop.is_some() {
            return false;
        }
        if server.promoting {
            return true;
        }
        server.promoting = true;
        server.newest_known = skip;
        if let Some(receiver) = server.receiver.take() {
            self.close_side(receiver, host, true);
        }
        let delay = self.random.between(25, 250) * MILLIS;
        self.note(host, "pg", &[8], || "told to promote".to_owned());
        self.pg_later(host, delay, PostgresEvent::Promoted);
        true
    }

    fn pg_promoted(&mut self, host: HostId) {
        if self.is_promotion_slow(host) {
            return self.pg_later(host, 100 * MILLIS, PostgresEvent::Promoted);
        }
        let pg = &mut self.hosts[host].pg;
        let Run::Up(server) = &mut pg.run else { return };
        if server.stop.is_some() {
            return;
        }
        // What was received and not yet flushed was replayed as well: it is flushed before the new timeline begins.
        let end = server.inserted;
        let start = self.wal.fork(end, host, server.newest_known);
        server.in_recovery = false;
        server.promoting = false;
        server.inserted = start;
        pg.data.flushed = start;
        pg.data.standby_signal = false;
        pg.data.control.state = ControlState::InProduction;
        pg.data.control.minimum_recovery = None;
        let timeline = self.wal.timeline(start);
        self.stats.promotions += 1;
        self.stats.promoted_at.push(self.now);
        self.note(host, "pg", &[9, u64::from(timeline.0)], || format!("promoted, timeline {timeline}"));
        self.pump_all_of(host);
        self.clients_begin(host);
        self.check_promotion(host, end, start);
        self.check_two_writers(host);
    }

    /// CHECKPOINT; also what brings the control file to the present timeline.
    pub(crate) fn pg_checkpoint(&mut self, host: HostId) -> bool {
        if self.hosts[host].pg.server().is_none_or(|server| server.stop.is_some()) {
            return false;
        }
        let delay = self.random.between(20, 400) * MILLIS;
        self.pg_later(host, delay, PostgresEvent::Checkpointed);
        true
    }

    fn checkpointed(&mut self, host: HostId) {
        let pg = &mut self.hosts[host].pg;
        let Run::Up(server) = &mut pg.run else { return };
        if !server.in_recovery && server.stop.is_none() {
            server.inserted = self.wal.append(server.inserted, 0x80, RecordKind::Checkpoint, host);
            pg.data.control.timeline = self.wal.timeline(server.inserted);
            pg.data.control.checkpoint = self.wal.lsn(server.inserted);
            self.flush_soon(host);
        }
    }
}
