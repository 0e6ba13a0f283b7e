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
    logins::Logins,
    metrics::{Count, ListenerCounts, Metrics},
    quota::{Notice, Quota},
    routes::{Route, Routes, Target},
    settings::{Balance, Mode, Settings},
    split::{Bans, Candidate, Consistency, Position, SplitSettings, choose},
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
    /// What servers of users can be opened with.
    pub(crate) logins: Logins,
    /// How many servers and clients there are.
    pub(crate) quota: Quota,
    /// How often definitions may have changed, as far as the threads have seen.
    pub(crate) redefinitions: Count,
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
            logins: Logins::default(),
            quota: Quota::default(),
            redefinitions: Count::default(),
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
    /// How replicas share what comes, and which are left alone.
    sharing: SplitSettings,
    bans: Bans,
    shares: usize,
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
            sharing: sharing(&settings),
            settings,
            shared,
            bans: Bans::default(),
            shares: 0,
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

    /// What is decided by from now on.
    pub(crate) fn set_settings(&mut self, settings: Arc<Settings>) {
        self.sharing = sharing(&settings);
        self.settings = settings;
    }

    /// The member for a client's next attempt; `attempt` counts those that have failed.
    pub(crate) fn pick(&mut self, target: Target, attempt: usize) -> Option<Arc<Route>> {
        let candidates = self.routes.candidates(target, self.now);
        // Moved by every attempt, so the next one is at the next member: neither may skip any.
        let turn = &mut self.turns[target as usize];
        *turn = turn.wrapping_add(1);
        let metrics = &self.shared.metrics;
        let load =
            |member: &MemberName| usize::try_from(metrics.connections_to(member)).unwrap_or(usize::MAX);
        let share = Share { settings: &self.sharing, bans: &self.bans, now: self.now, turn: *turn };
        share.next(candidates, attempt, load).cloned()
    }

    /// Of a pool's members the one whose server is used next; `busy` counts those in use, and is `None` where none is free.
    pub(crate) fn share(
        &mut self,
        target: Target,
        after: Option<Position>,
        busy: impl Fn(&MemberName) -> Option<usize>,
    ) -> Option<MemberName> {
        let candidates = self.routes.candidates(target, self.now).iter();
        let candidates: Vec<_> =
            candidates.filter_map(|route| Some(candidate(route, busy(&route.member)?))).collect();
        self.shares = self.shares.wrapping_add(1);
        let turn = by_chance(self.sharing.balance, self.shares);
        let choice = choose(&candidates, after, &self.sharing, &self.bans, self.now, turn);
        choice.ok().map(|choice| choice.member)
    }

    /// The member with the fewest servers for its weight.
    pub(crate) fn emptiest(&self, target: Target, open: impl Fn(&MemberName) -> usize) -> Option<Arc<Route>> {
        let routes = self.routes.candidates(target, self.now);
        let candidates: Vec<_> = routes.iter().map(|route| candidate(route, open(&route.member))).collect();
        let fewest = SplitSettings { balance: Balance::LeastConnections, ..self.sharing.clone() };
        let choice = choose(&candidates, None, &fewest, &self.bans, self.now, 0).ok()?;
        routes.iter().find(|route| route.member == choice.member).cloned()
    }

    /// A replica could not be connected to, or was shut down: others are asked for a while.
    pub(crate) fn ban(&mut self, member: &MemberName) {
        self.bans.failed(member, self.now, &self.sharing);
    }

    /// It is there.
    pub(crate) fn lift_ban(&mut self, member: &MemberName) {
        self.bans.answered(member);
    }
}

/// How members share what comes. Whether they lag too far has been asked before.
fn sharing(settings: &Settings) -> SplitSettings {
    SplitSettings {
        consistency: Consistency::Eventual,
        balance: settings.routing.balance,
        zone: settings.routing.zone.clone(),
        ..SplitSettings::default()
    }
}

fn candidate(route: &Route, busy: usize) -> Candidate<'_> {
    Candidate {
        member: &route.member,
        weight: route.weight,
        zone: route.zone.as_deref(),
        busy,
        lag_bytes: None,
        lag: None,
        replayed: None,
        noloadbalance: false,
        nosync: route.nosync,
    }
}

fn by_chance(balance: Balance, turn: usize) -> u64 {
    match balance {
        Balance::Random => rand::random(),
        Balance::RoundRobin | Balance::LeastConnections => turn as u64,
    }
}

/// What decides who is next.
struct Share<'a> {
    settings: &'a SplitSettings,
    bans: &'a Bans,
    now: Timestamp,
    turn: usize,
}

