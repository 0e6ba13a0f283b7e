//! What must hold at every instant, whatever goes wrong. One file each.
//!
//! | file | promise |
//! | --- | --- |
//! | [`one_writer`] | never two members that could acknowledge a write at the same instant; none without the lock |
//! | [`no_lost_commit`] | with synchronous replication, what was acknowledged is in the WAL of every later leader; without it, the loss is bounded |
//! | [`no_diverged_promotion`] | nobody is promoted whose WAL parted from the last leader's |
//! | [`one_number`] | no two promotions begin timelines of one number |
//! | [`no_torn_start`] | a directory whose rewind was interrupted is not started |
//! | [`release`] | the lock is given up only when nothing can be lost by it |
//! | [`paused_alone`] | in a paused cluster agents neither promote, start nor stop |
//! | [`standby_alone`] | nobody is promoted in a standby cluster |
//! | [`bounded`] | the stop of a restart ends within its limit |
//! | [`fit_winner`] | nobody wins the race whose PostgreSQL hangs, or who is not to lead |
//! | [`founders`] | a cluster is founded whole, by a member that is fenced before it leads |
//! | [`take_over`] | who takes over has everything that was acknowledged; a replaced leader acknowledges only what its successor has; a leader whose power goes in an undisturbed cluster is replaced in time |
//! | [`calm`] | where nothing is broken nobody is replaced or steps down |
//! | [`heals`] | once faults stop, one primary and streaming replicas within the budget; and no agent spins |

pub mod bounded;
pub mod calm;
pub mod fit_winner;
pub mod founders;
pub mod heals;
pub mod no_diverged_promotion;
pub mod no_lost_commit;
pub mod no_torn_start;
pub mod one_number;
pub mod one_writer;
pub mod paused_alone;
pub mod release;
pub mod standby_alone;
pub mod take_over;

use std::collections::{BTreeMap, BTreeSet};

use bellwether_types::TimelineId;

use crate::{event::HostId, schedule::Nanos, wal::Pos, world::World};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub at: Nanos,
    pub text: String,
}

/// What the checks remember of a run.
#[derive(Debug, Default)]
pub struct Checks {
    /// The last acknowledged record of each branch, and whether synchronous replication covered it.
    pub(crate) acknowledged: BTreeMap<u32, Acknowledged>,
    /// Where the newest timeline began.
    pub(crate) trunk: Option<Pos>,
    /// Who began which timeline by a promotion.
    pub(crate) numbers: BTreeMap<TimelineId, HostId>,
    pub(crate) last_acknowledged_at: Nanos,
    pub(crate) founded: bool,
    /// Something went wrong on the way there, as planned.
    pub(crate) founding_disturbed: bool,
    /// The last pause ended then.
    pub(crate) resumed_at: Nanos,
    pub(crate) decisions_seen: u64,
    /// A fault began or ended then.
    pub(crate) disturbed_at: Nanos,
    /// How many have begun or ended.
    pub(crate) disturbances: u64,
    /// A member or its disk is gone for good.
    pub(crate) members_lost: bool,
    /// The last write that was acknowledged before a take-over, until one is acknowledged after it.
    pub(crate) taking_over_since: Option<(HostId, Nanos)>,
    /// Whom the operator named when the members could not agree: the loss is accepted.
    pub(crate) named_by_operator: Option<HostId>,
    pub(crate) operator_asked_at: Option<Nanos>,
    /// To whom an operator asked to fail over while all was well: the loss is accepted, too.
    pub(crate) failed_over_to: BTreeSet<HostId>,
    /// Somebody has removed a key by hand.
    pub(crate) key_was_removed: bool,
    /// What operators want to be changed in a `/config` that is not there.
    pub(crate) changes_to_come: Vec<(&'static str, serde_json::Value)>,
    /// All keys are gone, and `/sync` was active until then: commits go on waiting.
    pub(crate) wiped: Option<Wiped>,
    /// Who was copied anew because the configuration left nothing else.
    pub(crate) copied_by_operator: BTreeSet<HostId>,
}

/// The store as it was when somebody removed all keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiped {
    pub(crate) leader: Option<HostId>,
    pub(crate) is_synchronous: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) count: u32,
    /// How many of them from the beginning were covered.
    pub(crate) covered: u32,
}

impl World {
    pub(crate) fn violated(&mut self, invariant: &'static str, text: String) {
        if self.violation.is_none() {
            let line = format!("VIOLATION of {invariant}: {text}");
            self.note_world(&[9], || line);
            self.violation = Some(Violation { invariant, at: self.now, text });
        }
    }

    /// A client was told that everything up to `pos` is committed.
    pub(crate) fn check_acknowledgement(&mut self, host: HostId, pos: Pos) {
        self.checks.last_acknowledged_at = self.now;
        self.check_two_writers(host);
        self.check_lock(host, pos);
        self.note_end_of_take_over(host);
        self.remember_acknowledged(pos);
    }

    /// `end` is where `host` stood, `start` the first position of its new timeline.
    pub(crate) fn check_promotion(&mut self, host: HostId, end: Pos, start: Pos) {
        if self.hosts[host].pg.data.in_the_making {
            // A restore that has come to its end: nobody knows of it yet.
            return;
        }
        self.check_number(host, start);
        self.check_trunk(host, end);
        self.check_loss(host, end, start);
        self.checks.trunk = Some(start);
    }
}
