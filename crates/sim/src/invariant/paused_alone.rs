//! A paused cluster is left alone: an agent that has seen the pause neither promotes, starts, stops nor copies, unless asked to.

use bellwether_ha::{
    action::Exit,
    view::{JobKind, JobOutcome},
};
use bellwether_types::MemberName;

use crate::{event::HostId, names::letter, trouble::files::Damage, world::World};

impl World {
    /// The store says that the cluster is paused.
    pub(crate) fn is_paused(&self) -> bool {
        use bellwether_types::cluster::ConfigDocument;
        let config = self.store.cluster().config.as_ref();
        config.is_some_and(|keyed| match &keyed.value {
            ConfigDocument::Valid(value) => value["pause"] == true,
            ConfigDocument::Invalid => false,
        })
    }

    /// A job begins.
    pub(crate) fn check_job(&mut self, host: HostId, kind: &JobKind) {
        let harmless =
            matches!(kind, JobKind::Checkpoint | JobKind::CheckDivergence | JobKind::PostBootstrap);
        let asked = match kind {
            JobKind::Restart | JobKind::Reinitialize => true,
            // The agent is told to end, and what it began before the pause goes on.
            JobKind::Stop => self.hosts[host].agent.mind.stopping,
            // Somebody asked for this very member.
            JobKind::Promote => self.is_requested(host),
            JobKind::Demote => self.is_hand_over_requested(host),
            // Somebody asked for a copy, or it was begun before the pause: it is tried until there is one.
            JobKind::Clone => self.was_copying(host),
            // A demotion began before the pause and is carried to its end: a server is not left in the middle of a rewind. And a copy that
            // somebody asked for ends with its start; where nobody leads, it is compared with nobody before.
            JobKind::Start => self.is_recovering(host) || self.was_made_anew(host),
            JobKind::Rewind | JobKind::CrashRecovery => self.is_recovering(host),
            _ => false,
        };
        if self.hosts[host].agent.mind.settings.pause && !harmless && !asked {
            self.violated("paused_alone", format!("{} began {kind:?} in a paused cluster", letter(host)));
        }
    }

    /// By what the store says, or by the last word that its agent has got from it: another request may be on its way.
    fn is_requested(&self, host: HostId) -> bool {
        self.requested_candidates(host).any(|candidate| candidate == self.names.of(host))
    }

    /// A hand-over to a named member is possible in pause.
    fn is_hand_over_requested(&self, host: HostId) -> bool {
        self.requested_candidates(host).next().is_some()
    }

    fn requested_candidates(&self, host: HostId) -> impl Iterator<Item = &MemberName> {
        let seen = self.hosts[host].agent.mind.cluster.as_deref();
        let requests = [Some(&**self.store.cluster()), seen].into_iter().flatten();
        requests.filter_map(|cluster| cluster.failover_request()?.0.candidate.as_ref())
    }

    fn was_made_anew(&self, host: HostId) -> bool {
        let last = self.hosts[host].agent.mind.last_job.as_ref();
        last.is_some_and(|last| last.kind == JobKind::Reinitialize && last.outcome == JobOutcome::Succeeded)
    }

    fn was_copying(&self, host: HostId) -> bool {
        let last = self.hosts[host].agent.mind.last_job.as_ref();
        last.is_some_and(|last| matches!(last.kind, JobKind::Clone | JobKind::Reinitialize | JobKind::Wipe))
    }

    fn is_recovering(&self, host: HostId) -> bool {
        let last = self.hosts[host].agent.mind.last_job.as_ref();
        last.is_some_and(|last| {
            matches!(
                last.kind,
                JobKind::Rewind | JobKind::CrashRecovery | JobKind::CheckDivergence | JobKind::Demote
            )
        })
    }

    /// Agents end on their own only where people meddle with identities, and where a bootstrap was disturbed.
    pub(crate) fn check_exit(&mut self, host: HostId, exit: &Exit) {
        let may_fail = self.checks.founding_disturbed && !self.checks.founded;
        let is_expected = match exit {
            Exit::Stopped => true,
            Exit::BootstrapFailed => may_fail,
            Exit::ForeignSystemId { .. } => self.hosts[host].troubles.damage == Some(Damage::Foreign),
            Exit::ReplicaWithoutCluster => {
                self.store.cluster().initialize.is_none() || self.checks.key_was_removed
            }
        };
        if !is_expected {
            self.violated("exit", format!("the agent of {} ended: {exit:?}", letter(host)));
        }
    }
}
