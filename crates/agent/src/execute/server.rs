//! Actions on the running server: starts, stops, changes of its role, and small errands. Long ones become the job.

use std::time::Duration;

use bellwether_ha::{
    action::{DemoteMode, Fence, StartRole, StopMode, TakenTimelines},
    view::{JobKind, JobOutcome, LeaseView, Upstream},
};
use bellwether_postgres::{config::ConfigPlan, postmaster, stop::StopRequest};
use bellwether_types::{PostgresState, Role, citus::CitusEventKind};
use tracing::{debug, info, warn};

use super::{Effect, jobs::tell_cancelled};
use crate::{agent::Agent, citus::Notice, clock, monitor::Errand, work};

/// How long a planned change of the leader waits for transactions of clients that proxies hold back from new ones.
const DRAIN: Duration = Duration::from_secs(2);

impl Agent {
    /// Whether what an action was decided on still holds, at the last moment before its effect.
    fn fence_holds(&self, fence: Fence) -> bool {
        self.still_allowed(Some(fence))()
    }

    /// The same question for a job, which asks it when it has got so far. Without a fence nothing needs to hold.
    fn still_allowed(&self, fence: Option<Fence>) -> impl Fn() -> bool + Send + use<> {
        let lease = self.lease.clone();
        move || {
            let now = clock::now();
            fence.is_none_or(|fence| {
                matches!(lease.state().view, LeaseView::Held { until, term, .. } if term == fence.term && now < until)
            })
        }
    }

    pub(super) fn start_server(&mut self, role: StartRole) -> Effect {
        let streams = match &role {
            StartRole::Primary { .. } => false,
            StartRole::Standby { upstream } | StartRole::StandbyLeader { upstream } => upstream.is_some(),
        };
        if streams && self.refuses("start as a standby of somebody") {
            return Effect::Failed;
        }
        let (plan, fence) = match role {
            StartRole::Primary { fence } if !self.fence_holds(fence) => {
                warn!("the lease changed before the start: not starting as primary");
                return Effect::Failed;
            }
            StartRole::Primary { fence } => (self.primary_plan(), Some(fence)),
            StartRole::Standby { upstream } => (self.be_standby(Role::Replica, upstream), None),
            StartRole::StandbyLeader { upstream } => (self.be_standby(Role::StandbyLeader, upstream), None),
        };
        self.local.custom_bootstrap = false;
        self.local.given = Some(self.give(fence.is_some()));
        let still_allowed = self.still_allowed(fence);
        self.local.state = PostgresState::Starting;
        let (server, limit) = (self.server.clone(), self.settings.pg_ctl_timeout);
        self.jobs.start(JobKind::Start, move |job| work::start(job, server, plan, limit, still_allowed));
        Effect::Nothing
    }

    fn be_standby(&mut self, role: Role, upstream: Option<Upstream>) -> ConfigPlan {
        self.local.sync_names = None;
        self.local.role = role;
        self.local.upstream = upstream;
        self.standby_plan(self.local.upstream.as_ref())
    }

    pub(super) fn promote(&mut self, fence: Fence, taken: Option<TakenTimelines>) -> Effect {
        let Some(postmaster) = self.local.postmaster.clone() else { return Effect::Failed };
        if !self.fence_holds(fence) {
            warn!("the lease changed before the promotion: not promoting");
            return Effect::Failed;
        }
        info!(taken = taken.map(|taken| taken.through.0), "promoting");
        self.slots.leave_off();
        self.clock.promoting(clock::now());
        self.citus.tell(CitusEventKind::BeforePromote);
        let server = self.server.clone();
        let still_allowed = self.still_allowed(Some(fence));
        self.jobs
            .start(JobKind::Promote, move |job| work::promote(job, server, postmaster, taken, still_allowed));
        Effect::Nothing
    }

    pub(super) fn demote(&mut self, mode: DemoteMode, stop_limit: Option<Duration>) -> Effect {
        info!("Demoting self ({})", mode.as_str());
        let mut request = work::demote_request(mode, stop_limit, clock::now());
        let drains = mode == DemoteMode::Graceful && self.config.router.is_some();
        request.drain = drains.then_some(DRAIN);
        self.local.role = Role::Demoted;
        let notice = match mode {
            DemoteMode::Graceful => self.citus.notice_of_stop(),
            _ => Notice::default(),
        };
        self.begin_stop(JobKind::Demote, request, mode == DemoteMode::DemoteCluster, notice);
        if matches!(mode, DemoteMode::ImmediateNoLock | DemoteMode::Offline { .. }) {
            let lease = self.lease.clone();
            // The keeper may be waiting for the store; nobody waits for it.
            tokio::spawn(async move { lease.forget().await });
        }
        // Proxies are to hear of it while there is still time for what is in flight: the member key says so at once.
        Effect::of_change(drains)
    }

