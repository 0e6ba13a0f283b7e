//! A cluster `demo` of the members `a` (leader), `b` and `c`, and the commands that are typed at it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_api::{Api, ApiConfig, BasicAuth, ListenOn};
use bellwether_cli::{Command, Globals, Manner, OpenError, OpenStore, Surroundings, run, run_patronictl};
use bellwether_config::ClientConfig;
use bellwether_dcs::{CommitOutcome, Deadline, MemoryStore, Store, Write, codec};
use bellwether_types::cluster::Cluster;
use clap::{CommandFactory, Parser};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{Agent, Agents, Script, refresh},
    screen::Screen,
};

/// In the configuration of the store; must never be shown.
pub(crate) const STORE_PASSWORD: &str = "word-of-the-store";
/// Of the REST API; must never be shown either.
pub(crate) const API_PASSWORD: &str = "word-of-the-api";

/// `bellwether` as the binary embeds the commands.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version)]
pub(crate) struct Program {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) agents: Agents,
    pub(crate) dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    view: Arc<Mutex<Cluster>>,
    servers: BTreeMap<String, CancellationToken>,
    env: BTreeMap<String, String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

struct OneStore(MemoryStore);

#[async_trait]
impl OpenStore for OneStore {
    async fn open(&self, config: &ClientConfig) -> Result<Arc<dyn Store>, OpenError> {
        match config.scope.as_ref().map(|scope| scope.as_str()) {
            Some("demo") => Ok(Arc::new(self.0.clone())),
            Some("down") => Err(OpenError("nobody answers at 127.0.0.1:1".into())),
            _ => Ok(Arc::new(MemoryStore::new())),
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        // Another test of this process may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut world = Self {
            store: MemoryStore::new(),
            agents: Agents::new(),
            dir: tempfile::tempdir().unwrap(),
            asked: Arc::default(),
            view: Arc::default(),
            servers: BTreeMap::new(),
            env: BTreeMap::new(),
        };
        world.put("initialize", "7277694203142172922").await;
        world
            .put("config", r#"{"ttl":30,"loop_wait":10,"postgresql":{"parameters":{"work_mem":"4MB"}}}"#)
            .await;
        world.put("status", r#"{"optime":50331648}"#).await;
        world.put("leader", "a").await;
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            let api_url = world.serve(name).await;
            let mut member = json!({
                "conn_url": format!("postgres://127.0.0.1:{}/postgres", 5432 + number), "api_url": api_url,
                "state": "running", "role": if name == "a" { "primary" } else { "replica" },
                "version": "4.1.5", "xlog_location": 50331648, "timeline": 5,
            });
            if name != "a" {
                member["receive_lsn"] = json!(50331648);
                member["replay_lsn"] = json!(50331648);
                member["replication_state"] = json!("streaming");
            }
            world.put(&format!("members/{name}"), &member.to_string()).await;
        }
        let file = format!(
            "scope: demo\nraft:\n  partner_addrs: ['127.0.0.1:1']\n  password: {STORE_PASSWORD}\n\
             ctl:\n  authentication:\n    username: ann\n    password: {API_PASSWORD}\n"
        );
        std::fs::write(world.config_file(), file).unwrap();
        world
    }

    /// A running REST server; its URL.
    async fn serve(&mut self, name: &str) -> String {
        let mut config = ApiConfig::new(ListenOn::new("127.0.0.1", 0));
        config.authentication =
            Some(BasicAuth { username: "ann".to_owned(), password: API_PASSWORD.to_owned().into() });
        let bound = Api::bind(config).await.unwrap();
        let address = bound.local_addresses().unwrap()[0];
        let agent = Arc::new(Agent {
            name: name.parse().unwrap(),
            store: self.store.clone(),
            script: Mutex::default(),
            asked: self.asked.clone(),
            view: self.view.clone(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(bound.serve(agent.clone(), stop.clone()));
        self.agents.insert(name.to_owned(), agent);
        self.servers.insert(name.to_owned(), stop);
        format!("http://{address}/patroni")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("demo.yml")
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let write = Write::put(key, value);
        let outcome = self.store.commit(&[], &[write], Deadline::after(Duration::from_secs(5))).await;
        assert!(matches!(outcome, CommitOutcome::Applied(_)), "{outcome:?}");
        refresh(&self.store, &self.view).await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        let write = Write::delete(key);
        self.store.commit(&[], &[write], Deadline::after(Duration::from_secs(5))).await;
        refresh(&self.store, &self.view).await;
    }

    /// The text of a key.
    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        let snapshot = self.store.snapshot(Deadline::after(Duration::from_secs(5))).await.unwrap();
        snapshot.entries.get(&key.into()).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        codec::decode(&self.store.snapshot(Deadline::after(Duration::from_secs(5))).await.unwrap())
    }

    /// Ends a member's REST server: from then on nobody listens at its port.
    pub(crate) async fn stop(&mut self, name: &str) {
        let url = self.cluster().await.members[&name.parse().unwrap()].api_url.clone().unwrap();
        let address = url.trim_start_matches("http://").trim_end_matches("/patroni").to_owned();
        self.servers.remove(name).unwrap().cancel();
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(&address).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} still listens at {address}");
    }

    pub(crate) fn script(&self, name: &str, script: Script) {
        *self.agents[name].script.lock().unwrap() = script;
    }

    /// What was asked of the members so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Changes fields of a member's key.
    pub(crate) async fn change_member(&self, name: &str, fields: Value) {
        let key = format!("members/{name}");
        let mut value: Value = serde_json::from_str(&self.get(&key).await.unwrap()).unwrap();
        value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.put(&key, &value.to_string()).await;
    }

    /// `patronictl -c FILE words...`
    pub(crate) async fn patronictl(&self, words: &[&str], answers: &[&str]) -> Ended {
        self.patronictl_at(words, Screen::with_answers(answers)).await
    }

    pub(crate) async fn patronictl_at(&self, words: &[&str], screen: Screen) -> Ended {
        let file = self.config_file();
        let line: Vec<OsString> = ["patronictl".into(), "-c".into(), file.into()]
            .into_iter()
            .chain(words.iter().map(OsString::from))
            .collect();
        let status = run_patronictl(line, self.surroundings(&screen)).await;
        Ended { status, out: screen.out(), err: screen.err() }
    }

    /// `bellwether -c FILE words...`
    pub(crate) async fn bellwether(&self, words: &[&str], answers: &[&str]) -> Ended {
        self.bellwether_at(words, Screen::with_answers(answers)).await
    }

    pub(crate) async fn bellwether_at(&self, words: &[&str], screen: Screen) -> Ended {
        let file = self.config_file();
        let line = ["bellwether", "-c", file.to_str().unwrap()].into_iter().chain(words.iter().copied());
        let Program { globals, command } =
            Program::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        let status = run(command, globals, Manner::Bellwether, self.surroundings(&screen)).await;
        Ended { status, out: screen.out(), err: screen.err() }
    }

    pub(crate) fn surroundings(&self, screen: &Screen) -> Surroundings {
        Surroundings {
            stores: Arc::new(OneStore(self.store.another_client())),
            terminal: Box::new(screen.clone()),
            env: self.env.clone(),
            program: Program::command(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.values().for_each(CancellationToken::cancel);
    }
}
