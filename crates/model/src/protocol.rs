//! The steps of the protocol, and what must hold after each.

mod later;
mod sync;
mod votes;

use crate::{
    Guard,
    overlap::{Electorate, Names, bit, size},
    state::{Epoch, MOST, Member, OLD, Pos, Primary, Sender, State, Store},
};

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub members: u8,
    /// Commits that clients of the old primary try.
    pub commits: u8,
    /// Agents and servers that die and come back.
    pub crashes: u8,
    /// Writes of each key of the store.
    pub writes: u8,
    /// `/sync` and the names may change.
    pub changes_sync: bool,
    /// Whether the story goes on after the take-over: the successor acknowledges, dies, and somebody else leads.
    pub second_leader: bool,
}

/// The protocol in one cluster. `without`: a guard that is left out.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub bounds: Bounds,
    pub without: Option<Guard>,
    /// At the beginning.
    pub sync: Electorate,
    pub names: Names,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    // --- PostgreSQL ---
    Commit,
    Connect(u8),
    Stream(u8),
    /// What a standby reported arrives at its walsender, which releases what it may.
    Acknowledge(u8),
    /// A walsender reads the present list.
    Reload(u8),
    ReceiverEnds(u8),
    /// A walsender notices that its standby is gone.
    SenderEnds(u8),
    // --- the old leader's agent ---
    SetNames(Names),
    SendSync(Electorate),
    SyncArrives,
    Stops,
    // --- every agent ---
    See(u8),
    Open(u8),
    Detach(u8),
    Promise(u8),
    Collect {
        by: u8,
        from: u8,
    },
    SendTaking(u8),
    TakingArrives(u8),
    Close(u8),
    Forget(u8),
    Attach(u8),
    Crash(u8),
    // --- after it ---
    LaterCommit,
    SuccessorFails,
    /// A running primary takes a free lock.
    Retake(u8),
    /// A standby wins the race for a free lock.
    Race(u8),
}

impl Protocol {
    /// Three members: both voters are needed, any one acknowledges.
    pub fn of_three(without: Option<Guard>) -> Self {
        Self {
            bounds: Bounds {
                members: 3,
                commits: 1,
                crashes: 1,
                writes: 2,
                changes_sync: false,
                second_leader: false,
            },
            without,
            sync: Electorate { leader: OLD, quorum: 1, voters: 0b110 },
            names: Names { count: 1, names: 0b110 },
        }
    }

    /// Five members, any two of four acknowledge: three of them elect.
    pub fn of_five(without: Option<Guard>) -> Self {
        let three = Self::of_three(without);
        Self {
            bounds: Bounds { members: 5, crashes: 0, writes: 2, ..three.bounds },
            sync: Electorate { leader: OLD, quorum: 2, voters: 0b11110 },
            names: Names { count: 2, names: 0b11110 },
            ..three
        }
    }

    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn others(&self) -> impl Iterator<Item = u8> + use<> {
        1..self.bounds.members
    }

    /// What the leader may make of `/sync` and the names.
    fn electorates(&self) -> Vec<Electorate> {
        let voters = self.sync.voters;
        let mut all = vec![Electorate { leader: OLD, quorum: 0, voters: 0 }, self.sync];
        for member in self.others() {
            let fewer = voters & !bit(member);
            all.push(Electorate {
                leader: OLD,
                quorum: size(fewer).saturating_sub(self.names.count),
                voters: fewer,
            });
        }
        all
    }

    fn texts(&self) -> Vec<Names> {
        let names = self.names.names;
        let fewer = self.others().map(|member| names & !bit(member));
        let fewer = fewer.map(|names| Names { count: self.names.count.min(size(names)), names });
        [Names { count: 0, names: 0 }, self.names].into_iter().chain(fewer).collect()
    }
}

fn covers(mine: Pos, theirs: Pos) -> bool {
    mine.timeline == theirs.timeline && theirs.lsn <= mine.lsn
}

impl State {
    fn member(&self, member: u8) -> &Member {
        &self.members[usize::from(member)]
    }

    fn member_mut(&mut self, member: u8) -> &mut Member {
        &mut self.members[usize::from(member)]
    }

