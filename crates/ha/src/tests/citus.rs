//! The coordinator's metadata: which changes lead where, in which order events are dealt with, and when a transaction ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{MemberName, Timestamp};
use proptest::prelude::*;

use crate::citus::{
    Address, Cause, Change, CitusEvent, CitusEventKind, End, Group, GroupLeader, Next, NodeRole, Register,
    Row, Ticket, Work,
};

const TIMEOUT: Duration = Duration::from_secs(30);

fn at(host: &str) -> Address {
    Address { host: host.to_owned(), port: 5432 }
}

fn led_by(leader: &str, is_primary: bool, others: &[&str]) -> Group {
    let name = MemberName::new(leader).unwrap();
    let leader = GroupLeader { name, address: at(leader), is_primary };
    Group { leader: Some(leader), secondaries: others.iter().map(|host| at(host)).collect() }
}

fn event(kind: CitusEventKind, leader: &str) -> CitusEvent {
    let leader = MemberName::new(leader).unwrap();
    CitusEvent { kind, group: 1, leader, timeout: TIMEOUT, cooldown: Duration::from_secs(10) }
}

fn second(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1000 * seconds)
}

/// A register on top of a table that does as it is told.
struct Coordinator {
    register: Register,
    table: Vec<Row>,
    /// What an open transaction would go back to.
    before: Option<Vec<Row>>,
    now: Timestamp,
    said: Vec<String>,
}

impl Coordinator {
    /// The coordinator `c`, and rows of group 1: the primary first.
    fn with(group: &[&str]) -> Self {
        let row = |(id, host): (i64, &&str)| {
            let role = if id == 2 { NodeRole::Primary } else { NodeRole::Secondary };
            Row::new(id, 1, at(host), role)
        };
        let mut table = vec![Row::new(1, 0, at("c"), NodeRole::Primary)];
        table.extend((2..).zip(group).map(row));
        let mut made =
            Self { register: Register::default(), table, before: None, now: second(100), said: Vec::new() };
        made.see(group.first().map(|leader| led_by(leader, true, &group[1..])));
        made.settle();
        assert_eq!(made.said, Vec::<String>::new());
        made
    }

    fn see(&mut self, group: Option<Group>) {
        let coordinator = (0, led_by("c", false, &[]));
        self.register.see([coordinator].into_iter().chain(group.map(|group| (1, group))).collect());
    }

    fn hear(&mut self, kind: CitusEventKind, leader: &str) -> Vec<String> {
        assert!(self.register.hear(&event(kind, leader), None));
        self.settle()
    }

    /// Does what is to be done, and tells what that was.
    fn settle(&mut self) -> Vec<String> {
        for _ in 0..50 {
            match self.register.next(self.now) {
                Next::Read => self.register.learn(self.table.clone()),
                Next::Run(work) => {
                    self.run(&work);
                    self.register.done(work);
                }
                Next::Wait(_) => return std::mem::take(&mut self.said),
            }
        }
        panic!("never done: {:?}", self.said);
    }

    fn run(&mut self, work: &Work) {
        if work.begin.is_some() {
            assert!(self.before.is_none(), "one transaction at a time: {work:?}");
            self.before = Some(self.table.clone());
            self.said.push("begin".to_owned());
        }
        for change in &work.changes {
            self.said.push(change.to_string());
            apply(&mut self.table, change);
        }
        match work.end {
            End::None => assert!(self.before.is_none() && work.changes.len() == 1),
            End::Hold => assert!(self.before.is_some()),
            End::Commit => {
                assert!(self.before.take().is_some());
                self.said.push("commit".to_owned());
            }
            End::RollBack => {
                self.table = self.before.take().expect("one is open");
                self.said.push("rollback".to_owned());
            }
        }
    }

    fn hosts(&self) -> Vec<&str> {
        self.table.iter().skip(1).map(|row| row.address.host.as_str()).collect()
    }
}

