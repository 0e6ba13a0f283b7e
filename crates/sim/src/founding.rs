//! What goes wrong while a cluster is founded: once per world, at the member that founds it.

use bellwether_ha::view::FailedBootstraps;

use crate::{
    event::{Event, HostId},
    faults::Fault,
    random::Random,
    schedule::{MILLIS, Nanos},
    world::World,
};

/// A disturbance of the bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The claim of `initialize` lands, and nobody tells the claimer.
    LostAnswer {
        lasts: Nanos,
    },
    /// The custom bootstrap ends with an error, once.
    Fails,
    /// So long after the bootstrap began.
    AgentDies {
        after: Nanos,
    },
    PostgresDies {
        after: Nanos,
    },
    PowerFails {
        after: Nanos,
    },
}

impl Disturbance {
    pub fn draw(random: &mut Random) -> Self {
        let after = random.between(1, 2_500) * MILLIS;
        match random.between(0, 6) {
            0 => Self::LostAnswer { lasts: random.between(500, 8_000) * MILLIS },
            1 => Self::PostgresDies { after },
            2 => Self::PowerFails { after },
            3 => Self::Fails,
            _ => Self::AgentDies { after },
        }
    }
}

impl World {
    /// A member claims the cluster.
    pub(crate) fn disturb_claim(&mut self, host: HostId) {
        if let Some(Disturbance::LostAnswer { lasts }) = self.scenario.founding {
            let fault = Fault::Cut { from: self.scenario.members, to: host };
            self.disturb(fault, 0, lasts);
        }
    }

    /// A member makes a new database.
    pub(crate) fn disturb_bootstrap(&mut self, host: HostId) {
        let (fault, after) = match self.scenario.founding {
            Some(Disturbance::AgentDies { after }) => {
                (Fault::KillAgent { host, respawn_after: self.random.between(100, 8_000) * MILLIS }, after)
            }
            Some(Disturbance::PostgresDies { after }) => (Fault::KillPostgres { host }, after),
            Some(Disturbance::PowerFails { after }) => (Fault::PowerLoss { host }, after),
            Some(Disturbance::LostAnswer { .. } | Disturbance::Fails) | None => return,
        };
        let lasts = self.random.between(500, 8_000) * MILLIS;
        self.disturb(fault, after, lasts);
    }

    pub(crate) fn is_bootstrap_failing(&mut self) -> bool {
        self.scenario.founding == Some(Disturbance::Fails)
            && !std::mem::replace(&mut self.checks.founding_disturbed, true)
    }

    /// The next agent on this host will know of it.
    pub(crate) fn note_failed_bootstrap(&mut self, host: HostId) {
        let last_at = self.hosts[host].clock(self.now);
        let times = self.hosts[host].failed_bootstraps.map_or(0, |failed| failed.times) + 1;
        self.hosts[host].failed_bootstraps = Some(FailedBootstraps { times, last_at });
    }

    fn disturb(&mut self, fault: Fault, after: Nanos, lasts: Nanos) {
        if std::mem::replace(&mut self.checks.founding_disturbed, true) {
            return;
        }
        self.schedule.push(self.now + after, Event::FaultBegins(Box::new(fault.clone())));
        self.schedule.push(self.now + after + lasts, Event::FaultEnds(Box::new(fault)));
    }
}