impl Share<'_> {
    fn next<'a>(
        &self,
        routes: &'a [Arc<Route>],
        attempt: usize,
        load: impl Fn(&MemberName) -> usize,
    ) -> Option<&'a Arc<Route>> {
        let in_turn = |routes: &[&'a Arc<Route>]| routes.get(self.turn % routes.len().max(1)).copied();
        // A member that was just tried in vain has few connections because of that.
        if routes.len() > 1 && attempt == 0 {
            let candidates: Vec<_> =
                routes.iter().map(|route| candidate(route, load(&route.member))).collect();
            let turn = by_chance(self.settings.balance, self.turn);
            if let Ok(choice) = choose(&candidates, None, self.settings, self.bans, self.now, turn) {
                return routes.iter().find(|route| route.member == choice.member);
            }
        }
        let weighty: Vec<_> = routes.iter().filter(|route| route.weight > 0).collect();
        in_turn(&weighty).or_else(|| in_turn(&routes.iter().collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::settings::{Limits, PoolerSettings};

    fn routes(weights: &[u32]) -> Vec<Arc<Route>> {
        let route = |(at, weight): (usize, &u32)| {
            Arc::new(Route {
                member: format!("m{at}").parse().unwrap(),
                addresses: vec![],
                host: String::new(),
                timeline: 1,
                weight: *weight,
                zone: (at == 2).then(|| "west".to_owned()),
                nosync: false,
            })
        };
        weights.iter().enumerate().map(route).collect()
    }

    /// The places of those who are next in turn.
    fn turns(
        routes: &[Arc<Route>],
        settings: &SplitSettings,
        bans: &Bans,
        attempt: fn(usize) -> usize,
        load: fn(&str) -> usize,
    ) -> Vec<usize> {
        let now = Timestamp::from_millis(5_000);
        let next = |turn| {
            let share = Share { settings, bans, now, turn };
            let next = share.next(routes, attempt(turn), |member| load(member.as_str())).unwrap();
            routes.iter().position(|route| route.member == next.member).unwrap()
        };
        (0..12).map(next).collect()
    }

    fn by(balance: Balance, zone: Option<&str>) -> SplitSettings {
        let consistency = Consistency::Eventual;
        SplitSettings { balance, zone: zone.map(str::to_owned), consistency, ..SplitSettings::default() }
    }

    #[test]
    fn sharing_is_as_the_settings_say() {
        let routing = crate::settings::RoutingSettings {
            balance: Balance::LeastConnections,
            zone: Some("west".into()),
            ..Default::default()
        };
        let settings = Settings {
            listeners: vec![],
            threads: 1,
            routing,
            limits: Limits::default(),
            pooler: PoolerSettings::default(),
            statistics: vec![],
        };
        let sharing = sharing(&settings);
        assert_eq!((sharing.balance, sharing.zone.as_deref()), (Balance::LeastConnections, Some("west")));
    }

    fn distinct(places: Vec<usize>) -> BTreeSet<usize> {
        places.into_iter().collect()
    }

    #[test]
    fn attempts_one_after_the_other_come_to_every_member() {
        for count in 1..5 {
            let routes = routes(&vec![1; count]);
            for balance in [Balance::RoundRobin, Balance::LeastConnections] {
                let found =
                    turns(&routes, &by(balance, Some("west")), &Bans::default(), |turn| turn + 1, |_| 0);
                assert_eq!(distinct(found).len(), count, "{count} members");
            }
        }
    }

    #[test]
    fn the_member_with_the_fewest_connections_is_first_and_others_follow() {
        let routes = routes(&[1, 1, 1]);
        let load = |member: &str| if member == "m1" { 0 } else { 5 };
        let least = by(Balance::LeastConnections, None);
        assert_eq!(distinct(turns(&routes, &least, &Bans::default(), |_| 0, load)), [1].into());
        assert_eq!(distinct(turns(&routes, &least, &Bans::default(), |_| 1, load)).len(), 3);
        assert_eq!(
            distinct(turns(&routes, &least, &Bans::default(), |_| 0, |_| 0)).len(),
            3,
            "equal ones in turn"
        );
    }

    #[test]
    fn weights_zones_and_bans_decide() {
        let turn = by(Balance::RoundRobin, None);
        let shares = |weights: &[u32], settings: &SplitSettings, bans: &Bans| {
            let found = turns(&routes(weights), settings, bans, |_| 0, |_| 0);
            (0..weights.len())
                .map(|at| found.iter().filter(|place| **place == at).count())
                .collect::<Vec<_>>()
        };
        let mut bans = Bans::default();
        assert_eq!(shares(&[1, 3, 2], &turn, &bans), [2, 6, 4]);
        assert_eq!(shares(&[0, 1, 1], &turn, &bans), [0, 6, 6]);
        assert_eq!(shares(&[0, 0], &turn, &bans), [6, 6], "somebody must");
        assert_eq!(shares(&[1, 1, 1], &by(Balance::RoundRobin, Some("west")), &bans), [0, 0, 12]);
        let now = Timestamp::from_millis(5_000);
        bans.failed(&"m0".parse().unwrap(), now, &turn);
        assert_eq!(shares(&[1, 1, 1], &turn, &bans), [0, 6, 6]);
        bans.failed(&"m1".parse().unwrap(), now, &turn);
        assert_eq!(shares(&[1, 1], &turn, &bans), [6, 6], "both are, and one of them may be there again");
        assert!(!bans.is_banned(&"m0".parse().unwrap(), now + Duration::from_secs(6)));
    }
}
