//! Known bugs, put back one at a time to see that the simulator catches them. Each sits in the model agent or around the core, never
//! in the core itself.

use std::{str::FromStr, sync::Arc, time::Duration};

use bellwether_ha::{
    Action, Decision, View,
    action::DemoteMode,
    lease,
    memory::RewindState,
    view::{AsOf, JobKind, JobPhase, Kept, LeaseView, PeerAnswer},
};
use bellwether_types::{Timestamp, settings::SyncMode};

use crate::{faults::Fault, random::Random, scenario::Scenario};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    #[default]
    None,
    /// A silent store is taken for a healthy one: a leader never demotes for want of renewals.
    SilenceIsHealth,
    /// A lease is counted from the answer instead of from before the request.
    LeaseFromAnswer,
    /// The agent believes in a guardian that never got a deadline.
    GuardianNeverArmed,
    /// Whoever finds the lock free takes it, without asking peers or `/sync`.
    BlindPromotion,
    /// A member follows a new leader without comparing histories.
    NoDivergenceCheck,
    /// The lock is given up before a peer has the shutdown checkpoint.
    EarlyRelease,
    /// `synchronous_standby_names` is emptied before the backends of the old primary are gone.
    NamesLoosenedFirst,
    /// Names count as soon as they are shown, whether the checkpointer has read them or not.
    ShownIsInForce,
    /// A promotion leaves the number of the timeline to PostgreSQL alone.
    NumbersNotTaken,
    /// The fast stop of a restart is waited for without limit.
    RestartWithoutLimit,
    /// A member promises a leader without a store its own `ttl`, and the leader relies on the one that it knows.
    ShortPromise,
    /// A claim of `initialize` outlives the claimer, and no mark says that a data directory is in the making.
    ForgetfulFounder,
    /// The founder takes the lock before its guardian has a deadline.
    UnguardedFounder,
    /// The last answer of a PostgreSQL that hangs is taken for its present state.
    HungServerBelieved,
    /// A member in a race is told what was published last, and takes it for the present.
    LastTickCounts,
    /// Whoever came to lead a standby cluster is promoted with it, whatever it lacks.
    LedWithoutElection,
    /// A voter promises to receive nothing, and goes on receiving.
    PromisesAndListens,
    /// A promise does not survive the agent.
    ForgetfulVoter,
    /// A voter attaches again although its epoch is not over.
    WithdrawsEarly,
    /// A take-over asks for one promise less than it takes.
    OnePromiseLess,
    /// A take-over does not look whether `/sync` was changed meanwhile.
    TakesOverByOldSync,
    /// No voter ever promises: the end of the lease remains.
    NobodyPromises,
}

