//! The agents behind the members' REST servers: they do at once in the store what real ones do in a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_api::{
    CallRecord, Caller, Control,
    control::{
        ConfigOutcome, DeleteSwitchoverOutcome, ReinitOutcome, ReinitRequest, RestartOutcome, RestartRequest,
        SwitchoverOutcome, SwitchoverRequest,
    },
};
use bellwether_config::{Floors, dynamic, patch};
use bellwether_dcs::{Deadline, MemoryStore, Store, Write, codec, store::now};
use bellwether_types::{
    MemberName, PostgresState, Role, Timestamp,
    citus::CitusEvent,
    cluster::{Cluster, ConfigDocument},
    failsafe::{FailsafeAnswer, FailsafeRequest},
    measured::{Measured, Span},
    settings::Settings,
    status::{NodeStatus, ServerStatus, WalStatus},
};
use serde_json::{Map, Value, json};

/// What a test wants to go another way than well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) restart: Option<RestartOutcome>,
    pub(crate) switchover: Option<SwitchoverOutcome>,
    pub(crate) reinit: Option<ReinitOutcome>,
    pub(crate) journal: Vec<Value>,
}

/// One member.
pub(crate) struct Agent {
    pub(crate) name: MemberName,
    pub(crate) store: MemoryStore,
    pub(crate) script: Mutex<Script>,
    /// What was asked of any of the members, in order. Shared by all.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// The last picture of the cluster. Shared by all.
    pub(crate) view: Arc<Mutex<Cluster>>,
}

impl Agent {
    fn ask(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(format!("{}: {}", self.name, what.into()));
    }

    fn script(&self) -> Script {
        self.script.lock().unwrap().clone()
    }

    async fn write(&self, writes: &[Write]) {
        self.store.commit(&[], writes, Deadline::after(Duration::from_secs(5))).await;
        refresh(&self.store, &self.view).await;
    }

    /// The member keys as they are, with some fields changed.
    fn members_with(&self, change: impl Fn(&MemberName, &mut Value)) -> Vec<Write> {
        let view = self.view.lock().unwrap();
        let rewrite = |(name, member): (&MemberName, &bellwether_types::cluster::Member)| {
            let mut value = member.raw.clone();
            change(name, &mut value);
            Write::put(codec::keys::member(name), value.to_string())
        };
        view.members.iter().map(rewrite).collect()
    }

    fn config(&self) -> Value {
        match self.view.lock().unwrap().config.as_ref().map(|keyed| keyed.value.clone()) {
            Some(ConfigDocument::Valid(document)) => document,
            _ => json!({}),
        }
    }

    async fn store_config(&self, document: &Value) -> ConfigOutcome {
        let pause = document.get("pause") == Some(&json!(true));
        let mut writes = self.members_with(|_, value| value["pause"] = json!(pause));
        writes.push(Write::put(codec::keys::CONFIG, document.to_string()));
        self.write(&writes).await;
        ConfigOutcome::Stored(document.clone())
    }
}

/// Reads the store into the shared picture.
pub(crate) async fn refresh(store: &MemoryStore, view: &Mutex<Cluster>) {
    let snapshot = store.snapshot(Deadline::after(Duration::from_secs(5))).await.unwrap();
    *view.lock().unwrap() = codec::decode(&snapshot);
}

#[async_trait]
impl Control for Agent {
    async fn status_since(&self, _: Timestamp) -> Arc<NodeStatus> {
        self.status()
    }

    fn status(&self) -> Arc<NodeStatus> {
        let view = self.view.lock().unwrap().clone();
        let leads = view.leader_name() == Some(&self.name);
        let config = match view.config.as_ref().map(|keyed| &keyed.value) {
            Some(ConfigDocument::Valid(document)) => document.clone(),
            _ => json!({}),
        };
        let floors = Floors::bellwether(Duration::from_secs(1));
        Arc::new(NodeStatus {
            cluster: "demo".parse().unwrap(),
            me: self.name.clone(),
            version: codec::COMPATIBLE_VERSION.to_owned(),
            taken_at: now(),
            state: PostgresState::Running,
            role: if leads { Role::Primary } else { Role::Replica },
            server: Some(server(leads)),
            system_id: None,
            pending_restart: false,
            pending_restart_reason: Value::Null,
            tags: Default::default(),
            scheduled_restart: None,
            watchdog_failed: false,
            at_rest: false,
            alarms: Default::default(),
            measured: measured(),
            lease_until: leads.then(|| now() + Duration::from_secs(20)),
            settings: dynamic::parse(&config, floors)
                .map_or_else(|_| Settings::default(), |dynamic| dynamic.settings),
            store: Some(view),
            store_last_seen: None,
            config,
            failsafe_until: None,
            failsafe: None,
            takeover: Default::default(),
            next_tick_by: now() + Duration::from_secs(60),
            reason: String::new(),
            reason_code: String::new(),
        })
    }

