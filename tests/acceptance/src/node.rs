//! One node: its files, its ports, its processes, and the harm that can be done to it.

use std::{
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    account::Account,
    binary,
    journal::Journal,
    patroni::Program,
    processes,
    rest::Api,
    router::RouterPorts,
    sql::Session,
    supervisor::{self, Supervisor},
    wait::{PATIENCE, until},
};

/// For what was killed to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A node of a [`crate::Cluster`].
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub dir: PathBuf,
    pub postgres_port: u16,
    pub api_port: u16,
    pub store_port: u16,
    pub api: Api,
    pub account: Account,
    /// The ports of its proxy, if the cluster was started with them.
    pub router: RouterPorts,
    /// As it was written; [`Node::rewrite`] changes it.
    pub document: Value,
    pub(crate) program: Program,
    pub(crate) supervisor: Option<Supervisor>,
}

impl Node {
    pub fn configuration(&self) -> PathBuf {
        self.dir.join("bellwether.yml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the agent keeps what must survive the data directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("data.bellwether")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn journal(&self) -> Journal {
        Journal::read(&self.runtime_dir())
    }

    pub async fn sql(&self) -> Session {
        let session = tokio::time::timeout(Duration::from_secs(10), Session::with(self)).await;
        session
            .unwrap_or_else(|_| panic!("{}: no SQL session within 10 s", self.name))
            .unwrap_or_else(|error| panic!("{}: no SQL session: {error}", self.name))
    }

    /// Writes the configuration anew; a running agent learns of it by a reload.
    pub fn rewrite(&self, document: &Value) {
        let text = serde_json::to_string_pretty(document).expect("a document can be written");
        self.account.write(&self.configuration(), &text);
    }

    /// Starts the agent under supervision.
    pub fn start(&mut self) {
        let (program, account, dir) = (self.program, self.account, self.dir.clone());
        let configuration = self.configuration();
        self.supervisor = Some(Supervisor::start(self.log(), &supervisor::PERMANENT, move || {
            let mut command = program.agent(account, &configuration);
            // Ctrl-C is for the tests alone.
            command.current_dir(&dir).env("HOME", &dir).process_group(0);
            command
        }));
    }

    /// What runs as this node's agent.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Stops the agent in order and starts another program in its place, with the same configuration and data directory.
    pub async fn hand_to(&mut self, program: Program) {
        let status = self.stop().await;
        assert!(status.success(), "{}: {:?} ended with {status}", self.name, self.program);
        self.start_as(program);
    }

    /// Starts the agent with this program.
    pub fn start_as(&mut self, program: Program) {
        self.program = program;
        self.start();
    }

    /// The agent as a command, to be run by a test itself.
    pub fn command(&self) -> Command {
        let mut command = binary::bellwether(self.account);
        command.arg("run").arg(self.configuration()).current_dir(&self.dir).env("HOME", &self.dir);
        command
    }

    pub fn supervisor(&self) -> &Supervisor {
        self.supervisor.as_ref().expect("the node was started")
    }

    pub fn agent_pid(&self) -> Option<i32> {
        self.supervisor.as_ref().and_then(Supervisor::pid)
    }

    pub fn postmaster_pid(&self) -> Option<i32> {
        processes::postmaster(&self.data_dir())
    }

    pub fn guardian_pids(&self) -> Vec<i32> {
        processes::guardians(&self.data_dir())
    }

    pub fn postgres_runs(&self) -> bool {
        !processes::of_postgres(&self.data_dir()).is_empty()
    }

    /// Kills the agent alone; it is started again after 100 ms.
    pub fn kill_agent(&self) {
        assert!(self.signal_agent(Signal::KILL), "{} has no agent to kill", self.name);
    }

    /// Stops the agent's process in its tracks: loop, store, API and all. Guardian and PostgreSQL are not touched.
    pub fn freeze_agent(&self) {
        assert!(self.signal_agent(Signal::STOP), "{} has no agent to freeze", self.name);
    }

    pub fn thaw_agent(&self) {
        self.signal_agent(Signal::CONT);
    }

    fn signal_agent(&self, signal: Signal) -> bool {
        self.supervisor.as_ref().is_some_and(|supervisor| supervisor.signal(signal))
    }

    /// Kills the postmaster alone.
    pub fn kill_postmaster(&self) -> i32 {
        let pid = self.postmaster_pid().unwrap_or_else(|| panic!("{} has no postmaster", self.name));
        assert!(processes::send(pid, Signal::KILL), "the postmaster of {} is there to be killed", self.name);
        pid
    }

    /// Sends a signal to every process of PostgreSQL on this node.
    pub fn signal_postgres(&self, signal: Signal) {
        for pid in processes::of_postgres(&self.data_dir()) {
            processes::send(pid, signal);
        }
    }

    /// Like pulling the plug: agent, guardian and PostgreSQL die at one moment, and nothing starts again until
    /// [`Node::power_on`].
    pub fn kill_tree(&self) {
        let left = self.try_to_kill_tree();
        assert!(left.is_empty(), "{left:?} of {} cannot be killed", self.name);
    }

    /// Who is still there after that.
    fn try_to_kill_tree(&self) -> Vec<i32> {
        self.hold();
        let began = Instant::now();
        loop {
            let living = processes::of_node(self.agent_pid(), &self.data_dir());
            if living.is_empty() || began.elapsed() > GONE_WITHIN {
                return living;
            }
            processes::kill_at_once(&living);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// From now on a dead agent stays dead.
    pub fn hold(&self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.hold();
        }
    }

    pub fn power_on(&self) {
        self.supervisor().release();
    }

    /// Stops the agent with SIGTERM and returns its exit status; it stays down until [`Node::power_on`].
    pub async fn stop(&self) -> ExitStatus {
        self.hold();
        assert!(self.signal_agent(Signal::TERM), "{} has no agent to stop", self.name);
        until(format!("{} stops after SIGTERM", self.name), PATIENCE, || self.agent_pid().is_none()).await;
        self.supervisor().last_exit().expect("it has ended")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.try_to_kill_tree();
    }
}
