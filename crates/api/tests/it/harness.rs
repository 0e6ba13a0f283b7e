//! The server under test, the agent behind it, and a client that shows every byte.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_api::{
    Api, ApiConfig, ApiHandle, CallRecord, Caller, Control, ListenOn,
    control::{
        ConfigOutcome, DeleteSwitchoverOutcome, ReinitOutcome, ReinitRequest, RestartOutcome, RestartRequest,
        SwitchoverOutcome, SwitchoverRequest,
    },
};
use bellwether_types::{
    Lsn, Timestamp, WallTime,
    citus::CitusEvent,
    failsafe::{FailsafeAnswer, FailsafeRequest},
    status::NodeStatus,
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::situations;

/// What the agent under test promises.
pub(crate) const PROMISED: Duration = Duration::from_millis(5_500);

/// An agent that answers what a test told it to.
pub(crate) struct Agent {
    pub(crate) status: NodeStatus,
    /// Its PostgreSQL answers whoever asks where it is now.
    pub(crate) looks_again: bool,
    pub(crate) restart: RestartOutcome,
    pub(crate) switchover: SwitchoverOutcome,
    pub(crate) config: ConfigOutcome,
    pub(crate) failsafe: FailsafeAnswer,
    pub(crate) log_backlog: (usize, u64),
    /// Restarts wait for a permit.
    pub(crate) gate: Semaphore,
    /// What was asked, as text.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) records: Mutex<Vec<CallRecord>>,
}

impl Agent {
    pub(crate) fn new(status: NodeStatus) -> Self {
        Self {
            status,
            looks_again: true,
            restart: RestartOutcome::Restarted,
            switchover: SwitchoverOutcome::Done { new_leader: situations::name("b") },
            config: ConfigOutcome::Stored(json!({"ttl": 20})),
            failsafe: FailsafeAnswer::Accepted { lsn: Some(Lsn(4711)), promised: PROMISED },
            log_backlog: (0, 0),
            gate: Semaphore::new(100),
            asked: Mutex::default(),
            records: Mutex::default(),
        }
    }

    fn ask(&self, what: impl ToString) {
        self.asked.lock().unwrap().push(what.to_string());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn records(&self) -> Vec<CallRecord> {
        self.records.lock().unwrap().clone()
    }
}

#[async_trait]
impl Control for Agent {
    fn status(&self) -> Arc<NodeStatus> {
        Arc::new(self.status.clone())
    }

    async fn status_since(&self, since: Timestamp) -> Arc<NodeStatus> {
        let mut status = self.status.clone();
        if let (true, Some(server)) = (self.looks_again, &mut status.server) {
            server.asked_at = since;
        }
        Arc::new(status)
    }

    fn now(&self) -> Timestamp {
        situations::NOW
    }

    fn wall_time(&self) -> WallTime {
        WallTime::from_unix_millis(1_795_305_600_000)
    }

    fn log_backlog(&self) -> (usize, u64) {
        self.log_backlog
    }

    async fn reload(&self, _: Caller) {
        self.ask("reload");
    }

    async fn restart(&self, _: Caller, request: RestartRequest) -> RestartOutcome {
        self.ask(format!("restart {}", Value::Object(request.published)));
        self.gate.acquire().await.unwrap().forget();
        self.restart.clone()
    }

    async fn delete_restart(&self, _: Caller) -> bool {
        self.status.scheduled_restart.is_some()
    }

    async fn reinitialize(&self, _: Caller, request: ReinitRequest) -> ReinitOutcome {
        self.ask(format!("reinitialize force={} from_leader={}", request.force, request.from_leader));
        if self.status.lease_until.is_some() {
            return ReinitOutcome::Refused { why: "I am the leader, can not reinitialize".to_owned() };
        }
        ReinitOutcome::Started
    }

    async fn switchover(&self, caller: Caller, request: SwitchoverRequest) -> SwitchoverOutcome {
        self.ask(format!("{:?} {:?} {:?} by {caller}", request.change, request.leader, request.candidate));
        self.switchover.clone()
    }

    async fn delete_switchover(&self, _: Caller) -> DeleteSwitchoverOutcome {
        DeleteSwitchoverOutcome::NotScheduled
    }

    async fn patch_config(&self, _: Caller, patch: Map<String, Value>) -> ConfigOutcome {
        self.ask(format!("patch {}", Value::Object(patch)));
        self.config.clone()
    }

    async fn put_config(&self, _: Caller, config: Map<String, Value>) -> ConfigOutcome {
        self.ask(format!("put {}", Value::Object(config)));
        self.config.clone()
    }

    async fn failsafe(&self, _: Caller, request: FailsafeRequest) -> FailsafeAnswer {
        let FailsafeRequest { name, slots, rely_on_ms, .. } = request;
        self.ask(format!("failsafe {name} {slots:?} {rely_on_ms:?}"));
        self.failsafe.clone()
    }

    async fn citus(&self, _: Caller, event: CitusEvent) {
        self.ask(format!("{} of group {} by {}", event.kind.as_str(), event.group, event.leader));
    }

    async fn journal(&self, limit: usize) -> Vec<Value> {
        vec![json!({"limit": limit})]
    }

    fn record_call(&self, record: CallRecord) {
        self.records.lock().unwrap().push(record);
    }
}

/// A running server; stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) agent: Arc<Agent>,
    pub(crate) handle: ApiHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn config() -> ApiConfig {
    ApiConfig::new(ListenOn::new("127.0.0.1", 0))
}

pub(crate) async fn serve(agent: Agent, config: ApiConfig) -> Server {
    // Fails when another test has installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bound = Api::bind(config).await.unwrap();
    let (address, handle) = (bound.local_addresses().unwrap()[0], bound.handle());
    let (agent, stop) = (Arc::new(agent), CancellationToken::new());
    let task = tokio::spawn(bound.serve(agent.clone(), stop.clone()));
    Server { address, agent, handle, stop, task }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: body.to_owned() }
    }
}

impl Server {
    /// Sends bytes and reads until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        Answer::parse(&tokio::time::timeout(Duration::from_secs(20), exchange).await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    /// A call with a JSON body; an empty text means no body and no length.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_with(method, path, body, "").await
    }

    /// `headers`: complete lines.
    pub(crate) async fn call_with(&self, method: &str, path: &str, body: &str, headers: &str) -> Answer {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{length}\r\n");
        self.raw(&(head + body)).await
    }
}