impl Bug {
    pub const ALL: [Bug; 22] = [
        Bug::SilenceIsHealth,
        Bug::LeaseFromAnswer,
        Bug::GuardianNeverArmed,
        Bug::BlindPromotion,
        Bug::NoDivergenceCheck,
        Bug::EarlyRelease,
        Bug::NamesLoosenedFirst,
        Bug::ShownIsInForce,
        Bug::NumbersNotTaken,
        Bug::RestartWithoutLimit,
        Bug::ShortPromise,
        Bug::ForgetfulFounder,
        Bug::UnguardedFounder,
        Bug::HungServerBelieved,
        Bug::LastTickCounts,
        Bug::LedWithoutElection,
        Bug::PromisesAndListens,
        Bug::ForgetfulVoter,
        Bug::WithdrawsEarly,
        Bug::OnePromiseLess,
        Bug::TakesOverByOldSync,
        Bug::NobodyPromises,
    ];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SilenceIsHealth => "silence-is-health",
            Self::LeaseFromAnswer => "lease-from-answer",
            Self::GuardianNeverArmed => "guardian-never-armed",
            Self::BlindPromotion => "blind-promotion",
            Self::NoDivergenceCheck => "no-divergence-check",
            Self::EarlyRelease => "early-release",
            Self::NamesLoosenedFirst => "names-loosened-first",
            Self::ShownIsInForce => "shown-is-in-force",
            Self::NumbersNotTaken => "numbers-not-taken",
            Self::RestartWithoutLimit => "restart-without-limit",
            Self::ShortPromise => "short-promise",
            Self::ForgetfulFounder => "forgetful-founder",
            Self::UnguardedFounder => "unguarded-founder",
            Self::HungServerBelieved => "hung-server-believed",
            Self::LastTickCounts => "last-tick-counts",
            Self::LedWithoutElection => "led-without-election",
            Self::PromisesAndListens => "promises-and-listens",
            Self::ForgetfulVoter => "forgetful-voter",
            Self::WithdrawsEarly => "withdraws-early",
            Self::OnePromiseLess => "one-promise-less",
            Self::TakesOverByOldSync => "takes-over-by-old-sync",
            Self::NobodyPromises => "nobody-promises",
        }
    }

    /// The core, with the bug around it.
    pub(crate) fn decide(self, view: &View) -> Decision {
        match self {
            Self::SilenceIsHealth => bellwether_ha::decide(&deaf(view)),
            Self::BlindPromotion => bellwether_ha::decide(&blind(view)),
            Self::NoDivergenceCheck => {
                let mut view = view.clone();
                if matches!(view.memory.rewind, RewindState::Check { .. } | RewindState::Need) {
                    view.memory.rewind = RewindState::NotNeed;
                }
                bellwether_ha::decide(&view)
            }
            Self::HungServerBelieved => {
                let mut view = view.clone();
                if let Some(server) = &mut view.postgres.server {
                    server.answered_at = view.now;
                }
                bellwether_ha::decide(&view)
            }
            Self::EarlyRelease => {
                let mut decision = bellwether_ha::decide(view);
                if releases_early(view, &decision) {
                    decision.actions.push(Action::ReleaseLease { optime: None });
                }
                decision
            }
            Self::LedWithoutElection => {
                let mut view = view.clone();
                if let LeaseView::Held { term, .. } = view.lease {
                    view.memory.mandate = Some(term);
                }
                bellwether_ha::decide(&view)
            }
            Self::ShownIsInForce => {
                let mut view = view.clone();
                view.postgres.checkpointer_read_at = Some(view.now);
                bellwether_ha::decide(&view)
            }
            Self::WithdrawsEarly => bellwether_ha::decide(&withdrawn(view)),
            Self::OnePromiseLess => bellwether_ha::decide(&easily_elected(view)),
            Self::NobodyPromises => {
                let mut decision = bellwether_ha::decide(view);
                decision.actions.retain(|action| !matches!(action, Action::DetachAndPromise { .. }));
                decision
            }
            _ => bellwether_ha::decide(view),
        }
    }

    pub(crate) fn detaches(self) -> bool {
        self != Self::PromisesAndListens
    }

    pub(crate) fn forgets_promises(self) -> bool {
        self == Self::ForgetfulVoter
    }

    pub(crate) fn keeps_promises(self) -> bool {
        self != Self::WithdrawsEarly
    }

    pub(crate) fn takes_over_by_sync(self) -> bool {
        self != Self::TakesOverByOldSync
    }

    pub(crate) fn is_of_take_over(self) -> bool {
        matches!(
            self,
            Self::PromisesAndListens
                | Self::ForgetfulVoter
                | Self::WithdrawsEarly
                | Self::OnePromiseLess
                | Self::TakesOverByOldSync
                | Self::NobodyPromises
        )
    }

    pub(crate) fn lease_begins(self, sent_at: Timestamp, answered_at: Timestamp) -> Timestamp {
        if self == Self::LeaseFromAnswer { answered_at } else { sent_at }
    }

    pub(crate) fn arms_guardian(self) -> bool {
        self != Self::GuardianNeverArmed
    }

    pub(crate) fn checks_sync_revision(self) -> bool {
        self != Self::BlindPromotion
    }

    pub(crate) fn loosens_names_first(self) -> bool {
        self == Self::NamesLoosenedFirst
    }

    pub(crate) fn skips_taken_timelines(self) -> bool {
        self != Self::NumbersNotTaken
    }

    pub(crate) fn limits_stops(self) -> bool {
        self != Self::RestartWithoutLimit
    }

    pub(crate) fn failsafe_promise(self, ttl: Duration, rely_on: Duration) -> Duration {
        if self == Self::ShortPromise { ttl } else { lease::failsafe_promise(ttl, Some(rely_on)) }
    }

    pub(crate) fn failsafe_belief(self, rely_on: Duration, promised: Duration) -> Duration {
        if self == Self::ShortPromise { rely_on } else { lease::failsafe_belief(rely_on, Some(promised)) }
    }

    pub(crate) fn forgets_bootstraps(self) -> bool {
        self == Self::ForgetfulFounder
    }

    pub(crate) fn guards_founders(self) -> bool {
        self != Self::UnguardedFounder
    }

    pub(crate) fn doubts_old_answers(self) -> bool {
        self != Self::HungServerBelieved
    }

    pub(crate) fn looks_again(self) -> bool {
        self != Self::LastTickCounts
    }

    pub(crate) fn as_of(self, ago: Duration) -> AsOf {
        if self == Self::LastTickCounts { AsOf::Unsaid } else { AsOf::Earlier { ago } }
    }

    // --- where the bug can show ---

    pub(crate) fn fewest_members(self) -> usize {
        let is_vote = matches!(
            self,
            Self::BlindPromotion | Self::NumbersNotTaken | Self::LastTickCounts | Self::LedWithoutElection
        );
        if is_vote || self.is_of_take_over() { 3 } else { 2 }
    }

    /// A second line of defence would hide what the first one lets through.
    pub(crate) fn guardian(self) -> Option<bool> {
        match self {
            Self::SilenceIsHealth => Some(false),
            Self::GuardianNeverArmed | Self::LeaseFromAnswer => Some(true),
            Self::ForgetfulFounder | Self::UnguardedFounder => Some(true),
            _ => None,
        }
    }

    pub(crate) fn sync_mode(self) -> Option<(SyncMode, bool)> {
        match self {
            Self::BlindPromotion | Self::LedWithoutElection => Some((SyncMode::On, true)),
            Self::NamesLoosenedFirst | Self::LastTickCounts => Some((SyncMode::Quorum, true)),
            bug if bug.is_of_take_over() => Some((SyncMode::Quorum, false)),
            Self::ShownIsInForce => Some((SyncMode::On, false)),
            Self::GuardianNeverArmed
            | Self::SilenceIsHealth
            | Self::LeaseFromAnswer
            | Self::NoDivergenceCheck
            | Self::NumbersNotTaken
            | Self::ShortPromise => Some((SyncMode::Off, false)),
            _ => None,
        }
    }

    pub(crate) fn failsafe(self) -> Option<bool> {
        (self == Self::ShortPromise).then_some(true)
    }

    pub(crate) fn ttl_seconds(self) -> Option<u64> {
        matches!(self, Self::LeaseFromAnswer | Self::ShortPromise | Self::LastTickCounts).then_some(30)
    }

    /// Half of the faults are of the kind that the bug fears.
    pub(crate) fn favourite(self, scenario: &Scenario, random: &mut Random) -> Option<Fault> {
        if self == Self::None || random.percent(50) {
            return None;
        }
        let host = random.index(scenario.members);
        let store = scenario.members;
        Some(match self {
            Self::None | Self::ForgetfulFounder | Self::UnguardedFounder => return None,
            Self::SilenceIsHealth => Fault::CutBoth { a: host, b: store },
            Self::LeaseFromAnswer => match random.between(0, 2) {
                0 => Fault::Slow { from: store, to: host, by: scenario.ttl / 5 - scenario.ttl / 100 },
                _ => Fault::FreezeAgent { host },
            },
            Self::GuardianNeverArmed => Fault::FreezeAgent { host },
            Self::BlindPromotion => match random.between(0, 2) {
                0 => Fault::PowerLoss { host },
                _ => Fault::CutBoth { a: host, b: random.index(scenario.members + 1) },
            },
            Self::NoDivergenceCheck => Fault::Isolate { host },
            Self::NumbersNotTaken => Fault::PowerLoss { host },
            Self::EarlyRelease => Fault::Switchover { candidate: None },
            Self::NamesLoosenedFirst => Fault::Isolate { host },
            Self::ShownIsInForce => match random.between(0, 3) {
                0 => Fault::PowerLoss { host },
                1 => Fault::Isolate { host },
                _ => Fault::BusyCheckpointer { host },
            },
            Self::RestartWithoutLimit => match random.between(0, 2) {
                0 => Fault::Restart { host },
                _ => Fault::FreezePostgres { host },
            },
            Self::ShortPromise => Fault::ShorterTtl { seconds: 2 },
            // Who hears late that the leader is gone has not looked since, and who was cut off from the leader lacks what it has.
            Self::LastTickCounts => match random.between(0, 3) {
                0 => Fault::Slow { from: store, to: host, by: scenario.loop_wait / 2 },
                1 => Fault::PowerLoss { host },
                _ => Fault::CutBoth { a: host, b: random.index(scenario.members) },
            },
            Self::LedWithoutElection => match random.between(0, 4) {
                0 | 1 => Fault::FollowAnother,
                2 => Fault::CutBoth { a: host, b: random.index(scenario.members) },
                _ => Fault::PowerLoss { host },
            },
            Self::HungServerBelieved => match random.between(0, 2) {
                0 => Fault::FreezePostgres { host },
                _ => Fault::PowerLoss { host },
            },
            // The leader is cut off from a voter and its own agent is silent, while it can still reach others and the store.
            Self::NobodyPromises => Fault::PowerLoss { host },
            Self::PromisesAndListens
            | Self::ForgetfulVoter
            | Self::WithdrawsEarly
            | Self::OnePromiseLess
            | Self::TakesOverByOldSync => match random.between(0, 4) {
                0 => Fault::FreezeAgent { host },
                1 | 2 => Fault::CutBoth { a: host, b: (host + 1) % scenario.members },
                _ => Fault::Isolate { host },
            },
        })
    }
}