    pub(super) fn stop_server(&mut self, mode: StopMode) -> Effect {
        let request = StopRequest {
            mode: match mode {
                StopMode::Fast => postmaster::StopMode::Fast,
                StopMode::Immediate => postmaster::StopMode::Immediate,
            },
            checkpoint: false,
            hook: true,
            drain: None,
            immediate_after: None,
            kill_after: (mode == StopMode::Immediate).then_some(Duration::from_secs(5)),
        };
        let is_orderly = mode == StopMode::Fast && self.local.role == Role::Primary;
        let notice = if is_orderly { self.citus.notice_of_stop() } else { Notice::default() };
        self.begin_stop(JobKind::Stop, request, false, notice);
        Effect::Nothing
    }

    /// `of_cluster`: the whole cluster is demoted with this server.
    fn begin_stop(&mut self, kind: JobKind, request: StopRequest, of_cluster: bool, notice: Notice) {
        let now = clock::now();
        if self.local.postmaster.is_some() {
            self.local.stopping_since = Some(now);
            self.local.state = PostgresState::Stopping;
        }
        if let Some(superseded) = self.jobs.kind().cloned() {
            tell_cancelled(&superseded);
            // Nobody hears of its end any more.
            self.requests.job_ended(&superseded, &JobOutcome::Cancelled);
        }
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        if of_cluster {
            self.jobs.take_over(kind, move |job, before| {
                work::demote_cluster(job, server, running, request, before)
            });
        } else {
            self.jobs.take_over(kind, move |job, before| {
                work::stop(job, server, running, request, before, notice)
            });
        }
    }

    pub(super) fn restart_server(
        &mut self,
        timeout: Option<Duration>,
        stop_limit: Duration,
        fence: Option<Fence>,
    ) -> Effect {
        if fence.is_some_and(|fence| !self.fence_holds(fence)) {
            warn!("the lease changed before the restart: not restarting");
            return Effect::Failed;
        }
        info!("restart initiated");
        self.local.state = PostgresState::Restarting;
        self.local.stopping_since = Some(clock::now());
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        let (plan, limit) = (self.present_plan(), timeout.unwrap_or(self.settings.pg_ctl_timeout));
        self.local.given = Some(self.give(self.local.role == Role::Primary));
        let notice = match self.local.role {
            Role::Primary => self.citus.notice_of_stop(),
            _ => Notice::default(),
        };
        let still_allowed = self.still_allowed(fence);
        self.jobs.start(JobKind::Restart, move |job| {
            work::restart(job, server, running, plan, (stop_limit, limit), notice, still_allowed)
        });
        Effect::Nothing
    }

    pub(super) fn check_divergence(&mut self, leader: Upstream) -> Effect {
        let replayed = self
            .local
            .server_view()
            .filter(|server| server.in_recovery && self.local.postmaster.is_some())
            .map(|server| server.replayed);
        let settings = self.settings.clone();
        let url =
            self.mirror.state().cluster.and_then(|cluster| cluster.member(&leader.member)?.api_url.clone());
        let asked = url.map(|url| (self.client.clone(), url));
        self.jobs.start(JobKind::CheckDivergence, move |job| {
            work::check_divergence(job, settings, replayed, leader, asked)
        });
        Effect::Nothing
    }

    pub(super) fn checkpoint(&mut self) -> Effect {
        let settings = self.settings.clone();
        self.jobs.start(JobKind::Checkpoint, move |job| work::checkpoint(job, settings));
        Effect::Nothing
    }

    /// `Nothing`: there was nothing to do.
    pub(super) async fn errand(&mut self, errand: Errand) -> Effect {
        let Some(postmaster) = &self.local.postmaster else { return Effect::Failed };
        let what = format!("{errand:?}");
        let Some(patience) = self.errands.patience(clock::now(), self.effective.settings.ttl) else {
            debug!(what, "no time is left for this errand");
            return Effect::Failed;
        };
        match self.monitor.run(postmaster.id(), errand, patience).await {
            Ok(true) => Effect::Changed,
            Ok(false) => Effect::Nothing,
            Err(error) => {
                warn!(what, error = work::chain(&error), "an errand on the local server failed");
                Effect::Failed
            }
        }
    }

    pub(super) async fn generate_wal(&mut self) -> Effect {
        self.errand(Errand::GenerateWal).await
    }

    pub(super) async fn prove_names_in_force(&mut self) -> Effect {
        let Some(postmaster) = &self.local.postmaster else { return Effect::Failed };
        let since = clock::now();
        let Some(patience) = self.errands.patience(since, self.effective.settings.ttl) else {
            return Effect::Nothing;
        };
        match self.monitor.read_configuration(postmaster.id(), patience).await {
            Ok(true) => {
                self.local.checkpointer_read_at = Some(since);
                Effect::Changed
            }
            Ok(false) => Effect::Nothing,
            Err(error) => {
                warn!(
                    error = work::chain(&error),
                    "cannot tell whether the checkpointer has read its configuration"
                );
                Effect::Nothing
            }
        }
    }

    pub(super) async fn resume_replay(&mut self) -> Effect {
        self.errand(Errand::ResumeReplay).await
    }
}
