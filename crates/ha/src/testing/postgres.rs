//! What differs in the local PostgreSQL, and what is being done to it.

use bellwether_types::{PostgresState, Role, TimelineId};

use super::{POSITION, Scene, control, name};
use crate::view::{
    ControlState, DataDirectory, Divergence, FinishedJob, Job, JobKind, JobOutcome, JobPhase, Process,
    Request, RequestKind, Slot,
};

impl Scene {
    pub fn empty(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.data = DataDirectory::Empty;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Stopped;
        postgres.role = Role::Uninitialized;
        postgres.system_id = None;
        postgres.control = None;
        postgres.server = None;
        postgres.upstream = None;
        self
    }

    /// The postmaster has ended without being told to.
    pub fn crashed(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Crashed;
        postgres.server = None;
        let was_primary = postgres.role == Role::Primary;
        postgres.control = Some(control(if was_primary {
            ControlState::InProduction
        } else {
            ControlState::InArchiveRecovery
        }));
        self
    }

    /// PostgreSQL was stopped in an orderly way.
    pub fn stopped(mut self) -> Self {
        let postgres = &mut self.view.postgres;
        postgres.process = Process::NotRunning;
        postgres.state = PostgresState::Stopped;
        postgres.server = None;
        let was_standby = postgres.role == Role::Replica;
        let state = if was_standby { ControlState::ShutDownInRecovery } else { ControlState::ShutDown };
        postgres.control = Some(control(state));
        self
    }

    /// The local server runs as a primary.
    pub fn as_primary(self) -> Self {
        self.view(|view| {
            view.postgres.role = Role::Primary;
            view.postgres.upstream = None;
        })
        .server(|server| {
            server.in_recovery = false;
            server.streaming = false;
        })
    }

    pub fn job(mut self, kind: JobKind) -> Self {
        self.view.job = Some(Job { kind, since: self.view.now, phase: JobPhase::Working });
        self
    }

    pub fn job_in(mut self, kind: JobKind, phase: JobPhase) -> Self {
        self.view.job = Some(Job { kind, since: self.view.now, phase });
        self
    }

    /// A job of this kind was decided on and has ended so now.
    pub fn ended(mut self, kind: JobKind, outcome: JobOutcome) -> Self {
        self.view.job = None;
        self.view.memory.jobs.insert(kind.clone(), self.view.now);
        self.view.last_job = Some(FinishedJob { kind, ended_at: self.view.now, outcome });
        self
    }

    pub fn asked(mut self, kind: RequestKind) -> Self {
        self.view.requests.push(Request { id: 7, kind });
        self
    }

    pub fn slot(self, slot: &str, change: impl FnOnce(&mut Slot)) -> Self {
        let mut slot = Slot {
            name: slot.to_owned(),
            physical: true,
            temporary: false,
            active: true,
            restart_lsn: Some(POSITION),
            ..Slot::default()
        };
        change(&mut slot);
        self.server(|server| server.slots.push(slot))
    }

    pub fn divergence(mut self, change: impl FnOnce(&mut Divergence)) -> Self {
        let mut found = Divergence {
            checked_at: self.view.now,
            leader: name("a"),
            leader_is_primary: true,
            leader_timeline: TimelineId(1),
            leader_history: Vec::new(),
            local_timeline: TimelineId(1),
            local_history: Vec::new(),
            local_lsn: POSITION,
            local_was_primary: false,
            shutdown_checkpoint_end: None,
        };
        change(&mut found);
        self.view.postgres.divergence = Some(found);
        self
    }
}
