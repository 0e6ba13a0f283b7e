//! What may be done to the cluster.

use std::{fmt, time::Duration};

use clap::ValueEnum;

/// One kind of harm. The names are those of the command line and of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Agent, guardian, PostgreSQL and store node of the leader die at one moment.
    LeaderHostLost,
    /// The same, while its node leads the store, too.
    LeaderHostWithStoreLost,
    /// Its agent stops in its tracks.
    LeaderFrozen,
    /// Nobody but its clients hears from it any more: they are still connected to a server that the others cannot reach.
    LeaderCutOff,
    Switchover,
    PostgresKilled,
    AgentKilled,
    GuardianKilled,
    /// The agent of the node that leads the store.
    StoreLeaderKilled,
}

impl Event {
    /// What a drill goes through unless it is told otherwise.
    pub(crate) const STORY: [Event; 5] = [
        Event::LeaderHostLost,
        Event::LeaderFrozen,
        Event::Switchover,
        Event::PostgresKilled,
        Event::AgentKilled,
    ];

    /// The longest outage that counts as healed. Generous: a machine that runs three servers at once may be slow.
    pub(super) fn bound(self) -> Duration {
        match self {
            Self::LeaderHostLost
            | Self::LeaderHostWithStoreLost
            | Self::LeaderFrozen
            | Self::LeaderCutOff => Duration::from_secs(20),
            // An agent that takes longer than its lease to start again on such a machine has lost it: then it is a failover.
            Self::Switchover
            | Self::PostgresKilled
            | Self::AgentKilled
            | Self::GuardianKilled
            | Self::StoreLeaderKilled => Duration::from_secs(10),
        }
    }

    pub(crate) fn code(self) -> String {
        let value = self.to_possible_value().expect("no event is hidden from the command line");
        value.get_name().to_owned()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderHostLost => "leader's whole process tree killed",
            Self::LeaderHostWithStoreLost => "the same, leading the store, too",
            Self::LeaderFrozen => "leader's agent frozen",
            Self::LeaderCutOff => "leader heard by its clients only",
            Self::Switchover => "planned switchover",
            Self::PostgresKilled => "leader's PostgreSQL killed",
            Self::AgentKilled => "leader's agent killed",
            Self::GuardianKilled => "leader's guardian killed",
            Self::StoreLeaderKilled => "store leader's agent killed",
        })
    }
}
