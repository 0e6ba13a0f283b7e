//! A small world around [`crate::sync`]: PostgreSQL's walsenders, each with its own copy of the names, a store in which writes may
//! land late, standbys that come and go, an agent that forgets. After every event: can anybody be elected who lacks an
//! acknowledged commit?
//!
//! A walsender's loop is cut into its parts (read the configuration, take the standby's report and release commits, send), and may be
//! stopped between any two of them for as long as the story wants.

mod agent;
mod postgres;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{
    Revision, Timestamp,
    cluster::{Keyed, SyncState},
    settings::SyncMode,
};
use proptest::prelude::*;

use self::postgres::Sender;
use crate::{
    Memory, Reason,
    draft::Draft,
    sync::{self, names::SyncNames},
    testing::{NOW, name},
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
struct World {
    mode: SyncMode,
    strict: bool,
    wanted: u32,
    primary: &'static str,
    now: Timestamp,
    wal: u64,
    acknowledged: u64,
    positions: BTreeMap<&'static str, u64>,
    senders: BTreeMap<&'static str, Sender>,
    next_sender: usize,
    file: String,
    shown: String,
    /// Backends wait for standbys: what the checkpointer told them last.
    waits: bool,
    /// The checkpointer was told to read the files.
    signalled: bool,
    /// It has read this and not told the backends yet.
    reading: Option<String>,
    read_at: Option<Timestamp>,
    store: Option<Keyed<SyncState>>,
    revision: u64,
    /// What the agent knows of the store.
    seen: Option<Keyed<SyncState>>,
    in_flight: Vec<(Option<Revision>, SyncState)>,
    memory: Memory,
    log: Vec<String>,
}

impl World {
    fn new(mode: SyncMode, strict: bool, wanted: u32) -> Self {
        Self {
            mode,
            strict,
            wanted,
            primary: "a",
            now: NOW,
            wal: 100,
            acknowledged: 100,
            positions: NAMES.iter().map(|&name| (name, 100)).collect(),
            senders: BTreeMap::new(),
            next_sender: 0,
            file: String::new(),
            shown: String::new(),
            waits: false,
            signalled: false,
            reading: None,
            read_at: None,
            store: None,
            revision: 500,
            seen: None,
            in_flight: Vec::new(),
            memory: Memory::default(),
            log: Vec::new(),
        }
    }

    fn others(&self) -> Vec<&'static str> {
        NAMES.iter().copied().filter(|&name| name != self.primary).collect()
    }

    /// What happened last, for whoever has to find out why.
    fn story(&self) -> String {
        let log: Vec<&str> = self.log.iter().rev().take(40).rev().map(String::as_str).collect();
        let memory = &self.memory.sync;
        format!(
            "{:?}, strict {}, wanted {}, primary {}, {:?}\nfile {:?}, shown {:?}, /sync {:?}\nsenders {:?}\n{memory:?}\n{}",
            self.mode,
            self.strict,
            self.wanted,
            self.primary,
            self.positions,
            self.file,
            self.shown,
            self.store,
            self.senders,
            log.join("\n")
        )
    }

    fn one_of(&self, pick: u8) -> &'static str {
        let others = self.others();
        others[usize::from(pick) % others.len()]
    }

    /// One event of the story.
    fn event(&mut self, kind: u8, pick: u8) {
        self.now = self.now + Duration::from_millis(7);
        let member = self.one_of(pick);
        match kind {
            0..=14 => self.commit(),
            15..=49 => self.walsender(member),
            50..=69 => self.receive(member, pick),
            70..=74 => self.connect(member),
            75..=77 => {
                self.senders.remove(member);
            }
            78..=81 => self.reload(),
            82..=85 => self.land(pick),
            86..=88 => self.seen = self.store.clone(),
            89 => {
                // A new process reads the store before it decides anything.
                self.memory = Memory::default();
                self.seen = self.store.clone();
            }
            90 => self.wanted = 1 + u32::from(pick) % 3,
            91 => self.fail_over(pick),
            92 => self.mode = if pick.is_multiple_of(2) { SyncMode::Quorum } else { SyncMode::On },
            93..=97 => self.checkpointer(),
            _ => {
                self.tick(pick);
            }
        }
        self.check(&format!("{kind} {pick} ({member})"));
    }

    /// The voters and the recorded leader but the actual one, by how much they have, and the votes needed.
    fn electorate(&self) -> Option<(Vec<&'static str>, usize)> {
        let sync = &self.store.as_ref()?.value;
        let others = NAMES.into_iter().filter(|&member| member != self.primary);
        let mut can: Vec<&str> = others.filter(|member| sync.includes(&name(member))).collect();
        can.sort_by_key(|member| self.positions[member]);
        Some((can, usize::try_from(sync.quorum).expect("a small number")))
    }

    fn check(&self, event: &str) {
        let Some((can, quorum)) = self.electorate() else { return };
        // The worst group that can elect: those with the least. The best of them leads.
        if let Some(best) = can.get(quorum) {
            assert!(
                self.positions[best] >= self.acknowledged,
                "after {event}: {can:?} can elect {best} at {}, but {} was acknowledged: {}",
                self.positions[best],
                self.acknowledged,
                self.story()
            );
        }
    }

    /// The primary's host is lost, and the worst possible group elects.
    fn fail_over(&mut self, pick: u8) {
        let Some((can, quorum)) = self.electorate() else { return };
        let Some(&best) = can.get(quorum) else { return };
        self.log.push(format!("{best} is elected"));
        self.primary = best;
        self.wal = self.positions[best];
        for position in self.positions.values_mut() {
            *position = (*position).min(self.wal);
        }
        self.senders.clear();
        self.in_flight.clear();
        (self.file, self.shown) = (String::new(), String::new());
        (self.waits, self.signalled, self.reading, self.read_at) = (false, false, None, None);
        self.memory = Memory::default();
        self.seen = self.store.clone();
        for round in 0..20 {
            self.now = self.now + Duration::from_millis(101);
            let mut view = self.view();
            view.postgres.server.as_mut().expect("a server").in_recovery = true;
            let mut draft = Draft::new(&view);
            let cluster = view.store.cluster.clone().expect("a cluster");
            let ready = sync::prepare_promotion(&view, &cluster, &mut draft);
            let decision = draft.finish(Reason::Paused);
            self.memory = decision.memory;
            self.perform(decision.actions, if round < 3 { pick } else { 3 });
            // No backend runs yet, so nothing is acknowledged by a reload.
            self.shown = self.file.clone();
            self.signalled = true;
            self.seen = self.store.clone();
            if ready.is_ok() {
                return;
            }
        }
        panic!("the promotion is never ready: {}", self.story());
    }

    /// Faults stop: `alive` are connected, everything moves. Until nothing changes any more.
    fn settle(&mut self, alive: &BTreeSet<&'static str>) {
        self.senders.retain(|member, _| alive.contains(member));
        let mut quiet = 0;
        for _ in 0..400 {
            self.now = self.now + Duration::from_millis(250);
            for &member in alive {
                self.connect(member);
                for _ in 0..3 {
                    self.walsender(member);
                    self.receive(member, 1);
                    self.check("settling");
                }
            }
            self.reload();
            self.checkpointer();
            self.checkpointer();
            self.land(0);
            self.seen = self.store.clone();
            self.check("settling");
            quiet = if self.tick(3) == 0 { quiet + 1 } else { 0 };
            self.check("a tick");
            // Waiting for something counts as rest only after a while.
            if quiet > 20 {
                return;
            }
        }
        panic!("no rest: {}", self.story());
    }

    /// Where a settled world must be.
    fn is_as_wanted(&self, alive: &BTreeSet<&'static str>) {
        let sync = &self.store.as_ref().expect("an active mode").value;
        let wanted = usize::try_from(self.wanted).expect("a small number").min(alive.len());
        let shown = SyncNames::parse(&self.shown);
        let voters: BTreeSet<String> = sync.voters.iter().map(|voter| voter.as_str().to_owned()).collect();
        assert_eq!(sync.leader, Some(name(self.primary)), "{}", self.story());
        if alive.is_empty() && self.strict {
            assert!(
                !self.shown.is_empty(),
                "strict mode without standbys lets commits through: {}",
                self.story()
            );
            return;
        }
        let everybody: BTreeSet<String> = alive.iter().map(|&member| member.to_owned()).collect();
        match self.mode {
            SyncMode::Quorum => {
                assert_eq!((&voters, &shown.names), (&everybody, &everybody), "{}", self.story());
                assert_eq!(
                    (sync.quorum as usize, shown.acknowledging()),
                    (alive.len() - wanted, wanted),
                    "{}",
                    self.story()
                );
            }
            _ => {
                assert_eq!((sync.quorum, voters.len()), (0, wanted), "{}", self.story());
                assert_eq!((&shown.names, shown.acknowledging()), (&voters, wanted), "{}", self.story());
            }
        }
    }
}

