//! What happens to frames on their way, by the pair of hosts they travel between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Nothing arrives, and nobody is told.
    pub cut: bool,
    /// Of 1: how many frames get lost.
    pub loss: f64,
    /// How much later a frame arrives.
    pub delay: Duration,
}

/// What is wrong with the network; everything that is not named here works.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    links: BTreeMap<(usize, usize), Link>,
    closed: BTreeSet<u16>,
}

impl Rules {
    /// Sets one direction.
    pub fn set(&mut self, from: usize, to: usize, link: Link) {
        self.links.insert((from, to), link);
    }

    /// Sets both directions between two hosts.
    pub fn set_both(&mut self, one: usize, other: usize, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// From now on TCP segments from or to this port get lost, between everybody.
    pub fn close_port(&mut self, port: u16) {
        self.closed.insert(port);
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// What happens to a frame: how much later it arrives, `None` if it never does. `fate` is a random number from 0 to 1.
    pub fn judge(&self, from: usize, to: usize, tcp: Option<[u16; 2]>, fate: f64) -> Option<Duration> {
        if tcp.into_iter().flatten().any(|port| self.closed.contains(&port)) {
            return None;
        }
        let link = self.links.get(&(from, to)).copied().unwrap_or_default();
        (!link.cut && fate >= link.loss).then_some(link.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Link = Link { cut: true, loss: 0.0, delay: Duration::ZERO };

    #[test]
    fn one_direction_can_be_cut_alone() {
        let mut rules = Rules::default();
        rules.set(1, 2, CUT);
        assert_eq!(rules.judge(1, 2, None, 0.5), None);
        assert_eq!(rules.judge(2, 1, None, 0.5), Some(Duration::ZERO));
        rules.heal();
        assert_eq!(rules.judge(1, 2, None, 0.5), Some(Duration::ZERO));
    }

    #[test]
    fn losses_and_delays_are_those_of_the_link() {
        let mut rules = Rules::default();
        let delay = Duration::from_millis(200);
        rules.set_both(1, 2, Link { cut: false, loss: 0.2, delay });
        assert_eq!(rules.judge(2, 1, None, 0.19), None);
        assert_eq!(rules.judge(2, 1, None, 0.2), Some(delay));
        assert_eq!(rules.judge(1, 3, None, 0.0), Some(Duration::ZERO), "another link");
    }

    #[test]
    fn a_closed_port_is_closed_in_both_directions_and_others_stay_open() {
        let mut rules = Rules::default();
        rules.close_port(2380);
        assert_eq!(rules.judge(1, 2, Some([40_000, 2380]), 0.9), None);
        assert_eq!(rules.judge(2, 1, Some([2380, 40_000]), 0.9), None);
        assert_eq!(rules.judge(1, 2, Some([40_000, 5432]), 0.9), Some(Duration::ZERO));
    }
}
