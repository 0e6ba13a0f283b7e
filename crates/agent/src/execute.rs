//! Does what was decided: one function per action, no policy.
//!
//! Actions that write to the store are in [`store`]; those on the local server in [`server`], its files in [`configuration`] and
//! [`datadir`], its slots in [`slots`], its part in a take-over in [`takeover`]; the rest in [`people`]. What long ones tell while they run and at their end is heard in [`jobs`].

mod configuration;
mod datadir;
mod jobs;
mod people;
mod server;
mod slots;
mod store;
mod takeover;

use std::time::Duration;

use bellwether_ha::{View, action::Action};
use bellwether_types::{LeaseId, Timestamp};

use crate::{agent::Agent, lease::Wanted};

/// What an action did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The next decision may differ: decide again at once.
    Changed,
    /// It was so already, or it takes its time and tells by an event.
    Nothing,
    /// What was decided after it must not be done.
    Failed,
}

impl Effect {
    pub(crate) fn of_change(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Nothing }
    }

    pub(crate) fn of(success: bool) -> Self {
        if success { Self::Changed } else { Self::Failed }
    }
}

/// Our member key as we wrote it last, so that it is not written again before the store has told us about it.
#[derive(Debug, Default)]
pub(crate) struct MemberWrite {
    pub(crate) text: String,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) at: Timestamp,
    /// It was in the store since: if the key is missing, somebody has removed it.
    pub(crate) seen: bool,
}

/// The time that the small errands on the local server may take in one tick, all together: a hung server must not keep the loop from
/// what the lease depends on.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    end: Option<Timestamp>,
}

impl Errands {
    const LONGEST: Duration = Duration::from_secs(2);

    /// How long the next one may take; `None` = the time is up, the next tick has its own.
    fn patience(&mut self, now: Timestamp, ttl: Duration) -> Option<Duration> {
        let end = *self.end.get_or_insert_with(|| now + Self::LONGEST.min(ttl / 5));
        (now < end).then(|| now.until(end))
    }
}