    fn now(&self) -> Timestamp {
        now()
    }

    async fn reload(&self, _: Caller) {
        self.ask("reload");
    }

    async fn restart(&self, _: Caller, request: RestartRequest) -> RestartOutcome {
        self.ask(format!("restart {}", Value::Object(request.published)));
        self.script().restart.unwrap_or(if request.schedule.is_some() {
            RestartOutcome::Scheduled
        } else {
            RestartOutcome::Restarted
        })
    }

    async fn delete_restart(&self, _: Caller) -> bool {
        self.ask("delete restart");
        true
    }

    async fn reinitialize(&self, _: Caller, request: ReinitRequest) -> ReinitOutcome {
        self.ask(format!("reinitialize force={} from_leader={}", request.force, request.from_leader));
        match self.script().reinit {
            Some(refusal) if !request.force => refusal,
            _ => ReinitOutcome::Started,
        }
    }

    async fn switchover(&self, caller: Caller, request: SwitchoverRequest) -> SwitchoverOutcome {
        let text = |name: &Option<MemberName>| name.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        let (leader, candidate) = (text(&request.leader), text(&request.candidate));
        let by = caller.identity.unwrap_or_default();
        self.ask(format!("{:?} from {leader} to {candidate} by {by}", request.change));
        if let Some(outcome) = self.script().switchover {
            return outcome;
        }
        if request.scheduled_at.is_some() {
            return SwitchoverOutcome::Scheduled;
        }
        let others: Vec<MemberName> = self.view.lock().unwrap().members.keys().cloned().collect();
        let new_leader = request.candidate.unwrap_or_else(|| {
            others.into_iter().find(|name| Some(name) != request.leader.as_ref()).unwrap()
        });
        let mut writes = self.members_with(|name, value| {
            value["role"] = json!(if *name == new_leader { "primary" } else { "replica" });
            value["timeline"] = json!(6);
        });
        writes.push(Write::put(codec::keys::LEADER, new_leader.as_str()));
        self.write(&writes).await;
        SwitchoverOutcome::Done { new_leader }
    }

    async fn delete_switchover(&self, _: Caller) -> DeleteSwitchoverOutcome {
        self.ask("delete switchover");
        self.write(&[Write::put(codec::keys::FAILOVER, codec::NO_REQUEST)]).await;
        DeleteSwitchoverOutcome::Deleted
    }

    async fn patch_config(&self, _: Caller, change: Map<String, Value>) -> ConfigOutcome {
        self.ask(format!("patch {}", Value::Object(change.clone())));
        let mut document = self.config();
        patch(&mut document, &Value::Object(change));
        self.store_config(&document).await
    }

    async fn put_config(&self, _: Caller, config: Map<String, Value>) -> ConfigOutcome {
        self.store_config(&Value::Object(config)).await
    }

    async fn failsafe(&self, _: Caller, _: FailsafeRequest) -> FailsafeAnswer {
        FailsafeAnswer::Off
    }

    async fn citus(&self, _: Caller, _: CitusEvent) {}

    async fn journal(&self, _: usize) -> Vec<Value> {
        self.script().journal
    }

    fn record_call(&self, _: CallRecord) {}
}

fn server(leads: bool) -> ServerStatus {
    let location = bellwether_types::Lsn(0x0300_0000);
    let standby = WalStatus::Standby {
        received: location,
        replayed: location,
        replayed_timestamp: None,
        replayed_unix: None,
        paused: false,
    };
    ServerStatus {
        asked_at: now(),
        server_version: 150_018,
        postmaster_start_time: "2026-11-21 09:30:00.250000+00:00".to_owned(),
        postmaster_start_unix: 1_795_253_400.25,
        in_recovery: !leads,
        timeline: None,
        wal: if leads { WalStatus::Primary { location } } else { standby },
        replication_state: None,
        replays_own_wal: false,
        latest_end_lsn: None,
        replication: Vec::new(),
    }
}

/// A store that takes its time.
fn measured() -> Measured {
    let span =
        |ms| Span { count: 100, typical: Duration::from_millis(ms), worst: Duration::from_millis(3 * ms) };
    Measured { store: span(120), commit: span(5), late: span(2) }
}

/// Names of members with their agents.
pub(crate) type Agents = BTreeMap<String, Arc<Agent>>;
