//! What the REST API asks, in the agent's terms.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bellwether_agent::{AgentHandle, ConfigEnd, DeletedSwitchover, SwitchoverEnd};
use bellwether_api::control::{
    CallRecord, Caller, ConfigOutcome, Control, DeleteSwitchoverOutcome, LeaderChange, ReinitOutcome,
    ReinitRequest, RestartOutcome, RestartRequest, ScheduledTime, SwitchoverOutcome, SwitchoverRequest,
};
use bellwether_entrypoint::board::Board;
use bellwether_ha::{action::Answer, view::RestartConditions};
use bellwether_proxy::ProxyHandle;
use bellwether_types::{
    Timestamp,
    citus::CitusEvent,
    cluster::{FailoverRequest, Schedule},
    failsafe::{FailsafeAnswer, FailsafeRequest},
    status::NodeStatus,
};
use serde_json::{Map, Value, json};

/// Unsafe calls journalled per second at most; strangers may call as often as they like.
const CALLS_PER_SECOND: u32 = 20;

/// The agent behind the API.
#[derive(Debug)]
pub(crate) struct AgentControl {
    agent: AgentHandle,
    board: Board,
    /// This node's proxy, if it has one.
    proxy: Option<ProxyHandle>,
    recorded: Mutex<(u64, u32)>,
}

impl AgentControl {
    pub(crate) fn new(agent: AgentHandle, board: Board, proxy: Option<ProxyHandle>) -> Self {
        Self { agent, board, proxy, recorded: Mutex::default() }
    }

    fn may_record(&self) -> bool {
        let second = self.agent.now().as_millis() / 1000;
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.0 != second {
            *recorded = (second, 0);
        }
        recorded.1 += 1;
        recorded.1 <= CALLS_PER_SECOND
    }
}

fn schedule(time: &ScheduledTime) -> Schedule {
    Schedule::At { text: time.text.clone(), time: time.time }
}

fn config_outcome(end: ConfigEnd) -> ConfigOutcome {
    match end {
        ConfigEnd::Stored(document) => ConfigOutcome::Stored(document),
        ConfigEnd::LostRace => ConfigOutcome::LostRace,
        ConfigEnd::NoConfig => ConfigOutcome::NoConfig,
        ConfigEnd::Unavailable { why } => ConfigOutcome::Unavailable { why },
    }
}

#[async_trait]
impl Control for AgentControl {
    fn status(&self) -> Arc<NodeStatus> {
        self.agent.status()
    }

    async fn status_since(&self, since: Timestamp) -> Arc<NodeStatus> {
        self.agent.status_since(since).await
    }

    fn now(&self) -> Timestamp {
        self.agent.now()
    }

    async fn reload(&self, _: Caller) {
        self.agent.reload().await;
    }

    async fn restart(&self, _: Caller, request: RestartRequest) -> RestartOutcome {
        let conditions = RestartConditions {
            role: request.role,
            version_below: request.version_below,
            pending: request.pending_only,
        };
        if let Some(ScheduledTime { text, time }) = request.schedule {
            if self.status().scheduled_restart.is_some() {
                return RestartOutcome::AlreadyScheduled;
            }
            return match self.agent.schedule_restart(time, text, conditions, request.timeout).await {
                Answer::Done | Answer::Started => RestartOutcome::Scheduled,
                Answer::Refused { why } => RestartOutcome::Refused { why },
                Answer::Failed { .. } => RestartOutcome::Failed,
            };
        }
        match self.agent.restart(conditions, request.timeout).await {
            Answer::Done | Answer::Started => RestartOutcome::Restarted,
            Answer::Refused { why } => RestartOutcome::Refused { why },
            Answer::Failed { .. } => RestartOutcome::Failed,
        }
    }

    async fn delete_restart(&self, _: Caller) -> bool {
        self.agent.cancel_scheduled_restart().await
    }

    async fn reinitialize(&self, _: Caller, request: ReinitRequest) -> ReinitOutcome {
        match self.agent.reinitialize(request.force, request.from_leader).await {
            Answer::Started | Answer::Done => ReinitOutcome::Started,
            Answer::Refused { why } | Answer::Failed { why } => ReinitOutcome::Refused { why },
        }
    }

    async fn switchover(&self, _: Caller, request: SwitchoverRequest) -> SwitchoverOutcome {
        let leader = match request.change {
            LeaderChange::Switchover => request.leader,
            LeaderChange::Failover => None,
        };
        let scheduled_at = request.scheduled_at.as_ref().map(schedule);
        let asked = FailoverRequest { leader, candidate: request.candidate, scheduled_at };
        match self.agent.switchover(asked).await {
            SwitchoverEnd::Done { new_leader } => SwitchoverOutcome::Done { new_leader },
            SwitchoverEnd::Scheduled => SwitchoverOutcome::Scheduled,
            SwitchoverEnd::NoGoodCandidates => SwitchoverOutcome::NoGoodCandidates,
            SwitchoverEnd::NotWritten => SwitchoverOutcome::NotWritten,
            SwitchoverEnd::Failed => SwitchoverOutcome::Failed,
            SwitchoverEnd::Unknown { after_secs } => SwitchoverOutcome::Unknown { after_secs },
        }
    }

    async fn delete_switchover(&self, _: Caller) -> DeleteSwitchoverOutcome {
        match self.agent.delete_switchover().await {
            DeletedSwitchover::Deleted => DeleteSwitchoverOutcome::Deleted,
            DeletedSwitchover::NotScheduled => DeleteSwitchoverOutcome::NotScheduled,
            DeletedSwitchover::LostRace => DeleteSwitchoverOutcome::LostRace,
            DeletedSwitchover::Unavailable { why } => DeleteSwitchoverOutcome::Unavailable { why },
        }
    }

    async fn patch_config(&self, _: Caller, patch: Map<String, Value>) -> ConfigOutcome {
        config_outcome(self.agent.patch_config(patch).await)
    }

    async fn put_config(&self, _: Caller, config: Map<String, Value>) -> ConfigOutcome {
        config_outcome(self.agent.put_config(config).await)
    }

    async fn failsafe(&self, _: Caller, request: FailsafeRequest) -> FailsafeAnswer {
        self.agent.failsafe(request).await
    }

    async fn citus(&self, _: Caller, event: CitusEvent) {
        self.agent.citus(event).await;
    }

    async fn cancel(&self, process: u32, secret: &[u8]) {
        if let Some(proxy) = &self.proxy {
            proxy.cancel(process, secret).await;
        }
    }

    async fn journal(&self, limit: usize) -> Vec<Value> {
        self.agent.journal().recent(limit)
    }

    fn entrypoints(&self) -> Vec<Value> {
        let entries = self.board.entries();
        entries.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect()
    }

    fn log_backlog(&self) -> (usize, u64) {
        crate::logging::backlog()
    }

    fn record_call(&self, record: CallRecord) {
        // The leader's own failsafe calls come every second and are journalled where they matter; requests to cancel are counted.
        let routine = matches!(&*record.path, "/failsafe" | "/cancel") && record.status < 400;
        if routine || !self.may_record() {
            return;
        }
        self.agent.journal().record(
            "call",
            json!({
                "method": record.method,
                "path": record.path,
                "status": record.status,
                "message": record.message,
                "identity": record.caller.identity,
                "origin": record.caller.origin,
                "took_ms": u64::try_from(record.took.as_millis()).unwrap_or(u64::MAX),
            }),
        );
    }
}
