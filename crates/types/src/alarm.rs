//! What is wrong with a member although it runs: for people, and for members that look for somebody to take over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of trouble, with a stable word for machines and a sentence for people.
macro_rules! alarms {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal, unfit: $unfit:literal;)+) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Alarm { $($(#[$doc])* $name),+ }

        impl Alarm {
            pub const ALL: &'static [Alarm] = &[$(Self::$name),+];

            /// Stable and snake_case.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// For people: what it is, and what to do.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),+ }
            }

            /// A member with it is no better leader than one that is in trouble itself.
            pub fn makes_unfit(self) -> bool {
                match self { $(Self::$name => $unfit),+ }
            }
        }
    };
}

alarms! {
    CommitsStall = "commits_stall", "no commit goes through: the disk of the WAL does not take it, or PostgreSQL hangs", unfit: true;
    CommitsWaitForStandby = "commits_wait_for_standby", "commits wait for a synchronous standby that does not acknowledge them", unfit: false;
    PostgresFrozen = "postgres_frozen", "all processes of PostgreSQL are stopped (SIGSTOP, a freezer): nobody is served", unfit: true;
    PostmasterFrozen = "postmaster_frozen", "the postmaster is stopped (SIGSTOP, a debugger, a freezer) or takes no new connection", unfit: true;
    ConnectionsExhausted = "connections_exhausted", "no connection is left for ordinary users: raise max_connections or use a pooler", unfit: false;
    WalDiskFull = "wal_disk_full", "the file system of pg_wal is nearly full: PostgreSQL will stop with a PANIC", unfit: true;
    WalDiskFilling = "wal_disk_filling", "the file system of pg_wal will soon be full: look at replication slots and at the archive", unfit: false;
    DataDiskFull = "data_disk_full", "the file system of the data directory is nearly full", unfit: true;
    DiskReadOnly = "disk_read_only", "a file system of PostgreSQL has become read-only", unfit: true;
    ChecksumFailures = "checksum_failures", "pages whose checksum does not match were read here: check the disk, and the standbys before a switchover", unfit: true;
    GaveUpLeading = "gave_up_leading", "this member has handed the leadership over because it was in trouble", unfit: true;
    TimingTooTight = "timing_too_tight", "`ttl` is shorter than what was measured here allows: see bellwether timing", unfit: false;
}

impl Alarm {
    /// The alarm of this code; `None`: one of a later version.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|alarm| alarm.code() == code)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_for_one_alarm() {
        for alarm in Alarm::ALL {
            assert_eq!(Alarm::of_code(alarm.code()), Some(*alarm));
            assert_eq!(serde_json::to_value(alarm).unwrap(), alarm.code(), "the same word everywhere");
        }
        assert_eq!(Alarm::of_code("of_the_future"), None);
    }
}
