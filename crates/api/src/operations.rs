//! The unsafe calls: which there are, what body they take, and how they are answered.

use axum::http::{HeaderName, HeaderValue, Method};
use bellwether_types::{
    citus::CitusEvent,
    failsafe::{FailsafeAnswer, FailsafeRequest},
};
use serde_json::{Map, Value};
use tracing::info;

use crate::{
    Caller, Control,
    access::MembersCount,
    control::{ConfigOutcome, LeaderChange, ReinitOutcome, ReinitRequest},
    facts::Facts,
    reply::Reply,
    request::BodyRule,
    restart, switchover,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    PatchConfig,
    PutConfig,
    Reload,
    Restart,
    DeleteRestart,
    Reinitialize,
    Change(LeaderChange),
    DeleteSwitchover,
    Failsafe,
    Citus,
    Cancel,
    Sigterm,
}

/// An unsafe call, and what the reference page says about it.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// The first segment of the path.
    pub(crate) segment: &'static str,
    operation: Operation,
    pub(crate) doc: &'static str,
}

const fn call(method: &'static str, segment: &'static str, operation: Operation, doc: &'static str) -> Call {
    Call { method, segment, operation, doc }
}

pub(crate) const CALLS: &[Call] = &[
    call(
        "PATCH",
        "config",
        Operation::PatchConfig,
        "Merges the body into the dynamic configuration; `null` removes a key.",
    ),
    call("PUT", "config", Operation::PutConfig, "Replaces the dynamic configuration."),
    call("POST", "reload", Operation::Reload, "Reads the local configuration and all certificates anew."),
    call(
        "POST",
        "restart",
        Operation::Restart,
        "Restarts PostgreSQL now or at `schedule`; conditions: `role`, `postgres_version`, `restart_pending`; `timeout`.",
    ),
    call("DELETE", "restart", Operation::DeleteRestart, "Forgets a scheduled restart."),
    call(
        "POST",
        "reinitialize",
        Operation::Reinitialize,
        "Copies this replica anew; `force`, `from_leader`.",
    ),
    call(
        "POST",
        "switchover",
        Operation::Change(LeaderChange::Switchover),
        "A planned change of leader: `leader`, `candidate`, `scheduled_at`. Answers when it is done.",
    ),
    call(
        "POST",
        "failover",
        Operation::Change(LeaderChange::Failover),
        "A change to `candidate`, also without a healthy leader. Answers when it is done.",
    ),
    call("DELETE", "switchover", Operation::DeleteSwitchover, "Forgets a scheduled switchover."),
    call(
        "POST",
        "failsafe",
        Operation::Failsafe,
        "From a leader without the store to the other members. Not for people.",
    ),
    call(
        "POST",
        "citus",
        Operation::Citus,
        "From the leader of a worker's group to the coordinator of a Citus cluster. Not for people.",
    ),
    call("POST", "mpp", Operation::Citus, "Another name of `POST /citus`."),
    call(
        "POST",
        "cancel",
        Operation::Cancel,
        "From another node's proxy: a request to cancel what a client of this node's pools does (`process`, `secret`). Not for people.",
    ),
    call("POST", "sigterm", Operation::Sigterm, "Accepted; has no effect."),
];

impl Operation {
    /// `None`: no such call.
    pub(crate) fn find(method: &Method, segment: &str) -> Option<Self> {
        let call = CALLS.iter().find(|call| call.method == method.as_str() && call.segment == segment)?;
        Some(call.operation)
    }

    pub(crate) fn body_rule(self) -> BodyRule {
        match self {
            Self::PatchConfig
            | Self::PutConfig
            | Self::Change(_)
            | Self::Failsafe
            | Self::Citus
            | Self::Cancel => BodyRule::Required,
            Self::Restart | Self::Reinitialize => BodyRule::Optional,
            Self::Reload | Self::DeleteRestart | Self::DeleteSwitchover | Self::Sigterm => BodyRule::Ignored,
        }
    }

    /// Whether `allowlist_include_members` matters.
    pub(crate) fn members_count(self) -> MembersCount {
        if self == Self::Failsafe { MembersCount::No } else { MembersCount::Yes }
    }

