//! What the API asks of the agent.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_types::{
    MemberName, Role, Timestamp, WallTime,
    citus::CitusEvent,
    failsafe::{FailsafeAnswer, FailsafeRequest},
    status::NodeStatus,
};
use serde_json::{Map, Value};

/// The agent as the API sees it: a published status, and operations.
///
/// Requests arrive parsed and checked against the last status; the agent checks again where it acts. Operations may take
/// minutes. They are awaited on tasks of their own, so a client that hangs up does not cancel one; only the end of the
/// server does, some time after `stop`.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// The last published status. Must not wait for anything.
    fn status(&self) -> Arc<NodeStatus>;

    /// The status with what PostgreSQL was asked after `since`, if it answers within some tens of milliseconds; else the last one.
    async fn status_since(&self, since: Timestamp) -> Arc<NodeStatus>;

    /// Now, on the clock of the status.
    fn now(&self) -> Timestamp;

    /// The time of day, for schedules.
    fn wall_time(&self) -> WallTime {
        WallTime::from_unix_millis(jiff::Timestamp::now().as_millisecond())
    }

    /// Like SIGHUP: asks for a reload and does not wait for it.
    async fn reload(&self, caller: Caller);

    /// Restarts PostgreSQL now and waits for the outcome, or, with a schedule, remembers when to do it.
    async fn restart(&self, caller: Caller, request: RestartRequest) -> RestartOutcome;

    /// Drops the scheduled restart. `false`: there was none.
    async fn delete_restart(&self, caller: Caller) -> bool;

    /// Begins to rebuild this member; does not wait for the end.
    async fn reinitialize(&self, caller: Caller, request: ReinitRequest) -> ReinitOutcome;

    /// Writes the request into the store and, unless it is scheduled, waits until somebody leads or patience runs out.
    async fn switchover(&self, caller: Caller, request: SwitchoverRequest) -> SwitchoverOutcome;

    /// Drops the scheduled switchover.
    async fn delete_switchover(&self, caller: Caller) -> DeleteSwitchoverOutcome;

    /// Merges a patch (an object; `null` deletes) into `/config`, by compare-and-set.
    async fn patch_config(&self, caller: Caller, patch: Map<String, Value>) -> ConfigOutcome;

    /// Replaces `/config`, whatever it was.
    async fn put_config(&self, caller: Caller, config: Map<String, Value>) -> ConfigOutcome;

    /// A leader without a store asks to go on. `Accepted` must be durable before this returns.
    async fn failsafe(&self, caller: Caller, request: FailsafeRequest) -> FailsafeAnswer;

    /// The leader of a worker's group tells what happens to its primary. Returns once that was dealt with, where it wants to know;
    /// everybody but the coordinator's leader takes no notice.
    async fn citus(&self, caller: Caller, event: CitusEvent);

    /// Cancels what a client of this node's pools does, if one has this key. Returns once that is done.
    async fn cancel(&self, _process: u32, _secret: &[u8]) {}

    /// The last journal records as JSON objects, oldest first, at most `limit`.
    async fn journal(&self, limit: usize) -> Vec<Value>;

    /// Entry points of this member: virtual addresses, DNS records.
    fn entrypoints(&self) -> Vec<Value> {
        Vec::new()
    }

    /// Lines of the log that wait to be written, and how many have been lost so far.
    fn log_backlog(&self) -> (usize, u64) {
        (0, 0)
    }

    /// How an unsafe call ended, refusals included: the agent journals it. Called once per call, after the answer is known
    /// and before it is sent; must not wait. Requests may come from anybody who reaches the port, so limit their rate.
    fn record_call(&self, record: CallRecord);
}

/// Who made an unsafe call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that the connection came from.
    pub origin: IpAddr,
    /// The user name of HTTP Basic authentication once the password was right, else `cert:` and the SHA-256 of the client
    /// certificate; `None` if nothing asked for either.
    pub identity: Option<String>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "{identity} at {}", self.origin),
            None => write!(f, "{}", self.origin),
        }
    }
}

/// One unsafe call and its end.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    pub caller: Caller,
    /// `POST`.
    pub method: String,
    /// `/restart`; never with the query or the body, which may hold secrets.
    pub path: String,
    pub status: u16,
    /// The text of the answer, if it was a text.
    pub message: Option<String>,
    pub took: Duration,
}

/// A point in time that a caller named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledTime {
    /// ISO 8601 with the caller's offset, as it goes into the store.
    pub text: String,
    pub time: WallTime,
}

/// `POST /restart`. All conditions that are given must hold at the moment of the restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestartRequest {
    pub schedule: Option<ScheduledTime>,
    pub role: Option<Role>,
    /// Only if the running version is lower than this (160004).
    pub version_below: Option<u32>,
    /// Only if a restart is pending.
    pub pending_only: bool,
    /// How long PostgreSQL may take to start; default `primary_start_timeout`.
    pub timeout: Option<Duration>,
    /// The body as it is published in the member key while scheduled (`schedule` in ISO form, `timeout` in seconds);
    /// the agent adds `postmaster_start_time`.
    pub published: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartOutcome {
    Restarted,
    Scheduled,
    /// Another one is scheduled already.
    AlreadyScheduled,
    /// The start did not end within the timeout and goes on.
    StillStarting,
    Failed,
    /// Not begun: `restart conditions are not satisfied`, `<action> already in progress`.
    Refused {
        why: String,
    },
}

/// `POST /reinitialize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReinitRequest {
    /// Cancel a running job first.
    pub force: bool,
    /// Take a base backup from the leader, not from another member.
    pub from_leader: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReinitOutcome {
    Started,
    /// `Cluster has no leader, can not reinitialize`, `I am the leader, can not reinitialize`, `<action> already in progress`.
    Refused {
        why: String,
    },
}

/// What a change of leader was asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderChange {
    /// Away from a named leader that works.
    Switchover,
    /// To a named candidate, whatever the leader does.
    Failover,
}

/// `POST /switchover` or `POST /failover`, after the checks of [`crate::switchover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchoverRequest {
    pub change: LeaderChange,
    /// The leader to leave; always set for a switchover.
    pub leader: Option<MemberName>,
    /// The member to become leader; always set for a failover.
    pub candidate: Option<MemberName>,
    /// Only for a switchover.
    pub scheduled_at: Option<ScheduledTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchoverOutcome {
    /// Somebody leads now; `new_leader` may be another than the candidate.
    Done {
        new_leader: MemberName,
    },
    Scheduled,
    /// No eligible member is reachable and fit to lead; nothing was written.
    NoGoodCandidates,
    /// The request could not be written into the store, or nobody knows whether it was.
    NotWritten,
    /// The request vanished from the store, and the expected leader did not appear.
    Failed,
    /// Still waiting after so many seconds; it may still happen.
    Unknown {
        after_secs: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteSwitchoverOutcome {
    Deleted,
    NotScheduled,
    /// Somebody changed the request at the same time.
    LostRace,
    /// The store did not answer, or nobody knows whether it was deleted.
    Unavailable {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum ConfigOutcome {
    /// The document that is in the store now; also when the patch changed nothing.
    Stored(Value),
    /// Somebody changed the document at the same time.
    LostRace,
    /// There is no `/config` key to patch.
    NoConfig,
    /// The store did not answer, or nobody knows whether it was written.
    Unavailable { why: String },
}