impl Agent {
    pub(crate) async fn execute(&mut self, action: Action, view: &View) -> Effect {
        match action {
            Action::ClaimInitialize => self.claim_initialize().await,
            Action::WriteInitialize { expect } => self.write_initialize(expect).await,
            Action::RemoveInitialize { expect } => self.remove_initialize(expect).await,
            Action::WriteConfig { expect } => self.write_config(expect).await,
            Action::AcquireLease { sync, timeline } => {
                self.acquire_lease(Wanted { sync, timeline, ..Wanted::default() }).await
            }
            Action::RestoreKeys(keys) => self.restore_keys(*keys).await,
            Action::OpenEpoch { expect, takeover } => self.open_epoch(expect, &takeover).await,
            Action::CloseEpoch { opened_at, takeover } => self.close_epoch(opened_at, &takeover).await,
            Action::TakeOver(over) => self.take_over(*over).await,
            Action::ResumeLease { revision } => self.resume_lease(revision).await,
            Action::ReleaseLease { optime } => self.release_lease(optime).await,
            Action::PublishMember { member } => self.publish_member(&member, view),
            Action::WriteStatus { status } => self.write_status(&status),
            Action::WriteSync { expect, state } => self.write_sync(expect, &state).await,
            Action::DeleteSync { expect } => self.delete_sync(expect).await,
            Action::WriteFailover { expect, request } => self.write_failover(expect, request).await,
            Action::TakeTimeline { next } => self.take_timeline(next).await,
            Action::WriteHistory { history } => self.write_history(&history),
            Action::WriteFailsafe { map } => self.write_failsafe(&map),

            Action::PollPeers { members, timeout } => self.poll_peers(members, timeout),
            Action::AskFailsafe { members, rely_on } => self.ask_failsafe(members, rely_on, view),
            Action::ClearFailsafe => self.clear_failsafe(),

            Action::DetachAndPromise { revision, epoch, leader } => {
                self.detach_and_promise(revision, epoch, leader).await
            }
            Action::ForgetPromise { revision } => self.forget_promise(revision).await,

            Action::Bootstrap => self.bootstrap().await,
            Action::BootstrapStandby { from } => self.bootstrap_standby(from).await,
            Action::PostBootstrap => self.post_bootstrap(),
            Action::FinishBootstrap => self.finish_bootstrap().await,
            Action::Clone { from } => self.clone_from(from).await,
            Action::Start { role } => self.start_server(role),
            Action::Promote { fence, taken } => self.promote(fence, taken),
            Action::Demote { mode, stop_limit } => self.demote(mode, stop_limit),
            Action::Stop { mode } => self.stop_server(mode),
            Action::Follow { upstream } => self.follow(upstream).await,
            Action::Restart { timeout, stop_limit, fence } => self.restart_server(timeout, stop_limit, fence),
            Action::Reload => self.reload_for_decision().await,
            Action::CheckDivergence { leader } => self.check_divergence(leader),
            Action::Rewind { source } => self.rewind(source).await,
            Action::CrashRecovery => self.crash_recovery(),
            Action::Reinitialize { from, by } => self.reinitialize(from, by).await,
            Action::WipeDataDirectory { why } => self.wipe_data_directory(&why).await,
            Action::SetDataDirectoryAside { earlier } => self.set_data_directory_aside(earlier).await,
            Action::SetSyncNames { names } => self.set_sync_names(names).await,
            Action::ProbeCommit => self.try_commit(),
            Action::GenerateWal => self.generate_wal().await,
            Action::ProveNamesInForce => self.prove_names_in_force().await,
            Action::Checkpoint => self.checkpoint(),
            Action::CreateSlots { names } => self.create_slots(names).await,
            Action::DropSlots { slots } => self.drop_slots(slots).await,
            Action::AdvanceSlots { to } => self.advance_slots(to).await,
            Action::CreateLogicalSlots { slots } => self.create_logical_slots(slots),
            Action::AdvanceLogicalSlots { to } => self.advance_logical_slots(to),
            Action::AskLeaderSlots { leader, names, states_of } => {
                self.ask_leader_slots(leader, names, states_of)
            }
            Action::CopySlots { names, stop_limit } => self.copy_slots(&names, stop_limit),
            Action::ForceFeedback { on } => self.force_feedback(on).await,
            Action::ResumeReplay => self.resume_replay().await,
            Action::CancelJob { kind } => self.cancel_job(&kind),
            Action::SetRole { role } => self.set_role(role).await,
            Action::SetState { state } => self.set_state(state),

            Action::ArmGuardian { until } => Effect::of(self.fencing.arm(until)),
            Action::DisarmGuardian => Effect::of(self.fencing.disarm()),
            Action::RespawnGuardian => Effect::of(self.respawn_guardian().await),
            // Whether it is active, or why it cannot be, is in the next view.
            Action::ActivateWatchdog => {
                let is_active = self.fencing.watchdog.activate().await;
                Effect::of_change(is_active || self.fencing.watchdog.has_failed())
            }
            Action::DisableWatchdog => Effect::of_change(self.fencing.watchdog.disable()),

            Action::RunCallback { event, role } => self.run_callback(event, role),
            Action::Answer { request, answer } => Effect::of(self.requests.answer(request, answer)),
            Action::Exit { .. } => Effect::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_on_a_hung_server_share_a_fraction_of_the_lease() {
        for ttl in [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)] {
            let (begin, mut now) = (Timestamp::from_millis(7_000), Timestamp::from_millis(7_000));
            let mut errands = Errands::default();
            for _ in 0..10 {
                // Each takes all that it is given.
                now = errands.patience(now, ttl).map_or(now, |patience| now + patience);
            }
            assert!(now.since(begin) <= ttl / 5, "{ttl:?}: blocked for {:?}", now.since(begin));
            assert!(now.since(begin) <= Duration::from_secs(2) && now > begin);
        }
    }
}