    /// Checks the body, asks the agent, words the answer. May take minutes; runs on a task of its own.
    pub(crate) async fn perform(
        self,
        control: &dyn Control,
        caller: Caller,
        body: Map<String, Value>,
    ) -> Reply {
        match self {
            Self::PatchConfig => config_reply(self, control.patch_config(caller, body).await),
            Self::PutConfig => config_reply(self, control.put_config(caller, body).await),
            Self::Reload => {
                control.reload(caller).await;
                Reply::message(202, "reload scheduled")
            }
            Self::Restart => {
                let is_paused = control.status().settings.pause;
                match restart::parse(&body, control.wall_time(), is_paused) {
                    Ok(request) => restart::reply(control.restart(caller, request).await),
                    Err(rejection) => rejection.into(),
                }
            }
            Self::DeleteRestart => match control.delete_restart(caller).await {
                true => Reply::message(200, "scheduled restart deleted"),
                false => Reply::message(404, "no restarts are scheduled"),
            },
            Self::Reinitialize => {
                let request =
                    ReinitRequest { force: flag(&body, "force"), from_leader: flag(&body, "from_leader") };
                match control.reinitialize(caller, request).await {
                    ReinitOutcome::Started => Reply::message(200, "reinitialize started"),
                    ReinitOutcome::Refused { why } => Reply::message(503, why),
                }
            }
            Self::Change(change) => change_leader(control, caller, change, &body).await,
            Self::DeleteSwitchover => switchover::delete_reply(control.delete_switchover(caller).await),
            Self::Failsafe => failsafe(control, caller, body).await,
            Self::Citus => match CitusEvent::from_json(&body) {
                Ok(event) => {
                    control.citus(caller, event).await;
                    Reply::message(200, "OK")
                }
                Err(field) => Reply::message(400, format!("the body is no report of a leader: `{field}`")),
            },
            Self::Cancel => match cancel_key(&body) {
                Some((process, secret)) => {
                    control.cancel(process, &secret).await;
                    Reply::message(200, "OK")
                }
                None => {
                    Reply::message(400, "the body needs `process` (a number) and `secret` (in hexadecimal)")
                }
            },
            // As in the reference, where it has an effect in a test mode only.
            Self::Sigterm => Reply::message(202, "shutdown scheduled"),
        }
    }
}

/// Up to 256 bytes of a secret, by protocol 3.2.
fn cancel_key(body: &Map<String, Value>) -> Option<(u32, Vec<u8>)> {
    let process = u32::try_from(body.get("process")?.as_u64()?).ok()?;
    let secret = hex::decode(body.get("secret")?.as_str()?).ok()?;
    (4..=256).contains(&secret.len()).then_some((process, secret))
}

fn config_reply(operation: Operation, outcome: ConfigOutcome) -> Reply {
    match outcome {
        ConfigOutcome::Stored(document) => Reply::json(200, &document),
        ConfigOutcome::LostRace => {
            Reply::error_page(409, "the configuration was changed at the same time: read it and try again")
        }
        ConfigOutcome::NoConfig => Reply::error_page(503, "there is no configuration in the store to change"),
        ConfigOutcome::Unavailable { why } => {
            Reply::error_page(if operation == Operation::PutConfig { 502 } else { 503 }, why)
        }
    }
}

async fn change_leader(
    control: &dyn Control,
    caller: Caller,
    change: LeaderChange,
    body: &Map<String, Value>,
) -> Reply {
    let status = control.status();
    let Some(view) = Facts::new(&status, control.now()).view else {
        return Reply::error_page(503, "the state of the cluster is not known: the store could not be read");
    };
    let told = |key: &str| body.get(key).map_or_else(|| "None".to_owned(), shown);
    info!(
        "received {} request with leader={} candidate={} scheduled_at={}",
        change.word(),
        told("leader"),
        if body.contains_key("candidate") { told("candidate") } else { told("member") },
        told("scheduled_at")
    );
    match switchover::parse(change, body, &status, view, control.wall_time()) {
        Ok(request) => switchover::reply(&request, control.switchover(caller, request.clone()).await),
        Err(rejection) => rejection.into(),
    }
}

/// As a line of the log shows it: what comes from outside stays on that line.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string())
}

async fn failsafe(control: &dyn Control, caller: Caller, body: Map<String, Value>) -> Reply {
    let request: FailsafeRequest = match serde_json::from_value(Value::Object(body)) {
        Ok(request) => request,
        Err(_) if !control.status().settings.failsafe_mode => {
            return Reply::error_page(502, "failsafe_mode is off");
        }
        Err(error) => return Reply::error_page(400, format!("the body is no failsafe request: {error}")),
    };
    match control.failsafe(caller, request).await {
        FailsafeAnswer::Accepted { lsn, promised } => {
            let promised = HeaderValue::from(u64::try_from(promised.as_millis()).unwrap_or(u64::MAX));
            let reply = Reply::message(200, "Accepted");
            let reply = reply.with_header(HeaderName::from_static("promised-ms"), promised);
            match lsn {
                Some(lsn) => reply.with_header(HeaderName::from_static("lsn"), HeaderValue::from(lsn.0)),
                None => reply,
            }
        }
        FailsafeAnswer::Off => Reply::error_page(502, "failsafe_mode is off"),
        FailsafeAnswer::PromisedOtherwise => {
            Reply::message(500, "Promised to receive nothing from you: you are being replaced")
        }
        FailsafeAnswer::RunningAsLeader => Reply::message(500, "Running as a leader"),
    }
}

/// Truth as scripts write it: absent, `false`, `null`, `0` and empty texts are not set.
fn flag(body: &Map<String, Value>, key: &str) -> bool {
    match body.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(on)) => *on,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    }
}
