//! Questions that several branches ask of a view.

use std::time::Duration;

use bellwether_types::{
    MemberName, Role, Term, Timestamp,
    cluster::{Cluster, Member},
};

use crate::{
    Fence, View,
    view::{JobKind, JobOutcome, JobPhase, LeaseView, Process, Server, Upstream, answers_count_for},
};

/// A lease that was confirmed and has not run out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) until: Timestamp,
    pub(crate) term: Term,
}

impl Held {
    pub(crate) fn fence(self) -> Fence {
        Fence { term: self.term, valid_until: self.until }
    }
}

impl View {
    /// The right to lead, if it was confirmed, has not run out, and nobody else is known to have been given it since.
    pub(crate) fn held(&self) -> Option<Held> {
        match self.lease {
            LeaseView::Held { until, term, .. } if self.now < until && !self.is_usurped() => {
                Some(Held { until, term })
            }
            _ => None,
        }
    }

    /// The store shows a later leader than us: the lease is void although no renewal was refused yet.
    pub(crate) fn is_usurped(&self) -> bool {
        let LeaseView::Held { revision, .. } = self.lease else { return false };
        let leader = self.store.cluster.as_ref().and_then(|cluster| cluster.leader.as_ref());
        // A key that changes hands by a take-over may keep its term, but never its revision.
        leader.is_some_and(|leader| leader.name != self.me.name && leader.revision > revision)
    }

    /// The local PostgreSQL's last answer, if it accepts connections and the answer is fresh. A server that hangs may hang for ever:
    /// what it said last is evidence of its role ([`View::is_primary`]) and of nothing else.
    pub(crate) fn server(&self) -> Option<&Server> {
        let limit = answers_count_for(&self.settings);
        self.postgres.server.as_ref().filter(|server| {
            matches!(self.postgres.process, Process::Running { .. })
                && self.now.since(server.answered_at) <= limit
        })
    }

    /// PostgreSQL is there and is no standby. Without an answer the last known role counts: "cannot tell" is not "no".
    pub(crate) fn is_primary(&self) -> bool {
        if !self.postgres.process.exists() {
            return false;
        }
        match &self.postgres.server {
            Some(server) => !server.in_recovery,
            None => matches!(self.postgres.role, Role::Primary | Role::Promoted),
        }
    }

    /// PostgreSQL may accept writes now or, by what is under way, in a moment. Wider than [`View::is_primary`]: for fencing.
    pub(crate) fn may_write(&self) -> bool {
        let was_primary = matches!(self.postgres.role, Role::Primary | Role::Promoted);
        let promoted = self.postgres.role == Role::Promoted && self.postgres.process.exists();
        let promoted = promoted || self.is_promoted_unseen();
        let coming = match self.job_kind() {
            Some(JobKind::Promote) => !self.is_before_promotion(),
            Some(JobKind::Start | JobKind::Restart) => was_primary,
            Some(JobKind::Bootstrap | JobKind::PostBootstrap) => false,
            _ => false,
        };
        self.is_primary() || promoted || coming || self.comes_up_as_primary()
    }

    /// A promotion has succeeded since the server answered last. That answer says standby, and is true no longer: a server that freezes then
    /// wakes up as a primary.
    pub(crate) fn is_promoted_unseen(&self) -> bool {
        let Some(last) = self.last_job.as_ref().filter(|last| last.kind == JobKind::Promote) else {
            return false;
        };
        let is_older = |server: &Server| server.in_recovery && server.answered_at <= last.ended_at;
        last.outcome == JobOutcome::Succeeded
            && self.postgres.role == Role::Primary
            && self.postgres.process.exists()
            && self.postgres.server.as_ref().is_some_and(is_older)
    }

    /// Nothing in the data directory makes it a standby: once it accepts connections it writes, whatever it is called.
    pub(crate) fn comes_up_as_primary(&self) -> bool {
        let postgres = &self.postgres;
        postgres.process.exists()
            && postgres.server.is_none()
            && postgres.control.as_ref().is_some_and(|control| !control.has_recovery_signal)
    }

    pub(crate) fn job_kind(&self) -> Option<&JobKind> {
        self.job.as_ref().map(|job| &job.kind)
    }

    /// A promotion that has not touched the server yet.
    pub(crate) fn is_before_promotion(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.kind == JobKind::Promote && job.phase == JobPhase::PrePromote)
    }

    /// How long the store's silence may last before its last view is no longer acted on.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.retry_timeout
    }

    pub(crate) fn is_me(&self, name: &MemberName) -> bool {
        *name == self.me.name
    }

    /// Whether the histories of a diverged member could be repaired, so that comparing them has a point.
    pub(crate) fn can_rewind(&self) -> bool {
        self.settings.use_pg_rewind && self.postgres.control.as_ref().is_none_or(|control| control.rewindable)
    }

    pub(crate) fn may_repair_divergence(&self) -> bool {
        self.can_rewind() || self.settings.remove_data_directory_on_diverged_timelines
    }

    /// How to reach `member` as a standby of it.
    pub(crate) fn upstream_at(&self, member: &Member) -> Option<Upstream> {
        let slot = self.settings.use_slots && !self.me.tags.nostream();
        Some(Upstream {
            member: member.name.clone(),
            conn_url: member.conn_url.clone()?,
            slot: slot.then(|| self.me.name.slot_name()),
            is_remote: false,
            archive: self.inherited_archive(),
        })
    }

    /// The leader as upstream; `None` if there is none, if it is this member, or if it did not say where it listens.
    pub(crate) fn leader_upstream(&self, cluster: &Cluster) -> Option<Upstream> {
        cluster
            .leader_member()
            .filter(|leader| !self.is_me(&leader.name))
            .and_then(|leader| self.upstream_at(leader))
    }
}

/// A stable number for a name, to spread choices over members without chance.
pub(crate) fn spread(name: &MemberName) -> usize {
    // FNV-1a: the same in every version and on every machine.
    let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    usize::try_from(hash >> 32).unwrap_or(0)
}

impl JobKind {
    /// The words that the log and the API use for what is in progress.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::PostBootstrap => "post_bootstrap",
            Self::Clone => "bootstrap from another member",
            Self::Start => "restarting after failure",
            Self::Restart => "restart",
            Self::Reinitialize => "reinitialize",
            Self::Promote => "promote",
            Self::Demote => "demote",
            Self::Stop => "stop",
            Self::CheckDivergence => "comparing histories",
            Self::CrashRecovery => "doing crash recovery in a single user mode",
            Self::Rewind => "running pg_rewind",
            Self::Checkpoint => "checkpoint",
            Self::CopySlots => "copy_logical_slots",
            Self::Wipe => "removing the data directory",
        }
    }
}
