//! A cluster that follows another one. Its leader is a standby of a remote member, everybody else a standby of that leader.
//!
//! Nobody writes here, so nothing has to be fenced, and whoever holds the lock may be replaced by anybody. The cluster is promoted by
//! taking `standby_cluster` out of the configuration: the leader then has the lock already and becomes a primary like any other
//! holder of a lock. It is demoted by putting the section in: the primary stops in good order, keeps the lock and starts again as a
//! standby.

use bellwether_types::{MemberName, Role, cluster::Cluster};

use crate::{
    Reason, View,
    action::{DemoteMode, StartRole},
    draft::Draft,
    fence, following, history,
    leading::announce,
    memory::Checkpoint,
    rewind, switchover,
    view::{ArchiveRecovery, Process, Upstream},
};

/// What the remote member is called here: it is a member of no cluster that we know.
const REMOTE: &str = "remote_member";

impl View {
    /// This cluster follows another one.
    pub(crate) fn is_standby_cluster(&self) -> bool {
        self.settings.standby_cluster.is_some()
    }

    /// The member of the other cluster that the standby leader follows.
    pub(crate) fn remote(&self) -> Option<Upstream> {
        let section = self.settings.standby_cluster.as_ref()?;
        let slot = section.primary_slot_name.as_deref().filter(|_| self.settings.use_slots);
        Some(Upstream {
            member: MemberName::new(REMOTE).expect("it is a name"),
            conn_url: remote_url(section.host.as_deref(), section.port.as_deref()),
            slot: slot.and_then(|slot| MemberName::new(slot).ok()).map(|slot| slot.slot_name()),
            is_remote: true,
            archive: ArchiveRecovery {
                min_apply_delay: section.recovery_min_apply_delay.clone(),
                ..self.inherited_archive()
            },
        })
    }

    /// What every member of a standby cluster does with the other cluster's archive.
    pub(crate) fn inherited_archive(&self) -> ArchiveRecovery {
        let section = self.settings.standby_cluster.as_ref();
        section.map_or_else(ArchiveRecovery::default, |section| ArchiveRecovery {
            restore_command: section.restore_command.clone(),
            archive_cleanup_command: section.archive_cleanup_command.clone(),
            min_apply_delay: None,
        })
    }

    /// The member whose history this one's has to be a part of. A standby leader does not know what is true, only what it has received.
    pub(crate) fn authority(&self, cluster: &Cluster) -> Option<Upstream> {
        if self.is_standby_cluster() { self.remote() } else { self.leader_upstream(cluster) }
    }
}

/// Every host with its port; empty if the other cluster is reached through its archive alone.
fn remote_url(hosts: Option<&str>, ports: Option<&str>) -> String {
    if hosts.is_none() && ports.is_none() {
        return String::new();
    }
    let list = |text: Option<&str>| -> Vec<String> {
        text.unwrap_or_default().split(',').map(|part| part.trim().to_owned()).collect()
    };
    let (hosts, ports) = (list(hosts), list(ports));
    let address = |(number, host): (usize, &String)| {
        let port = if ports.len() == hosts.len() { &ports[number] } else { &ports[0] };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{host}:{}", if port.is_empty() { "5432" } else { port })
    };
    let addresses: Vec<String> = hosts.iter().enumerate().map(address).collect();
    format!("postgres://{}", addresses.join(","))
}

/// This member holds the lock and PostgreSQL runs: be the standby leader.
pub(crate) fn lead(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    draft.memory.promoting_since = None;
    if view.is_primary() {
        if view.settings.pause {
            return Reason::PausedPrimaryWithoutLock;
        }
        return fence::stop(draft, DemoteMode::DemoteCluster, Reason::PrimaryInStandbyCluster);
    }
    if let Some(reason) = switchover::at_leader(draft, cluster) {
        return reason;
    }
    if !view.may_write() {
        fence::stand_down(draft);
    }
    following::doubt_silence(draft);
    if !view.settings.pause
        && let Some(reason) = rewind::settle(draft, cluster)
    {
        return reason;
    }
    if view.server().is_none() {
        return match view.postgres.process {
            Process::Running { .. } => Reason::PostgresSilent,
            _ => Reason::LeaderNotDoneStarting,
        };
    }
    let acquired = std::mem::take(&mut draft.memory.racing);
    let was_leader = view.postgres.role == Role::StandbyLeader;
    draft.memory.checkpoint_after_promote = Checkpoint::None;
    draft.memory.start_wanted = false;
    draft.memory.followed = None;
    draft.set_role(Role::StandbyLeader);
    announce(draft, Role::StandbyLeader);
    if !view.settings.pause {
        let remote = view.remote();
        following::turn_to(draft, remote.clone());
        following::resume_replay(draft);
        if let Some(remote) = remote {
            history::adopt(draft, &remote);
        }
    }
    match (acquired, was_leader) {
        (true, _) => Reason::StandbyLeaderByAcquiringLock,
        (false, false) => Reason::StandbyLeaderHavingLock,
        (false, true) => Reason::StandbyLeaderWithTheLock { me: view.me.name.clone() },
    }
}

/// How PostgreSQL comes up again in a standby cluster, and the words for it.
pub(crate) fn start_role(draft: &Draft, cluster: &Cluster) -> (StartRole, Reason) {
    let upstream = following::choose(draft, cluster);
    if draft.view.held().is_some() {
        return (StartRole::StandbyLeader { upstream }, Reason::StartingStandbyLeader);
    }
    let follows_remote = upstream.as_ref().is_some_and(|upstream| upstream.is_remote);
    let reason = if follows_remote { Reason::FollowingRemoteMember } else { Reason::StartingSecondary };
    (StartRole::Standby { upstream }, reason)
}