    /// The live epoch in the view of `member`, if it is somebody else's business that this member votes on.
    fn case(&self, member: u8) -> Option<(Store, u8)> {
        let view = self.member(member).view?;
        let leader = view.leader.filter(|leader| *leader != member)?;
        let elects = view.sync.without(leader) & bit(member) != 0;
        Some((view, view.live_epoch()?)).filter(|_| elects)
    }

    fn is_over(&self, member: u8) -> bool {
        let this = self.member(member);
        let leads = self.store.leader == Some(member);
        match (&this.promise, &this.view) {
            (Some(promise), Some(view)) => leads || view.live_epoch() != Some(promise.epoch),
            _ => false,
        }
    }
}

impl Protocol {
    /// How it begins: everybody streams from the old leader and knows the store.
    pub fn beginning(&self) -> State {
        let store = Store {
            leader: Some(OLD),
            leader_revision: 0,
            sync: self.sync,
            sync_revision: 0,
            epoch: Epoch::None,
            epoch_revision: 0,
            taken: None,
        };
        let follows = |number: usize| (1..usize::from(self.bounds.members)).contains(&number);
        let member = |number: usize| Member {
            is_primary: number == usize::from(OLD),
            wal: Pos { timeline: 1, lsn: 0 },
            upstream: follows(number).then_some(OLD),
            receiver: follows(number).then_some(OLD),
            promise: None,
            view: Some(store),
            is_view_older: false,
            collected: [None; MOST],
            taking: None,
        };
        let sender =
            |number: usize| follows(number).then_some(Sender { text: self.names, reported: 0, known: 0 });
        State {
            store,
            members: std::array::from_fn(member),
            old: Primary {
                shown: self.names,
                senders: std::array::from_fn(sender),
                acknowledged: 0,
                pending: None,
                in_flight: false,
            },
            branch: None,
            acknowledged_later: 0,
            crashes: 0,
            finished: false,
        }
    }

    /// Somewhere in the middle of a story.
    ///
    /// # Panics
    /// If one of these steps cannot be taken.
    pub fn after_all(&self, steps: &[Step]) -> State {
        steps.iter().fold(self.beginning(), |state, step| {
            self.after(&state, *step).unwrap_or_else(|| panic!("{step:?} after {state:?}"))
        })
    }

    /// So many voters have promised that the first one's transaction is on its way.
    fn way_to_a_taking(&self) -> Vec<Step> {
        let promise = |member| {
            [Step::See(member), Step::Detach(member), Step::ReceiverEnds(member), Step::Promise(member)]
        };
        let others = 2..self.sync.quorum + 2;
        let mut steps = vec![Step::Open(1)];
        steps.extend(promise(1));
        for other in others {
            steps.extend(promise(other));
            steps.push(Step::Collect { by: 1, from: other });
        }
        steps.push(Step::SendTaking(1));
        steps
    }

    /// A take-over is on its way.
    pub fn on_its_way(&self) -> State {
        self.after_all(&self.way_to_a_taking())
    }

    /// The successor leads and is followed.
    pub fn taken_over(&self) -> State {
        let mut steps = self.way_to_a_taking();
        steps.extend([Step::TakingArrives(1), Step::LaterCommit, Step::See(2), Step::Forget(2)]);
        steps.extend([Step::Attach(2), Step::Connect(2)]);
        self.after_all(&steps)
    }

