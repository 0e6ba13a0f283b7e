//! Two sites and a witness in a third place: the members are the voters of the store, the witness is one more, and the store lives as long
//! as one of them leads a majority. Two servers and a witness are two sites of one member each.
//!
//! Elsewhere the store is a place of its own that has its majority unless a fault says otherwise.

use crate::{
    event::{Event, HostId},
    faults::{Fault, Planned},
    names::letter,
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    world::World,
};

/// Until the voters that are left have agreed on a leader of the store, at most.
pub(crate) const ELECTION: Nanos = 1_500 * MILLIS;

/// Where the store's leader is.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// A member's host, or the place of the witness; `None`: an election, or no majority.
    at: Option<usize>,
    /// Counts what may have changed the majority: an election that began before that is void.
    changes: u64,
}

impl Scenario {
    /// Members `0..` this one are the first site, all others the second.
    pub fn first_site(&self) -> usize {
        self.members / 2
    }

    /// What happens to whole sites: one is gone or cut off, the two do not see each other, the witness is gone. Some of it at once.
    pub(crate) fn draw_sites(&mut self, random: &mut Random) {
        self.sites = self.members.is_multiple_of(2) && random.percent(50);
        if !self.sites {
            return;
        }
        // Room for stories that only the sites tell.
        self.faults.retain(|_| random.percent(40));
        for _ in 0..random.between(1, 4) {
            let at = random.between(0, self.fault_phase);
            let lasts = (random.between(1, 60) * SECONDS).min(self.fault_phase - at);
            let which = random.index(2);
            let faults = match random.between(0, 6) {
                0 | 1 => self.site_gone(which),
                2 => self.cut_off(which),
                3 => self.cut_between_sites(),
                4 => self.witness_gone(),
                _ => self.witness_gone().into_iter().chain(self.site_gone(which)).collect(),
            };
            self.faults.extend(faults.into_iter().map(|fault| Planned { at, lasts, fault }));
        }
        self.faults.sort_by_key(|planned| planned.at);
    }

    fn members_of(&self, site: usize) -> std::ops::Range<HostId> {
        if site == 0 { 0..self.first_site() } else { self.first_site()..self.members }
    }

    /// All its hosts lose their power.
    pub fn site_gone(&self, site: usize) -> Vec<Fault> {
        self.members_of(site).map(|host| Fault::PowerLoss { host }).collect()
    }

    /// Nobody elsewhere reaches it, nor does it reach anybody.
    pub fn cut_off(&self, site: usize) -> Vec<Fault> {
        let to_witness = self.members_of(site).map(|host| Fault::CutBoth { a: host, b: self.members });
        self.cut_between_sites().into_iter().chain(to_witness).collect()
    }

    /// The witness sees both.
    pub fn cut_between_sites(&self) -> Vec<Fault> {
        self.members_of(0).flat_map(|a| self.members_of(1).map(move |b| Fault::CutBoth { a, b })).collect()
    }

    pub fn witness_gone(&self) -> Vec<Fault> {
        (0..self.members).map(|host| Fault::CutBoth { a: host, b: self.members }).collect()
    }
}

impl World {
    /// The place where requests to the store are answered.
    pub(crate) fn store_place(&self) -> usize {
        self.seat.at.unwrap_or_else(|| self.network.store())
    }

    /// The voter at this place works. A member's voter is a part of its agent.
    fn votes(&self, place: usize) -> bool {
        self.hosts.get(place).is_none_or(|host| {
            let agent = &host.agent;
            host.is_alive() && agent.alive && !agent.frozen && host.disk_stalls == 0
        })
    }

    fn has_majority(&self, place: usize) -> bool {
        let voters = 0..=self.network.store();
        let reached = voters.clone().filter(|other| {
            self.votes(*other) && self.network.is_open(place, *other) && self.network.is_open(*other, place)
        });
        self.votes(place) && 2 * reached.count() > voters.count()
    }

    /// Nobody runs yet, so the store has no majority.
    pub(crate) fn begin_without_majority(&mut self) {
        if self.scenario.sites {
            self.store.silenced += 1;
        }
    }

    /// Power, ways or agents have changed: who leads the store may have lost its majority, and somebody may have found one.
    pub(crate) fn voters_changed(&mut self) {
        if !self.scenario.sites || self.seat.at.is_some_and(|place| self.has_majority(place)) {
            return;
        }
        if self.seat.at.take().is_some() {
            self.store.silenced += 1;
            self.note_world(&[5], || "the store has lost its leader".to_owned());
        }
        self.seat.changes += 1;
        if (0..=self.network.store()).any(|place| self.has_majority(place)) {
            let takes = self.random.between(ELECTION / 5, ELECTION);
            self.schedule.push(self.now + takes, Event::StoreElected { change: self.seat.changes });
        }
    }

    pub(crate) fn store_elected(&mut self, change: u64) {
        if self.seat.changes != change {
            return;
        }
        let able: Vec<usize> = (0..=self.network.store()).filter(|place| self.has_majority(*place)).collect();
        if able.is_empty() {
            return;
        }
        let place = *self.random.pick(&able);
        self.seat.at = Some(place);
        self.store.silenced -= 1;
        self.store.elected(self.now);
        let witness = self.network.store();
        self.note_world(&[6, place as u64], || {
            let who = if place == witness { "the witness".to_owned() } else { letter(place).to_string() };
            format!("{who} leads the store")
        });
    }

    /// How much longer a take-over may last if this host is lost: the store may have to elect first.
    pub(crate) fn election_after_loss_of(&self, host: HostId) -> Nanos {
        if self.seat.at == Some(host) { ELECTION } else { 0 }
    }
}
