//! Model network: what can reach what, in each direction, and how long it takes. The store is one more place in it.

use crate::{
    event::HostId,
    schedule::{MICROS, Nanos},
    world::World,
};

/// Ways between hosts, and between hosts and the store (place number `members`).
#[derive(Debug)]
pub struct Network {
    places: usize,
    /// How many faults cut the way from one place to another; 0 = open.
    cuts: Vec<u16>,
    /// Added to every message from one place to another.
    slow: Vec<Nanos>,
}

impl Network {
    pub fn new(members: usize) -> Self {
        let places = members + 1;
        Self { places, cuts: vec![0; places * places], slow: vec![0; places * places] }
    }

    /// The place of the store.
    pub fn store(&self) -> usize {
        self.places - 1
    }

    fn way(&self, from: usize, to: usize) -> usize {
        from * self.places + to
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        self.cuts[way] += 1;
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        self.cuts[way] = self.cuts[way].saturating_sub(1);
    }

    pub fn set_slow(&mut self, from: usize, to: usize, by: Nanos) {
        let way = self.way(from, to);
        self.slow[way] = by;
    }

    pub fn is_open(&self, from: usize, to: usize) -> bool {
        from == to || self.cuts[self.way(from, to)] == 0
    }

    pub fn slowness(&self, from: usize, to: usize) -> Nanos {
        self.slow[self.way(from, to)]
    }
}

impl World {
    /// A message could arrive: the way is open and the host at its end has power. (A suspended one gets it when it wakes.)
    pub(crate) fn is_way_open(&self, from: HostId, to: HostId) -> bool {
        self.network.is_open(from, to) && self.hosts[to].powered && self.hosts[from].powered
    }

    /// How long a message takes now.
    pub(crate) fn delay(&mut self, from: usize, to: usize) -> Nanos {
        let jitter = self.random.between(0, self.scenario.latency);
        let late = self.lateness(|jitter| jitter.message);
        20 * MICROS + self.scenario.latency + jitter + late + self.network.slowness(from, to)
    }
}
