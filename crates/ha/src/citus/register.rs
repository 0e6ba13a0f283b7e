//! What is done next about `pg_dist_node`: one thing at a time, over one connection.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bellwether_types::Timestamp;

use super::{
    COORDINATOR, Change, CitusEvent, CitusEventKind, Group, NodeRole, Row,
    changes::{Goal, plan},
};

/// As Citus has it, where nobody says otherwise.
const COOLDOWN: Duration = Duration::from_secs(10);
/// No report may keep a transaction open for longer.
const LONGEST: Duration = Duration::from_secs(600);
/// After a failure, before something is tried that nobody waits for.
const PAUSE: Duration = Duration::from_secs(5);

/// Somebody waits until an event has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Why something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The table does not say what the store says.
    Store,
    Event(CitusEventKind),
    /// The transaction of an event has lasted long enough.
    Deadline,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Event(kind) => kind.as_str(),
            Self::Deadline => "deadline",
        }
    }
}

/// Statements to be run in order. A failure of one ends the session, and with it the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub group: u32,
    pub cause: Cause,
    /// Open a transaction first, which the server is to end by itself if it sits idle for so long.
    pub begin: Option<Duration>,
    pub changes: Vec<Change>,
    pub end: End,
    /// The last argument of `citus_update_node`.
    pub cooldown: Duration,
    /// How long all of it may take.
    pub limit: Duration,
    ticket: Option<Ticket>,
    then_open: Option<Open>,
}

