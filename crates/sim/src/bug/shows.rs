//! Where each bug can show: in which clusters, and which faults it fears.

use bellwether_types::settings::SyncMode;

use super::Bug;
use crate::{
    configuration::Change, faults::Fault, membership::Tag, random::Random, scenario::Scenario,
    store::StoreKind,
};

impl Bug {
    pub(crate) fn store(self) -> Option<StoreKind> {
        match self {
            Self::None => None,
            Self::AskedTtl => Some(StoreKind::Consul),
            Self::LagUnseen => Some(StoreKind::ZooKeeper),
            _ => Some(StoreKind::Embedded),
        }
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

    /// It shows when the configuration or the members change.
    pub(crate) fn is_of_changes(self) -> bool {
        matches!(self, Self::TagsUnread | Self::VoterWithoutData | Self::VotesByMode | Self::CountBeforeSync)
    }

    pub(crate) fn fewest_members(self) -> usize {
        let is_vote = matches!(
            self,
            Self::BlindPromotion | Self::NumbersNotTaken | Self::LastTickCounts | Self::LedWithoutElection
        );
        if is_vote || self.is_of_take_over() || self.is_of_changes() { 3 } else { 2 }
    }

    /// A second line of defence would hide what the first one lets through.
    pub(crate) fn guardian(self) -> Option<bool> {
        match self {
            Self::SilenceIsHealth | Self::AskedTtl => Some(false),
            Self::GuardianNeverArmed | Self::LeaseFromAnswer => Some(true),
            Self::ForgetfulFounder | Self::UnguardedFounder => Some(true),
            _ => None,
        }
    }

    pub(crate) fn sync_mode(self) -> Option<(SyncMode, bool)> {
        match self {
            Self::BlindPromotion | Self::LedWithoutElection => Some((SyncMode::On, true)),
            Self::NamesLoosenedFirst | Self::LastTickCounts => Some((SyncMode::Quorum, true)),
            Self::VoterWithoutData | Self::VotesByMode | Self::CountBeforeSync => {
                Some((SyncMode::Quorum, false))
            }
            bug if bug.is_of_take_over() => Some((SyncMode::Quorum, false)),
            Self::ShownIsInForce => Some((SyncMode::On, false)),
            Self::GuardianNeverArmed
            | Self::SilenceIsHealth
            | Self::LeaseFromAnswer
            | Self::AskedTtl
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
        let long = matches!(
            self,
            Self::LeaseFromAnswer | Self::ShortPromise | Self::LastTickCounts | Self::AskedTtl
        );
        long.then_some(30)
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
            Self::HastyTrouble | Self::HastyLease => return None,
            Self::SilenceIsHealth | Self::AskedTtl => Fault::CutBoth { a: host, b: store },
            Self::LagUnseen => match random.between(0, 3) {
                0 => Fault::Switchover { candidate: None },
                1 => Fault::CutBoth { a: host, b: store },
                _ => Fault::PowerLoss { host },
            },
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
            Self::CopiesAnybody => return None,
            Self::TagsUnread => match random.between(0, 2) {
                0 => Fault::Retag { host, tag: Tag::NoFailover },
                _ => Fault::PowerLoss { host },
            },
            Self::VoterWithoutData => match random.between(0, 3) {
                0 => Fault::LosesDisk { host },
                1 => Fault::CutBoth { a: host, b: random.index(scenario.members) },
                _ => Fault::PowerLoss { host },
            },
            Self::VotesByMode => match random.between(0, 3) {
                0 => Fault::Configure { change: Change::SyncMode { mode: SyncMode::On, strict: true } },
                1 => Fault::CutBoth { a: host, b: random.index(scenario.members) },
                _ => Fault::PowerLoss { host },
            },
            Self::CountBeforeSync => match random.between(0, 3) {
                0 => Fault::Configure { change: Change::NodeCount { count: 1 } },
                1 => Fault::CutBoth { a: host, b: random.index(scenario.members) },
                _ => Fault::PowerLoss { host },
            },
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