fn apply(table: &mut Vec<Row>, change: &Change) {
    match change {
        Change::Update { id, host, port } => {
            let row = table.iter_mut().find(|row| row.id == *id).expect("rows are known by their number");
            row.address = Address { host: host.clone(), port: *port };
        }
        Change::Add { group, address, role } => {
            let id = table.iter().map(|row| row.id).max().unwrap_or(0) + 1;
            table.push(Row::new(id, *group, address.clone(), *role));
        }
        Change::Remove { address } => {
            let before = table.len();
            table.retain(|row| row.address != *address || row.role == NodeRole::Primary);
            assert_eq!(table.len() + 1, before, "no secondary at {address}");
        }
    }
    let addresses: BTreeSet<&Address> = table.iter().map(|row| &row.address).collect();
    assert_eq!(addresses.len(), table.len(), "an address twice after {change:?}: {table:?}");
}

#[test]
fn what_the_store_says_gets_into_the_table() {
    let mut coordinator = Coordinator::with(&[]);
    coordinator.see(Some(led_by("a", false, &["b"])));
    assert_eq!(coordinator.settle(), Vec::<String>::new(), "nobody is a primary there yet");
    coordinator.see(Some(led_by("a", true, &["b"])));
    assert_eq!(
        coordinator.settle(),
        ["begin", "added a:5432 as primary", "added b:5432 as secondary", "commit"]
    );
    coordinator.see(Some(led_by("a", true, &["b", "d"])));
    assert_eq!(coordinator.settle(), ["added d:5432 as secondary"]);
    coordinator.see(Some(led_by("a", true, &["e", "d"])));
    assert_eq!(coordinator.settle(), ["node 3 is at e:5432"], "the row of who is gone serves who came");
    coordinator.see(Some(led_by("a", true, &["d"])));
    assert_eq!(coordinator.settle(), ["removed e:5432"]);
    coordinator.see(Some(Group::default()));
    assert_eq!(coordinator.settle(), Vec::<String>::new(), "a group without a leader keeps its rows");
}

#[test]
fn the_coordinators_own_row_follows_its_leader() {
    let mut coordinator = Coordinator::with(&["a"]);
    let groups = [(0, led_by("c2", false, &[])), (1, led_by("a", true, &[]))];
    coordinator.register.see(BTreeMap::from(groups));
    assert_eq!(coordinator.settle(), ["node 1 is at c2:5432"]);
}

#[test]
fn a_switchover_is_one_transaction_and_the_primary_keeps_its_number() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    assert_eq!(coordinator.hear(CitusEventKind::BeforeDemote, "a"), ["begin", "node 2 is at a-demoted:5432"]);
    // The store is behind: `a` says that it is the primary until it is stopped.
    assert_eq!(coordinator.settle(), Vec::<String>::new());
    coordinator.see(Some(led_by("b", false, &[])));
    let moved = coordinator.hear(CitusEventKind::BeforePromote, "b");
    assert_eq!(moved, ["node 3 is at a:5432", "node 2 is at b:5432"]);
    coordinator.see(Some(led_by("b", true, &["a"])));
    assert_eq!(coordinator.hear(CitusEventKind::AfterPromote, "b"), ["commit"]);
    assert_eq!(coordinator.hosts(), ["b", "a"]);
}

#[test]
fn a_failover_moves_the_row_and_removes_the_dead_once_that_is_committed() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    coordinator.see(Some(led_by("b", false, &[])));
    let moved = coordinator.hear(CitusEventKind::BeforePromote, "b");
    assert_eq!(moved, ["begin", "node 2 is at a-demoted:5432", "node 3 is at a:5432", "node 2 is at b:5432"]);
    coordinator.see(Some(led_by("b", true, &[])));
    assert_eq!(coordinator.hear(CitusEventKind::AfterPromote, "b"), ["commit", "removed a:5432"]);
}