impl FromStr for Bug {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Bug::None].into_iter().chain(Bug::ALL);
        known.into_iter().find(|bug| bug.as_str() == text).ok_or_else(|| format!("`{text}` is no known bug"))
    }
}

fn deaf(view: &View) -> View {
    let mut view = view.clone();
    if let LeaseView::Held { until, demote_at, unavailable_since, .. } = &mut view.lease {
        *until = Timestamp::MAX;
        *demote_at = Timestamp::MAX;
        *unavailable_since = None;
    }
    view.store.unavailable_since = None;
    view.store.confirmed_at = view.now;
    view
}

fn blind(view: &View) -> View {
    let mut view = view.clone();
    if matches!(view.lease, LeaseView::Held { .. }) {
        return view;
    }
    if let Some(cluster) = &mut view.store.cluster {
        let cluster = Arc::make_mut(cluster);
        cluster.sync = None;
        cluster.status = None;
    }
    for answer in view.peers.answers.values_mut() {
        *answer = PeerAnswer::Unreachable { refused: false };
    }
    view
}

fn withdrawn(view: &View) -> View {
    let mut view = view.clone();
    let is_old = |kept: &Kept| view.now.since(kept.made_at) > Duration::from_millis(150);
    if view.takeover.promise.as_ref().is_some_and(is_old) {
        view.takeover.promise = None;
        if let Some(hearing) = &mut view.takeover.hearing {
            hearing.heard_at = view.now;
        }
    }
    view
}

fn easily_elected(view: &View) -> View {
    let mut view = view.clone();
    if view.takeover.promise.is_some()
        && let Some(sync) =
            view.store.cluster.as_mut().and_then(|cluster| Arc::make_mut(cluster).sync.as_mut())
    {
        sync.value.quorum = sync.value.quorum.saturating_sub(1);
    }
    view
}

fn releases_early(view: &View, decision: &Decision) -> bool {
    let stopping = view.job.as_ref().is_some_and(|job| {
        job.kind == JobKind::Demote && !matches!(job.phase, JobPhase::ShutdownCheckpoint { .. })
    });
    let planned = view.memory.demoting.as_ref().is_some_and(|demoting| demoting.mode == DemoteMode::Graceful);
    let released = decision.actions.iter().any(|action| matches!(action, Action::ReleaseLease { .. }));
    stopping && planned && !released && matches!(view.lease, LeaseView::Held { .. })
}