fn story() -> impl Strategy<Value = Vec<(u8, u8)>> {
    proptest::collection::vec((0_u8..125, any::<u8>()), 0..400)
}

fn run(mode: SyncMode, strict: bool, wanted: u32, start: &[bool], story: &[(u8, u8)], end: &[bool]) {
    let members = |world: &World, flags: &[bool]| {
        let flagged = world.others().into_iter().zip(flags);
        flagged.filter(|(_, alive)| **alive).map(|(member, _)| member).collect::<BTreeSet<_>>()
    };
    let mut world = World::new(mode, strict, wanted);
    let alive = members(&world, start);
    world.settle(&alive);
    for &(kind, pick) in story {
        world.event(kind, pick);
    }
    let alive = members(&world, end);
    world.settle(&alive);
    world.is_as_wanted(&alive);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn f20_quorum_mode_never_lets_anybody_lead_without_every_acknowledged_commit(
        wanted in 1_u32..4, strict: bool, start: [bool; 4], end: [bool; 4], story in story(),
    ) {
        run(SyncMode::Quorum, strict, wanted, &start, &story, &end);
    }

    #[test]
    fn f1_mode_on_never_lets_anybody_lead_without_every_acknowledged_commit(
        wanted in 1_u32..4, strict: bool, start: [bool; 4], end: [bool; 4], story in story(),
    ) {
        run(SyncMode::On, strict, wanted, &start, &story, &end);
    }
}