#[test]
fn without_any_report_the_store_alone_is_enough() {
    let mut coordinator = Coordinator::with(&["a", "b", "d"]);
    coordinator.see(Some(led_by("b", true, &["e", "d"])));
    let said = coordinator.settle();
    assert_eq!(said, ["begin", "node 3 is at e:5432", "node 2 is at b:5432", "commit"]);
}

#[test]
fn a_restart_ends_as_it_began() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    coordinator.hear(CitusEventKind::BeforeDemote, "a");
    assert_eq!(coordinator.hear(CitusEventKind::AfterPromote, "a"), ["node 2 is at a:5432", "commit"]);
    assert_eq!(coordinator.hear(CitusEventKind::AfterPromote, "a"), Vec::<String>::new());
}

#[test]
fn only_the_leader_of_a_workers_group_is_heard() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    let told = |kind, leader, group| CitusEvent { group, ..event(kind, leader) };
    for stranger in [
        told(CitusEventKind::BeforeDemote, "b", 1),
        told(CitusEventKind::BeforeDemote, "a", 2),
        told(CitusEventKind::BeforeDemote, "c", 0),
    ] {
        assert!(!coordinator.register.hear(&stranger, Some(Ticket(1))), "{stranger:?}");
    }
    assert_eq!(coordinator.settle(), Vec::<String>::new());
}

#[test]
fn p22_a_report_that_never_comes_ends_the_transaction_at_its_deadline() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    coordinator.hear(CitusEventKind::BeforeDemote, "a");
    coordinator.see(Some(Group { leader: None, ..led_by("a", false, &["b"]) }));
    coordinator.now = second(129);
    assert_eq!(coordinator.settle(), Vec::<String>::new());
    assert_eq!(coordinator.register.next(coordinator.now), Next::Wait(second(130)));
    coordinator.now = second(130);
    assert_eq!(coordinator.settle(), ["rollback"], "although nobody else waits");
    assert_eq!(coordinator.hosts(), ["a", "b"]);
}

#[test]
fn p22_the_server_ends_it_when_the_agent_is_stopped_and_no_statement_outlasts_it() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    assert!(coordinator.register.hear(&event(CitusEventKind::BeforeDemote, "a"), None));
    let Next::Run(work) = coordinator.register.next(coordinator.now) else {
        panic!("something is to be done")
    };
    assert_eq!(work.begin, Some(TIMEOUT + Duration::from_secs(1)));
    assert_eq!(
        (work.limit, work.end, work.cause),
        (TIMEOUT, End::Hold, Cause::Event(CitusEventKind::BeforeDemote))
    );
    let for_ever =
        CitusEvent { timeout: Duration::from_secs(1_000_000), ..event(CitusEventKind::BeforeDemote, "a") };
    let mut coordinator = Coordinator::with(&["a", "b"]);
    assert!(coordinator.register.hear(&for_ever, None));
    let Next::Run(work) = coordinator.register.next(coordinator.now) else {
        panic!("something is to be done")
    };
    assert_eq!(work.limit, Duration::from_secs(600));
}

#[test]
fn at_the_deadline_what_the_store_knows_by_then_is_committed() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    coordinator.hear(CitusEventKind::BeforeDemote, "a");
    // The new primary's reports were lost.
    coordinator.see(Some(led_by("b", true, &["a"])));
    assert_eq!(coordinator.settle(), Vec::<String>::new());
    coordinator.now = second(131);
    let said = coordinator.settle();
    assert_eq!(said, ["node 3 is at a:5432", "node 2 is at b:5432", "commit"]);
}