    /// Everything that can be tried; most of it cannot be done in most states.
    pub fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::with_capacity(128);
        if state.finished {
            return steps;
        }
        let old = state.member(OLD);
        if old.is_primary {
            steps.extend([Step::Commit, Step::Stops]);
            if self.bounds.changes_sync && old.view.is_some_and(|view| view.leader == Some(OLD)) {
                steps.extend(self.texts().into_iter().map(Step::SetNames));
                steps.extend(self.electorates().into_iter().map(Step::SendSync));
            }
        }
        if state.old.in_flight {
            steps.push(Step::SyncArrives);
        }
        for member in 0..self.bounds.members {
            steps.extend([
                Step::See(member),
                Step::Open(member),
                Step::Detach(member),
                Step::Promise(member),
            ]);
            steps.extend([Step::SendTaking(member), Step::TakingArrives(member), Step::Close(member)]);
            steps.extend([Step::Forget(member), Step::Attach(member), Step::Crash(member)]);
            steps.extend([Step::Connect(member), Step::Stream(member), Step::Acknowledge(member)]);
            steps.extend([Step::Reload(member), Step::ReceiverEnds(member), Step::SenderEnds(member)]);
            steps.extend((0..self.bounds.members).map(|from| Step::Collect { by: member, from }));
            if self.bounds.second_leader {
                steps.extend([Step::Retake(member), Step::Race(member)]);
            }
        }
        if self.bounds.second_leader {
            steps.extend([Step::LaterCommit, Step::SuccessorFails]);
        }
        steps
    }

    /// The state after a step; `None` if it cannot be taken, or changes nothing.
    pub fn after(&self, last: &State, step: Step) -> Option<State> {
        let mut next = *last;
        (self.take(&mut next, step) && next != *last).then_some(next)
    }

    /// What must hold in every state.
    pub fn holds(&self, state: &State) -> bool {
        match state.store.leader {
            Some(leader) if leader != OLD || state.finished => state.has_everything(state.member(leader).wal),
            _ => true,
        }
    }
}

/// One step; `false`: it cannot be taken.
impl Protocol {
    fn take(&self, state: &mut State, step: Step) -> bool {
        match step {
            Step::Commit => self.commit(state),
            Step::Connect(member) => {
                let this = state.member(member);
                let may = !this.is_primary && this.receiver.is_none();
                let upstream = this.upstream.filter(|upstream| may && state.can_stream(member, *upstream));
                upstream.is_some_and(|_| {
                    state.connect(member);
                    true
                })
            }
            Step::Stream(member) => {
                let this = state.member(member);
                let from = this.receiver.filter(|&from| {
                    state.can_stream(member, from)
                        && (this.wal.lsn < state.member(from).wal.lsn
                            || this.wal.timeline < state.member(from).wal.timeline)
                });
                from.is_some_and(|from| {
                    let timeline = state.member(from).wal.timeline;
                    if state.member(member).wal.lsn == state.member(from).wal.lsn {
                        state.member_mut(member).wal.timeline = timeline;
                    } else {
                        state.stream(member, from);
                    }
                    true
                })
            }
            Step::Acknowledge(member) => {
                let is_primary = state.member(OLD).is_primary;
                let Some(sender) = &mut state.old.senders[usize::from(member)] else { return false };
                sender.known = sender.reported;
                if is_primary {
                    let released = state.old.released_by(usize::from(member));
                    let upto = released.map(|lsn| lsn.min(state.members[usize::from(OLD)].wal.lsn));
                    state.old.acknowledge(upto);
                }
                true
            }
            Step::Reload(member) => {
                let shown = state.old.shown;
                let Some(sender) = &mut state.old.senders[usize::from(member)] else { return false };
                sender.text = shown;
                true
            }
            Step::ReceiverEnds(member) => {
                let this = state.member_mut(member);
                let ends = this.receiver.is_some() && this.receiver != this.upstream;
                if ends {
                    this.receiver = None;
                }
                ends
            }
            Step::SenderEnds(member) => {
                let is_there = state.member(member).receiver == Some(OLD);
                !is_there && state.old.senders[usize::from(member)].take().is_some()
            }
            Step::SetNames(_) | Step::SendSync(_) | Step::SyncArrives => self.change_sync(state, step),
            Step::Stops => {
                let old = state.member_mut(OLD);
                (old.is_primary, old.upstream) = (false, None);
                state.old.senders.fill(None);
                true
            }
            Step::See(member) => {
                let store = state.store;
                let this = state.member_mut(member);
                (this.view, this.is_view_older) = (Some(store), false);
                true
            }
            Step::Crash(member) => self.crash(state, member),
            Step::LaterCommit | Step::SuccessorFails | Step::Retake(_) | Step::Race(_) => {
                self.go_on(state, step)
            }
            step => self.vote(state, step),
        }
    }
}
