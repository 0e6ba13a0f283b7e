//! A small world around [`crate::sync`]: PostgreSQL's walsenders, each with its own copy of the names, a store in which writes may
//! land late, standbys that come and go, an agent that forgets. After every event: can anybody be elected who lacks an
//! acknowledged commit?
//!
//! A walsender's loop is cut into its parts (read the configuration, take the standby's report and release commits, send), and may be
//! stopped between any two of them for as long as the story wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_types::{
    Lsn, Revision, Role, Timestamp,
    cluster::{Keyed, SyncState},
    settings::SyncMode,
};
use proptest::prelude::*;

use crate::{
    Action, Memory, Reason, View,
    draft::Draft,
    sync::{
        self,
        names::{Method, SyncNames},
    },
    testing::{self, NOW, Scene, name},
    view::Standby,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One walsender with its standby's connection.
#[derive(Clone, Debug)]
struct Sender {
    id: usize,
    rule: SyncNames,
    /// The postmaster has passed on the signal to read this.
    signalled: Option<SyncNames>,
    /// The next part of its loop.
    part: Part,
    sent: u64,
    reported: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Read,
    Report,
    Send,
}

impl Sender {
    fn is_listed(&self, member: &str) -> bool {
        self.rule.names.contains(member)
    }
}

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

    fn commit(&mut self) {
        self.wal += 1;
        self.positions.insert(self.primary, self.wal);
        if !self.waits {
            self.acknowledged = self.wal;
        }
    }

    /// The next part of the checkpointer's loop, which it may be kept from for as long as the story wants.
    fn checkpointer(&mut self) {
        if let Some(text) = self.reading.take() {
            self.waits = !text.is_empty();
            if !self.waits {
                self.acknowledged = self.wal;
            }
        } else if std::mem::take(&mut self.signalled) {
            self.reading = Some(self.file.clone());
        }
    }

    fn connect(&mut self, member: &'static str) {
        if self.senders.contains_key(member) {
            return;
        }
        let position = self.positions[member];
        self.next_sender += 1;
        let sender = Sender {
            id: self.next_sender,
            rule: SyncNames::parse(&self.shown),
            signalled: None,
            part: Part::Read,
            sent: position,
            reported: position,
        };
        self.senders.insert(member, sender);
    }

    /// The next part of a walsender's loop.
    fn walsender(&mut self, member: &'static str) {
        let (position, wal) = (self.positions[member], self.wal);
        let Some(sender) = self.senders.get_mut(member) else { return };
        match sender.part {
            Part::Read => {
                if let Some(rule) = sender.signalled.take() {
                    sender.rule = rule;
                }
                sender.part = Part::Report;
            }
            Part::Report => {
                sender.reported = position;
                sender.part = Part::Send;
                self.release(member);
            }
            Part::Send => {
                sender.sent = wal;
                sender.part = Part::Read;
            }
        }
    }

    /// PostgreSQL's rule: by this walsender's own reading, on what all of them publish.
    fn release(&mut self, member: &str) {
        let rule = self.senders[member].rule.clone();
        let mut counted: Vec<_> =
            self.senders.iter().filter(|(name, sender)| sender.is_listed(name)).collect();
        if rule.method == Method::First {
            counted.truncate(rule.count);
        }
        let is_counted = counted.iter().any(|(name, _)| **name == member);
        if rule.names.is_empty() || counted.len() < rule.count || !is_counted {
            return;
        }
        let mut reported: Vec<u64> = counted.iter().map(|(_, sender)| sender.reported).collect();
        reported.sort_unstable_by(|a, b| b.cmp(a));
        self.acknowledged = self.acknowledged.max(reported[rule.count - 1]);
    }

    fn receive(&mut self, member: &'static str, pick: u8) {
        let Some(sender) = self.senders.get(member) else { return };
        let position = self.positions[member];
        let missing = sender.sent.saturating_sub(position);
        let received = if pick.is_multiple_of(3) { missing / 2 } else { missing };
        self.positions.insert(member, position + received);
    }

    /// The postmaster reads the files and signals everybody.
    fn reload(&mut self) {
        self.shown = self.file.clone();
        for sender in self.senders.values_mut() {
            sender.signalled = Some(SyncNames::parse(&self.shown));
        }
        self.signalled = true;
    }

    fn land(&mut self, pick: u8) {
        if self.in_flight.is_empty() {
            return;
        }
        let (expect, state) = self.in_flight.remove(usize::from(pick) % self.in_flight.len());
        self.apply_write(expect, state);
    }

    fn apply_write(&mut self, expect: Option<Revision>, state: SyncState) {
        if self.store.as_ref().map(|keyed| keyed.revision) == expect {
            self.revision += 1;
            self.log.push(format!("/sync = {state:?}"));
            self.store = Some(Keyed { value: state, revision: Revision(self.revision) });
        }
    }

    fn view(&self) -> View {
        let scene = match self.primary {
            "a" => testing::leader(),
            other => Scene::of(other).holding().as_primary(),
        };
        let shown = SyncNames::parse(&self.shown);
        let standbys = self.senders.iter().map(|(&member, sender)| Standby {
            application_name: member.to_owned(),
            connection: sender.id.to_string(),
            state: "streaming".to_owned(),
            sync_state: match (sender.is_listed(member), shown.method) {
                (false, _) => "async",
                (true, Method::Any) => "quorum",
                (true, Method::First) => "sync",
            }
            .to_owned(),
            write: Some(Lsn(sender.reported)),
            flush: Some(Lsn(sender.reported)),
            replay: Some(Lsn(sender.reported)),
        });
        let standbys: Vec<Standby> = standbys.collect();
        let mut scene = scene
            .lease(match self.primary {
                "a" => testing::held(self.now),
                other => match Scene::of(other).holding().view.lease {
                    crate::view::LeaseView::Held { demote_at, term, revision, .. } => {
                        let until = self.now + Duration::from_secs(5);
                        crate::view::LeaseView::Held {
                            until,
                            demote_at,
                            term,
                            revision,
                            unavailable_since: None,
                        }
                    }
                    lease => lease,
                },
            })
            .settings(|settings| {
                settings.synchronous_mode = self.mode;
                settings.synchronous_mode_strict = self.strict;
                settings.synchronous_node_count = self.wanted;
            })
            .memory(|memory| *memory = self.memory.clone())
            .server(|server| {
                server.answered_at = self.now;
                server.position = Lsn(self.wal);
                server.synchronous_standby_names.clone_from(&self.shown);
                server.standbys = standbys;
            })
            .cluster(|cluster| {
                cluster.sync.clone_from(&self.seen);
                for member in NAMES {
                    let role = if member == self.primary { Role::Primary } else { Role::Replica };
                    cluster.members.insert(name(member), testing::member(member, role));
                }
            });
        scene.view.now = self.now;
        scene.view.store.confirmed_at = self.now;
        scene.view.postgres.checkpointer_read_at = self.read_at;
        scene.build()
    }

    /// The agent looks and acts. Returns how many deeds it did.
    fn tick(&mut self, pick: u8) -> usize {
        let view = self.view();
        let mut draft = Draft::new(&view);
        let cluster = view.store.cluster.clone().unwrap_or_else(|| Arc::new(Default::default()));
        sync::process(&view, &cluster, &mut draft);
        let decision = draft.finish(Reason::Paused);
        self.memory = decision.memory;
        let reasons = format!("{:?}", &decision.reasons[1..]);
        if !self.log.last().is_some_and(|last| last.starts_with(&reasons)) {
            self.log.push(reasons);
        }
        self.perform(decision.actions, pick)
    }

    fn perform(&mut self, actions: Vec<Action>, pick: u8) -> usize {
        let mut deeds = 0;
        for action in actions {
            match action {
                Action::GenerateWal => {
                    self.wal += 1;
                    self.positions.insert(self.primary, self.wal);
                }
                Action::ProveNamesInForce => {
                    // Told directly, and either it is seen to come back or not.
                    self.signalled = true;
                    if pick % 4 > 1 {
                        while self.signalled || self.reading.is_some() {
                            self.checkpointer();
                        }
                        self.read_at = Some(self.now);
                    }
                }
                Action::SetSyncNames { names } => {
                    self.log.push(format!("names = {names}"));
                    self.file = names;
                    deeds += 1;
                }
                Action::WriteSync { expect, state } => {
                    deeds += 1;
                    match pick % 4 {
                        0 => self.in_flight.push((expect, state)),
                        1 => self.log.push(format!("lost: {state:?}")),
                        _ => self.apply_write(expect, state),
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        deeds
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
