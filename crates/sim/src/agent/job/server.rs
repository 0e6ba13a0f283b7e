//! The server: started, stopped, promoted, demoted.

use std::{collections::BTreeSet, time::Duration};

use bellwether_ha::{
    action::{DemoteMode, Fence, StartRole, StopMode, TakenTimelines},
    view::JobPhase,
};
use bellwether_types::{PostgresState, Role};

use super::{LOOK_AGAIN, Next, START_TIMEOUT};
use crate::{
    event::HostId,
    pg::Run,
    schedule::{MILLIS, Nanos, SECONDS},
    world::World,
};

impl World {
    fn fence_holds(&self, host: HostId, fence: &Fence) -> bool {
        let now = self.hosts[host].clock(self.now);
        let guardian = &self.hosts[host].guardian;
        // In pause nothing is armed: an operator is in charge.
        let guarded = !self.has_guardian(host)
            || self.hosts[host].agent.mind.settings.pause
            || !self.bug.arms_guardian()
            || (guardian.alive && guardian.deadline.is_some_and(|until| now < until));
        guarded && self.hosts[host].agent.mind.is_fence_whole(fence, now)
    }

    pub(super) fn start(&mut self, host: HostId, step: u32, role: &StartRole, began: Nanos) -> Next {
        if step == 0 {
            let standby = match role {
                StartRole::Primary { fence } if !self.fence_holds(host, fence) => {
                    return Next::Failed("the right to lead has ended");
                }
                StartRole::Primary { .. } => false,
                StartRole::Standby { upstream } | StartRole::StandbyLeader { upstream } => {
                    self.hosts[host].pg.data.upstream = upstream.clone();
                    true
                }
            };
            self.check_start(host);
            if let Err(why) = self.pg_start(host, standby) {
                return Next::Failed(why);
            }
            let mind = &mut self.hosts[host].agent.mind;
            mind.state = PostgresState::Starting;
            mind.role = match role {
                StartRole::Primary { .. } => Role::Primary,
                StartRole::Standby { .. } => Role::Replica,
                StartRole::StandbyLeader { .. } => Role::StandbyLeader,
            };
            self.wake(host);
        }
        self.started_yet(host, 1, began)
    }

    fn started_yet(&mut self, host: HostId, step: u32, began: Nanos) -> Next {
        match &self.hosts[host].pg.run {
            Run::Up(_) => Next::Succeeded,
            Run::Starting { .. } if self.now < began + START_TIMEOUT => Next::At(step, LOOK_AGAIN),
            Run::Starting { .. } => Next::Succeeded,
            Run::Down => {
                self.hosts[host].agent.mind.state = PostgresState::StartFailed;
                Next::Failed("the server exited")
            }
        }
    }