/// What becomes of the transaction after the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There was none: a single statement.
    None,
    /// It stays open until the next report.
    Hold,
    Commit,
    RollBack,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the table.
    Read,
    Run(Work),
    /// Nothing, until then or until there is news.
    Wait(Timestamp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    group: u32,
    deadline: Timestamp,
    /// The table without the changes of the transaction, and with them.
    before: Vec<Row>,
    now: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Task {
    kind: CitusEventKind,
    goal: Goal,
    timeout: Duration,
    cooldown: Duration,
    ticket: Option<Ticket>,
}

/// What the leader of the coordinator knows and has still to do. A new leadership begins with a new one.
#[derive(Clone, Debug, Default)]
pub struct Register {
    groups: BTreeMap<u32, Group>,
    /// `None`: to be read.
    rows: Option<Vec<Row>>,
    /// At most one per group.
    waiting: VecDeque<Task>,
    open: Option<Open>,
    dealt_with: Vec<Ticket>,
    not_before: Timestamp,
}

impl Register {
    /// What the store says now. The coordinator's own group counts as led by a primary: its leader is who calls this.
    pub fn see(&mut self, groups: BTreeMap<u32, Group>) {
        self.groups = groups;
    }

    /// Takes a report. False: it is none of the present leader of a worker's group.
    pub fn hear(&mut self, event: &CitusEvent, ticket: Option<Ticket>) -> bool {
        let group = self.groups.get(&event.group).filter(|_| event.group != COORDINATOR);
        let leader =
            group.and_then(|group| group.leader.as_ref()).filter(|leader| leader.name == event.leader);
        let (Some(group), Some(leader)) = (group, leader) else { return false };
        let goal = Goal {
            group: event.group,
            primary: leader.address.clone(),
            parked: event.kind == CitusEventKind::BeforeDemote,
            secondaries: group.secondaries.clone(),
        };
        let timeout = event.timeout.min(LONGEST);
        let task = Task { kind: event.kind, goal, timeout, cooldown: event.cooldown, ticket };
        match self.waiting.iter_mut().find(|earlier| earlier.goal.group == event.group) {
            Some(earlier) => {
                let earlier = std::mem::replace(earlier, task);
                self.dealt_with.extend(earlier.ticket);
            }
            None => self.waiting.push_back(task),
        }
        true
    }

    /// The table as it was read.
    pub fn learn(&mut self, rows: Vec<Row>) {
        self.rows = Some(rows);
    }

    /// Those who need not wait any longer.
    pub fn take_dealt_with(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.dealt_with)
    }

    /// What to do now; asked again after it was done, and whenever there is news.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if let Some(open) = &self.open {
            let of_group = self.waiting.iter().position(|task| task.goal.group == open.group);
            return match of_group.and_then(|at| self.waiting.remove(at)) {
                Some(task) => Next::Run(self.go_on(task, now)),
                None if now >= open.deadline => Next::Run(self.let_go()),
                None => Next::Wait(open.deadline),
            };
        }
        if self.waiting.is_empty() && now < self.not_before {
            return Next::Wait(self.not_before);
        }
        if self.rows.is_none() {
            return Next::Read;
        }
        while let Some(task) = self.waiting.pop_front() {
            match self.begin(&task, now) {
                Some(work) => return Next::Run(work),
                None => self.dealt_with.extend(task.ticket),
            }
        }
        if now < self.not_before {
            return Next::Wait(self.not_before);
        }
        let unlike = self.groups.keys().find_map(|group| self.as_stored(*group));
        unlike.map_or(Next::Wait(Timestamp::MAX), Next::Run)
    }

    /// What [`Next::Run`] said has been done.
    pub fn done(&mut self, work: Work) {
        self.dealt_with.extend(work.ticket);
        // What was added has a number that only the table knows.
        self.rows = None;
        self.open = work.then_open;
    }

    /// Reading or running failed and the session is gone. Nobody is kept waiting.
    pub fn failed(&mut self, work: Option<&Work>, now: Timestamp) {
        self.dealt_with.extend(work.and_then(|work| work.ticket));
        self.dealt_with.extend(self.waiting.drain(..).filter_map(|task| task.ticket));
        (self.rows, self.open) = (None, None);
        self.not_before = now + PAUSE;
    }

    /// A report outside of any transaction. `None`: it changes nothing.
    fn begin(&self, task: &Task, now: Timestamp) -> Option<Work> {
        let all = self.rows.as_deref().unwrap_or_default();
        let before = of_group(all, task.goal.group);
        let is_over = task.kind == CitusEventKind::AfterPromote;
        let plan = plan(&before, &task.goal, is_over);
        let work =
            Work { ticket: task.ticket, ..work(task.goal.group, task.kind, plan.changes, task.cooldown) };
        if is_over {
            return (!work.changes.is_empty()).then_some(work);
        }
        // Nothing but a change of the primary is worth a transaction that others wait for.
        let primary = |rows: &[Row]| rows.iter().find(|row| row.role == NodeRole::Primary).cloned();
        if primary(&before) == primary(&plan.rows) {
            return None;
        }
        let deadline = now + task.timeout;
        let open = Open { group: task.goal.group, deadline, before, now: plan.rows };
        Some(hold(work, task.timeout, open))
    }

    /// A report about the group whose transaction is open.
    fn go_on(&self, task: Task, now: Timestamp) -> Work {
        let open = self.open.clone().expect("the caller has looked");
        let plan = plan(&open.now, &task.goal, false);
        let work = Work { ticket: task.ticket, ..work(open.group, task.kind, plan.changes, task.cooldown) };
        if task.kind == CitusEventKind::AfterPromote {
            return Work { begin: None, end: End::Commit, ..work };
        }
        let open = Open { deadline: now + task.timeout, now: plan.rows, ..open };
        Work { begin: None, ..hold(work, task.timeout, open) }
    }

    /// The end of a transaction whose report never came: with what the store knows by now, or without anything.
    fn let_go(&self) -> Work {
        let open = self.open.as_ref().expect("the caller has looked");
        let goal =
            self.goal_of(open.group).filter(|goal| !plan(&open.before, goal, false).changes.is_empty());
        let (changes, end) = match goal {
            Some(goal) => (plan(&open.now, &goal, false).changes, End::Commit),
            None => (Vec::new(), End::RollBack),
        };
        let work = work(open.group, CitusEventKind::AfterPromote, changes, COOLDOWN);
        Work { cause: Cause::Deadline, begin: None, end, ..work }
    }

    /// What makes a group's rows what the store says; `None` if they are.
    fn as_stored(&self, group: u32) -> Option<Work> {
        let goal = self.goal_of(group)?;
        let plan = plan(&of_group(self.rows.as_deref()?, group), &goal, true);
        let work = work(group, CitusEventKind::AfterPromote, plan.changes, COOLDOWN);
        (!work.changes.is_empty()).then_some(Work { cause: Cause::Store, ..work })
    }

    /// How the rows of a group should be that has a running primary.
    fn goal_of(&self, group: u32) -> Option<Goal> {
        let known = self.groups.get(&group)?;
        let leader = known.leader.as_ref().filter(|leader| leader.is_primary || group == COORDINATOR)?;
        let primary = leader.address.clone();
        Some(Goal { group, primary, parked: false, secondaries: known.secondaries.clone() })
    }
}

fn of_group(rows: &[Row], group: u32) -> Vec<Row> {
    rows.iter().filter(|row| row.group == group).cloned().collect()
}

/// Changes that stand alone; several belong together.
fn work(group: u32, kind: CitusEventKind, changes: Vec<Change>, cooldown: Duration) -> Work {
    let each = cooldown + Duration::from_secs(5);
    let limit = each * u32::try_from(changes.len().max(1)).unwrap_or(u32::MAX);
    let is_one = changes.len() == 1;
    Work {
        group,
        cause: Cause::Event(kind),
        begin: (!is_one).then_some(limit),
        changes,
        end: if is_one { End::None } else { End::Commit },
        cooldown,
        limit,
        ticket: None,
        then_open: None,
    }
}

/// The same in a transaction that stays open for at most `timeout`.
fn hold(work: Work, timeout: Duration, open: Open) -> Work {
    // The server's own clock is for an agent that is stopped in the middle.
    let begin = Some(timeout + Duration::from_secs(1));
    Work { begin, end: End::Hold, limit: timeout, then_open: Some(open), ..work }
}