#[test]
fn one_group_at_a_time_and_the_next_when_its_transaction_has_ended() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    let two = |group: u32| if group == 1 { led_by("a", true, &["b"]) } else { led_by("x", true, &[]) };
    coordinator.register.see(BTreeMap::from([(0, led_by("c", false, &[])), (1, two(1)), (2, two(2))]));
    assert_eq!(coordinator.settle(), ["added x:5432 as primary"]);
    coordinator.hear(CitusEventKind::BeforeDemote, "a");
    let other = CitusEvent { group: 2, ..event(CitusEventKind::BeforeDemote, "x") };
    assert!(coordinator.register.hear(&other, Some(Ticket(7))));
    assert_eq!(coordinator.settle(), Vec::<String>::new());
    assert_eq!(coordinator.register.take_dealt_with(), []);
    let said = coordinator.hear(CitusEventKind::AfterPromote, "a");
    assert_eq!(said, ["node 2 is at a:5432", "commit", "begin", "node 4 is at x-demoted:5432"]);
    assert_eq!(coordinator.register.take_dealt_with(), [Ticket(7)]);
}

#[test]
fn nobody_waits_for_what_has_failed_or_was_replaced() {
    let mut coordinator = Coordinator::with(&["a", "b"]);
    assert!(coordinator.register.hear(&event(CitusEventKind::BeforeDemote, "a"), Some(Ticket(1))));
    assert!(coordinator.register.hear(&event(CitusEventKind::BeforeDemote, "a"), Some(Ticket(2))));
    assert_eq!(coordinator.register.take_dealt_with(), [Ticket(1)]);
    let Next::Run(work) = coordinator.register.next(coordinator.now) else {
        panic!("something is to be done")
    };
    coordinator.register.failed(Some(&work), coordinator.now);
    assert_eq!(coordinator.register.take_dealt_with(), [Ticket(2)]);
    // Then it waits a little, and looks for itself what is there.
    let Next::Wait(until) = coordinator.register.next(coordinator.now) else { panic!("not at once") };
    assert!(until > coordinator.now);
    assert_eq!(coordinator.register.next(until), Next::Read);
}

#[test]
fn a_group_that_is_not_registered_is_added_when_its_primary_is_there() {
    let mut coordinator = Coordinator::with(&[]);
    coordinator.see(Some(led_by("a", false, &[])));
    for kind in [CitusEventKind::BeforeDemote, CitusEventKind::BeforePromote] {
        assert_eq!(coordinator.hear(kind, "a"), Vec::<String>::new(), "{kind:?}");
    }
    assert_eq!(coordinator.hear(CitusEventKind::AfterPromote, "a"), ["added a:5432 as primary"]);
}

fn group() -> impl Strategy<Value = Group> {
    let hosts = ["a", "b", "d", "e", "f"];
    let nodes = proptest::sample::subsequence(hosts.to_vec(), 1..=4).prop_shuffle();
    (nodes, any::<bool>()).prop_map(|(nodes, is_primary)| led_by(nodes[0], is_primary, &nodes[1..]))
}

proptest! {
    /// Whatever happens: no address twice at any moment (which Citus refuses), the primary's row keeps its number, and in the end
    /// the table says what the store says.
    #[test]
    fn every_way_leads_to_what_the_store_says(
        steps in proptest::collection::vec((group(), proptest::option::of(0..3usize), 0..40u64), 1..12)
    ) {
        let mut coordinator = Coordinator::with(&["a", "b"]);
        for (group, told, pause) in steps {
            let leader = group.leader.clone().unwrap();
            coordinator.see(Some(group));
            if let Some(told) = told {
                let kind = [CitusEventKind::BeforeDemote, CitusEventKind::BeforePromote, CitusEventKind::AfterPromote][told];
                coordinator.hear(kind, leader.name.as_str());
            }
            coordinator.now = coordinator.now + Duration::from_secs(pause);
            coordinator.settle();
            prop_assert!(coordinator.table.iter().any(|row| row.id == 2 && row.role == NodeRole::Primary));
        }
        let last = led_by("e", true, &["a", "f"]);
        coordinator.see(Some(last));
        coordinator.now = coordinator.now + TIMEOUT;
        coordinator.settle();
        prop_assert!(coordinator.before.is_none());
        let hosts = coordinator.hosts();
        prop_assert_eq!(hosts[0], "e");
        prop_assert_eq!(BTreeSet::from_iter(hosts[1..].iter().copied()), BTreeSet::from(["a", "f"]));
    }
}
