//! What all connections of a worker share.

use std::{
    mem,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use bellwether_types::{MemberName, Network, Timestamp};

use super::{
    Command, Mailbox,
    epoll::{Epoll, Key, Kind},
    pipe::Pipes,
};
use crate::{
    cancel::Processes,
    control::ask::Ask,
    metrics::{ListenerCounts, Metrics},
    quota::{Notice, Quota},
    routes::{Route, Routes, Target},
    settings::{Balance, Mode, Settings},
    split::SplitSettings,
};

/// As large as a pipe: more per read gains nothing.
const BUFFER: usize = 64 * 1024;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) asks: tokio::sync::mpsc::Sender<Ask>,
    /// From which it is made up what users that do not exist would be asked.
    pub(crate) seed: [u8; 32],
    /// Numbers of clients of pools.
    pub(crate) processes: Processes,
    /// How many servers and clients there are.
    pub(crate) quota: Quota,
    /// By number; set before the first client comes.
    pub(crate) workers: OnceLock<Vec<Mailbox>>,
}

impl Shared {
    pub(crate) fn new(asks: tokio::sync::mpsc::Sender<Ask>, me: &MemberName) -> Self {
        Self {
            processes: Processes::of(me),
            metrics: Metrics::default(),
            asks,
            seed: rand::random(),
            quota: Quota::default(),
            workers: OnceLock::new(),
        }
    }

    /// Passes on what the table of servers wants others to know.
    pub(crate) fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            let (holder, command) = match notice {
                Notice::Spare { holder, must } => (holder, Command::Spare { pool: holder.pool, must }),
                Notice::Room(holder) => (holder, Command::Room { pool: holder.pool }),
            };
            if let Some(worker) = self.workers.get().and_then(|workers| workers.get(holder.worker)) {
                worker.send(command);
            }
        }
    }
}

/// A port that this worker takes clients from.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) target: Target,
    pub(crate) mode: Mode,
    pub(crate) split: Option<Arc<SplitSettings>>,
    /// Load balancers.
    pub(crate) accept_proxy: Vec<Network>,
    /// Members are sent a PROXY header.
    pub(crate) send_proxy: bool,
    pub(crate) counts: Arc<ListenerCounts>,
    /// One for each address and for the Unix socket, shared with the other workers.
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
}

#[derive(Debug)]
pub(crate) struct Context {
    /// Of the worker.
    pub(crate) number: usize,
    pub(crate) epoll: Epoll,
    /// What is read goes here first, and from here straight on: an idle connection holds no memory for it.
    pub(crate) buffer: Box<[u8]>,
    pub(crate) pipes: Pipes,
    pub(crate) routes: Arc<Routes>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    /// Read once per round of events.
    pub(crate) now: Timestamp,
    /// Who has more to do, after the others had their turn.
    again: Vec<(Kind, Key)>,
    turns: [usize; Target::ALL.len()],
}

impl Context {
    pub(crate) fn new(
        number: usize,
        epoll: Epoll,
        routes: Arc<Routes>,
        settings: Arc<Settings>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            number,
            epoll,
            pipes: Pipes::default(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            routes,
            settings,
            shared,
            now: crate::clock::now(),
            again: Vec::new(),
            turns: [0; Target::ALL.len()],
        }
    }

    pub(crate) fn again(&mut self, kind: Kind, key: Key) {
        self.again.push((kind, key));
    }

    pub(crate) fn take_again(&mut self) -> Vec<(Kind, Key)> {
        mem::take(&mut self.again)
    }

    pub(crate) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// The member for a client's next attempt; `attempt` counts those that have failed.
    pub(crate) fn pick(&mut self, target: Target, attempt: usize) -> Option<Arc<Route>> {
        let candidates = self.routes.candidates(target, self.now);
        let count = candidates.len();
        if count == 0 {
            return None;
        }
        // Moved by every attempt, so the next one is at the next member: neither may skip any.
        let turn = &mut self.turns[target as usize];
        *turn = turn.wrapping_add(1);
        let metrics = &self.shared.metrics;
        let load = |at: usize| metrics.connections_to(&candidates[at].member);
        let at = place(self.settings.routing.balance, *turn, attempt, count, load);
        Some(candidates[at].clone())
    }
}

/// Which of `count` members is next.
fn place<L: Ord>(
    balance: Balance,
    turn: usize,
    attempt: usize,
    count: usize,
    load: impl Fn(usize) -> L,
) -> usize {
    match balance {
        Balance::Random => rand::random_range(0..count),
        Balance::RoundRobin => turn % count,
        // A member that was just tried in vain has few connections because of that.
        Balance::LeastConnections if attempt > 0 => turn % count,
        Balance::LeastConnections => {
            let from_turn = (0..count).map(|step| turn.wrapping_add(step) % count);
            from_turn.min_by_key(|at| load(*at)).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn attempts_one_after_the_other_come_to_every_member() {
        for count in 1..5 {
            let attempts =
                (0..count).map(|attempt| place(Balance::RoundRobin, 7 + attempt, attempt, count, |_| 0));
            assert_eq!(attempts.collect::<BTreeSet<_>>().len(), count, "{count} members");
        }
    }

    #[test]
    fn the_member_with_the_fewest_connections_is_first_and_others_follow() {
        let least = |turn, attempt| place(Balance::LeastConnections, turn, attempt, 3, |at| [5, 0, 5][at]);
        assert!((0..3).all(|turn| least(turn, 0) == 1));
        assert_eq!((0..3).map(|turn| least(turn, 1)).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(place(Balance::LeastConnections, 1, 0, 2, |_| 0), 1, "equal ones in turn");
    }
}
