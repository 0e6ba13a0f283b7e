//! Known bugs, put back one at a time to see that the simulator catches them. Each sits in the model agent or around the core, never
//! in the core itself.

mod shows;
mod views;

use std::{str::FromStr, time::Duration};

use bellwether_ha::{
    Action, Decision, View, lease,
    memory::RewindState,
    view::{AsOf, LeaseView},
};
use bellwether_types::{Lsn, Tags, Timestamp};

use crate::schedule::Nanos;
use views::{blind, deaf, easily_elected, lower_count, releases_early, voteless, withdrawn, without_votes};

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
    /// A member does not look at its tags.
    TagsUnread,
    /// A member that has lost its data is taken for one that lags.
    VoterWithoutData,
    /// Whether votes are needed is told by the mode alone, not by `/sync`.
    VotesByMode,
    /// A lower number of synchronous standbys is taken into use before `/sync` says so.
    CountBeforeSync,
    /// A leader steps down at the first sign of trouble.
    HastyTrouble,
    /// A leader believes in half of its lease.
    HastyLease,
    /// The time that a session was asked for is taken for what the store guarantees.
    AskedTtl,
    /// What a lagging server of the store says is taken for its present content.
    LagUnseen,
    /// A voter that has lost its data copies whoever offers itself.
    CopiesAnybody,
}

impl Bug {
    pub const ALL: [Bug; 31] = [
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
        Bug::TagsUnread,
        Bug::VoterWithoutData,
        Bug::VotesByMode,
        Bug::CountBeforeSync,
        Bug::HastyTrouble,
        Bug::HastyLease,
        Bug::AskedTtl,
        Bug::LagUnseen,
        Bug::CopiesAnybody,
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
            Self::TagsUnread => "tags-unread",
            Self::VoterWithoutData => "voter-without-data",
            Self::VotesByMode => "votes-by-mode",
            Self::CountBeforeSync => "count-before-sync",
            Self::HastyTrouble => "hasty-trouble",
            Self::HastyLease => "hasty-lease",
            Self::AskedTtl => "asked-ttl",
            Self::LagUnseen => "lag-unseen",
            Self::CopiesAnybody => "copies-anybody",
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
            Self::TagsUnread => {
                let mut view = view.clone();
                view.me.tags = Tags::default();
                bellwether_ha::decide(&view)
            }
            Self::CopiesAnybody => bellwether_ha::decide(&voteless(view)),
            Self::VotesByMode => bellwether_ha::decide(&without_votes(view)),
            Self::CountBeforeSync => {
                let mut decision = bellwether_ha::decide(view);
                if let Some(names) = lower_count(view) {
                    decision.actions.retain(|action| !matches!(action, Action::WriteSync { .. }));
                    decision.actions.push(Action::SetSyncNames { names });
                }
                decision
            }
            _ => bellwether_ha::decide(view),
        }
    }

    /// What a member without a data directory says of its position, and how sure it is of that.
    pub(crate) fn position_without_data(self, as_of: AsOf) -> (Option<Lsn>, AsOf) {
        if self == Self::VoterWithoutData { (Some(Lsn(1)), AsOf::Asked) } else { (None, as_of) }
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

    pub(crate) fn lease_begins(self, sent_at: Timestamp, answered_at: Timestamp) -> Timestamp {
        if self == Self::LeaseFromAnswer { answered_at } else { sent_at }
    }

    /// What the agent makes of the time that the store guarantees.
    pub(crate) fn guaranteed(self, guaranteed: Nanos, asked: Nanos) -> Nanos {
        match self {
            Self::HastyLease => guaranteed / 2,
            Self::AskedTtl => asked,
            _ => guaranteed,
        }
    }

    pub(crate) fn sees_lag(self) -> bool {
        self != Self::LagUnseen
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
}

impl FromStr for Bug {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Bug::None].into_iter().chain(Bug::ALL);
        known.into_iter().find(|bug| bug.as_str() == text).ok_or_else(|| format!("`{text}` is no known bug"))
    }
}