    pub(super) fn restart(
        &mut self,
        host: HostId,
        step: u32,
        stop_limit: Duration,
        fence: Option<&Fence>,
        began: Nanos,
    ) -> Next {
        let stops_for = self.now - began;
        match step {
            0 => {
                self.hosts[host].agent.mind.state = PostgresState::Restarting;
                self.pg_stop(host, true);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !self.hosts[host].pg.is_down() => {
                let limit = u64::try_from(stop_limit.as_nanos()).expect("no such long limits");
                if self.bug.limits_stops() && stops_for > 2 * limit {
                    self.pg_kill(host);
                } else if self.bug.limits_stops() && stops_for > limit {
                    self.pg_stop(host, false);
                }
                self.check_stop_of_restart(host, stops_for, limit);
                Next::At(1, LOOK_AGAIN)
            }
            1 if fence.is_some_and(|fence| !self.fence_holds(host, fence)) => {
                Next::Failed("the right to lead has ended")
            }
            1 => {
                let standby = self.hosts[host].pg.data.standby_signal;
                match self.pg_start(host, standby) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => self.started_yet(host, 2, began),
        }
    }

    /// A standby restarts with the state files that its primary gave it.
    pub(super) fn copy_slots(
        &mut self,
        host: HostId,
        step: u32,
        names: &BTreeSet<String>,
        stop_limit: Duration,
        began: Nanos,
    ) -> Next {
        match step {
            0 | 1 if !self.hosts[host].pg.is_down() => {
                self.hosts[host].agent.mind.state = PostgresState::Restarting;
                let is_late = self.now - began > u64::try_from(stop_limit.as_nanos()).unwrap_or(u64::MAX);
                self.pg_stop(host, !is_late);
                Next::At(1, LOOK_AGAIN)
            }
            0 | 1 => {
                self.put_slot_states(host, names);
                match self.pg_start(host, true) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => self.started_yet(host, 2, began),
        }
    }

    pub(super) fn promote(
        &mut self,
        host: HostId,
        step: u32,
        fence: &Fence,
        taken: Option<TakenTimelines>,
    ) -> Next {
        match step {
            0 => Next::At(
                1,
                if self.scenario.pre_promote { self.scenario.hook_lasts.max(MILLIS) } else { MILLIS },
            ),
            1 => {
                if self.hosts[host].hook_fails && self.scenario.pre_promote {
                    return Next::Failed("pre_promote exited with status 1");
                }
                if !self.fence_holds(host, fence) {
                    return Next::Failed("the right to lead has ended");
                }
                let skip = taken.map(|taken| taken.through).filter(|_| self.bug.skips_taken_timelines());
                if !self.pg_promote(host, skip) {
                    return Next::Failed("the server cannot be promoted");
                }
                let mind = &mut self.hosts[host].agent.mind;
                mind.role = Role::Promoted;
                if let Some(job) = &mut mind.job {
                    job.shown.phase = JobPhase::Working;
                }
                Next::At(2, LOOK_AGAIN)
            }
            _ => match self.hosts[host].pg.server() {
                None => Next::Failed("the server is gone"),
                Some(server) if server.in_recovery => Next::At(2, LOOK_AGAIN),
                Some(_) => {
                    self.set_role(host, Role::Primary);
                    Next::Succeeded
                }
            },
        }
    }

    pub(super) fn demote(
        &mut self,
        host: HostId,
        step: u32,
        (mode, stop_limit): (DemoteMode, Option<Duration>),
        began: Nanos,
    ) -> Next {
        if self.hosts[host].pg.is_down() {
            // Backends without a postmaster can still report a commit.
            self.hosts[host].pg.orphans = None;
            let mind = &mut self.hosts[host].agent.mind;
            mind.role = Role::Demoted;
            mind.state = PostgresState::Stopped;
            return Next::Succeeded;
        }
        let elapsed = self.now - began;
        match (step, mode) {
            (0, mode) => {
                self.hosts[host].agent.mind.state = PostgresState::Stopping;
                if self.bug.loosens_names_first() {
                    self.pg_set_sync_names(host, "");
                    return Next::At(1, 30 * MILLIS);
                }
                self.begin_stop(host, mode);
                Next::At(2, LOOK_AGAIN)
            }
            (1, mode) => {
                self.begin_stop(host, mode);
                Next::At(2, LOOK_AGAIN)
            }
            (_, DemoteMode::Graceful | DemoteMode::DemoteCluster) => {
                let limit =
                    stop_limit.map_or(Nanos::MAX, |limit| u64::try_from(limit.as_nanos()).expect("short"));
                if elapsed > limit.saturating_mul(2) {
                    self.pg_kill(host);
                } else if elapsed > limit {
                    self.pg_stop(host, false);
                }
                Next::At(2, LOOK_AGAIN)
            }
            (step, DemoteMode::Offline { stop_by }) => {
                let kill_at = self.hosts[host].virtual_time(stop_by);
                if self.now + LOOK_AGAIN >= kill_at && elapsed > 100 * MILLIS {
                    self.pg_kill(host);
                } else if step == 2 && elapsed > SECONDS / 2 {
                    self.pg_stop(host, false);
                    return Next::At(3, LOOK_AGAIN);
                }
                Next::At(step, LOOK_AGAIN)
            }
            (step, DemoteMode::Immediate | DemoteMode::ImmediateNoLock) => {
                if elapsed > SECONDS {
                    self.pg_kill(host);
                }
                Next::At(step, LOOK_AGAIN)
            }
        }
    }

    fn begin_stop(&mut self, host: HostId, mode: DemoteMode) {
        let fast = !matches!(mode, DemoteMode::Immediate | DemoteMode::ImmediateNoLock);
        self.pg_stop(host, fast);
    }

    pub(super) fn stop(&mut self, host: HostId, step: u32, mode: StopMode, began: Nanos) -> Next {
        if self.hosts[host].pg.is_down() {
            self.hosts[host].pg.orphans = None;
            self.hosts[host].agent.mind.state = PostgresState::Stopped;
            return Next::Succeeded;
        }
        if step == 0 {
            self.hosts[host].agent.mind.state = PostgresState::Stopping;
            self.pg_stop(host, mode == StopMode::Fast);
        }
        if self.now > began + 30 * SECONDS {
            self.pg_kill(host);
        }
        Next::At(1, LOOK_AGAIN)
    }

    pub(super) fn checkpoint_job(&mut self, host: HostId, step: u32) -> Next {
        let pg = &self.hosts[host].pg;
        if step == 0 {
            return if self.pg_checkpoint(host) {
                Next::At(1, LOOK_AGAIN * 3)
            } else {
                Next::Failed("no server")
            };
        }
        match pg.server() {
            Some(server) if self.wal.timeline(server.inserted) == pg.data.control.timeline => Next::Succeeded,
            Some(server) if server.stop.is_none() => Next::At(1, LOOK_AGAIN * 3),
            _ => Next::Failed("the server is gone"),
        }
    }
}
