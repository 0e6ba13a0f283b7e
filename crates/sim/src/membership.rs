//! Members that come, go, lose their disk, are copied anew because somebody wants it, and have other tags for a while.

use bellwether_ha::view::RequestKind;
use bellwether_types::Tags;

use crate::{
    bug::Bug,
    configuration::Change,
    event::HostId,
    faults::{Fault, Planned},
    pg::{Data, Files},
    random::Random,
    scenario::Scenario,
    schedule::SECONDS,
    world::World,
};

/// A tag that a member has for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    NoFailover,
    NoSync,
    CloneFrom,
    FailoverPriority(u64),
}

impl Tag {
    fn draw(random: &mut Random) -> Self {
        match random.between(0, 5) {
            0 => Self::NoFailover,
            1 => Self::NoSync,
            2 | 3 => Self::CloneFrom,
            _ => Self::FailoverPriority(random.between(0, 4)),
        }
    }

    fn tags(self) -> Tags {
        let mut tags = Tags::default();
        let (name, value) = match self {
            Self::NoFailover => ("nofailover", true.into()),
            Self::NoSync => ("nosync", true.into()),
            Self::CloneFrom => ("clonefrom", true.into()),
            Self::FailoverPriority(priority) => ("failover_priority", priority.into()),
        };
        tags.0.insert(name.to_owned(), value);
        tags
    }
}

impl Scenario {
    /// Half of the worlds see changes of the configuration and of the members, on top of what goes wrong anyhow.
    pub(crate) fn draw_changes(&mut self, bug: Bug, random: &mut Random) {
        if bug == Bug::None && !random.percent(50) {
            return;
        }
        let (config, members) = (random.percent(70), random.percent(70));
        let joins = members && !self.sites && self.members > 2 && random.percent(30);
        let count = random.between(1, 6);
        for _ in 0..count {
            let at = random.between(0, self.fault_phase);
            let mut lasts = (random.between(1, 60) * SECONDS).min(self.fault_phase - at);
            let host = random.index(self.members);
            let fault = match random.between(0, 10) {
                0..=4 if config => Fault::Configure { change: Change::draw(self, random) },
                5 | 6 if members => Fault::Retag { host, tag: Tag::draw(random) },
                7 if members => {
                    Fault::Reinitialize { host, force: random.percent(30), from_leader: random.percent(30) }
                }
                8 if members && !self.sites => Fault::LosesDisk { host },
                9 if members && !self.sites && random.percent(50) => Fault::Leaves { host },
                _ => continue,
            };
            if matches!(fault, Fault::Leaves { .. }) {
                lasts = 0;
            }
            self.faults.push(Planned { at, lasts, fault });
        }
        if joins {
            let host = random.index(self.members);
            self.late = Some(host);
            let at = random.between(0, self.fault_phase / 2);
            self.faults.push(Planned { at, lasts: 0, fault: Fault::Joins { host } });
        }
        self.faults.sort_by_key(|planned| planned.at);
    }
}

impl World {
    /// A member that was not there when the cluster was founded.
    pub(crate) fn member_joins(&mut self, host: HostId) {
        if std::mem::take(&mut self.hosts[host].absent) {
            self.power_on(host);
        }
    }

    /// For good.
    pub(crate) fn member_leaves(&mut self, host: HostId) {
        if self.may_lose(host) {
            self.power_off(host);
            self.hosts[host].absent = true;
            self.checks.members_lost = true;
        }
    }

    /// The host fails, and comes back with an empty disk.
    pub(crate) fn disk_lost(&mut self, host: HostId) {
        if !self.may_lose(host) {
            return;
        }
        self.power_off(host);
        let h = &mut self.hosts[host];
        h.pg.data = Data::default();
        (h.acceptance, h.promise) = (None, None);
        self.checks.members_lost = true;
        self.note(host, "host", &[5], || "has lost its disk".to_owned());
    }

    /// Somebody else has a database, and two members are left.
    pub(crate) fn may_lose(&self, host: HostId) -> bool {
        let others = || self.hosts.iter().enumerate().filter(|(other, h)| *other != host && !h.absent);
        let has_data = |data: &Data| data.files == Files::Present && !data.torn && !data.in_the_making;
        !self.hosts[host].absent
            && self.checks.founded
            && others().count() >= 2
            && others().any(|(_, h)| has_data(&h.pg.data))
    }

    pub(crate) fn retag(&mut self, host: HostId, tag: Option<Tag>) {
        self.hosts[host].tags = tag.map(Tag::tags).unwrap_or_default();
        self.hosts[host].tagged_at = self.now;
        if self.hosts[host].agent.alive && !self.hosts[host].agent.frozen {
            self.wake(host);
        }
    }

    pub(crate) fn request_copy(&mut self, host: HostId, force: bool, from_leader: bool) {
        self.request(host, RequestKind::Reinitialize { force, from_leader });
    }

    /// Through the API of a member's agent.
    pub(crate) fn request(&mut self, host: HostId, kind: RequestKind) {
        let agent = &mut self.hosts[host].agent;
        if !agent.alive || agent.frozen || !self.hosts[host].is_alive() {
            return;
        }
        let agent = &mut self.hosts[host].agent;
        let id = agent.mind.fresh_id();
        agent.mind.requests.push(bellwether_ha::view::Request { id, kind });
        self.wake(host);
    }
}
