//! The three nodes as processes: started, stopped, killed, frozen.

use std::{fs, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{
    DemoError,
    layout::{Layout, Node},
    members::Members,
    processes,
    respawner::{Respawner, Run},
};

/// For what was killed to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Lines of an agent's log that are shown when it gives up.
const TAIL_LINES: usize = 15;

#[derive(Debug)]
pub(super) struct Nodes {
    running: Vec<(Node, Respawner)>,
}

impl Nodes {
    pub(super) fn start(layout: &Layout) -> Result<Self, DemoError> {
        let mut running = Vec::new();
        for node in &layout.nodes {
            let respawner = Respawner::start(node, layout.account.clone())
                .map_err(|cause| DemoError::Start { node: node.name.clone(), cause })?;
            running.push((node.clone(), respawner));
        }
        Ok(Self { running })
    }

    pub(super) fn run_of(&self, name: &str) -> Run {
        self.get(name).1.now()
    }

    /// The first node that cannot be started any more, with the end of its log.
    pub(super) fn given_up(&self) -> Option<DemoError> {
        self.running.iter().find_map(|(node, respawner)| {
            let status = respawner.now().given_up?;
            let text = fs::read_to_string(node.log()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            Some(DemoError::GaveUp { node: node.name.clone(), status, log: node.log(), tail })
        })
    }

    /// Like pulling the plug: agent, guardian and PostgreSQL die at one moment, and nothing starts again until
    /// [`Nodes::power_on`]. Returns how many processes it took.
    pub(super) async fn pull_the_plug(&self, name: &str) -> usize {
        let (node, respawner) = self.get(name);
        respawner.hold().await;
        let by = Instant::now() + GONE_WITHIN;
        let mut killed = 0;
        loop {
            let living = processes::of_node(respawner.now().pid, &node.data_dir());
            if living.is_empty() || Instant::now() >= by {
                return killed;
            }
            killed = killed.max(living.len());
            processes::kill_at_once(&living);
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn power_on(&self, name: &str) {
        self.get(name).1.release().await;
    }

    /// Stops the agent's process in its tracks. Guardian and PostgreSQL are not touched.
    pub(super) fn freeze(&self, name: &str) {
        self.signal_agent(name, Signal::STOP);
    }

    /// Stops everything in its tracks by which other nodes hear from this one: the agent, the postmaster, and the walsenders. Returns how
    /// many processes that were.
    pub(super) fn cut_off(&self, name: &str) -> usize {
        let data_dir = self.get(name).0.data_dir();
        // The postmaster first: it would start another walsender.
        let silent: Vec<_> =
            processes::postmaster(&data_dir).into_iter().chain(processes::walsenders(&data_dir)).collect();
        silent.iter().for_each(|&pid| processes::send(pid, Signal::STOP));
        self.freeze(name);
        silent.len() + 1
    }

    /// Lets everything of this node go on that was stopped.
    pub(super) fn thaw(&self, name: &str) {
        let data_dir = self.get(name).0.data_dir();
        processes::of_postgres(&data_dir).into_iter().for_each(|pid| processes::send(pid, Signal::CONT));
        self.signal_agent(name, Signal::CONT);
    }

    pub(super) fn guardian(&self, name: &str) -> Option<i32> {
        processes::guardian(&self.get(name).0.data_dir())
    }

    /// Kills the guardian alone; which process that was.
    pub(super) fn kill_guardian(&self, name: &str) -> Option<i32> {
        let guardian = self.guardian(name)?;
        processes::send(guardian, Signal::KILL);
        Some(guardian)
    }

    /// Kills the agent alone; its respawner starts it again.
    pub(super) fn kill_agent(&self, name: &str) {
        self.signal_agent(name, Signal::KILL);
    }

    /// Kills the postmaster alone; whether it was there to be killed.
    pub(super) fn kill_postmaster(&self, name: &str) -> bool {
        let postmaster = processes::postmaster(&self.get(name).0.data_dir());
        if let Some(pid) = postmaster {
            processes::send(pid, Signal::KILL);
        }
        postmaster.is_some()
    }

    /// How many processes of PostgreSQL the node has.
    pub(super) fn postgres_processes(&self, name: &str) -> usize {
        processes::of_postgres(&self.get(name).0.data_dir()).len()
    }

    /// Stops everything: the replicas one after the other, the leader last, so that nobody takes over on the way; then
    /// whatever an earlier fault has left behind.
    pub(super) async fn stop(mut self, members: &Members) {
        let leader = members.now().leader().map(|member| member.name.clone());
        self.running.sort_by_key(|(node, _)| leader.as_deref() == Some(node.name.as_str()));
        for (node, respawner) in self.running {
            respawner.release().await;
            respawner.stop().await;
            let by = Instant::now() + GONE_WITHIN;
            loop {
                let left = processes::of_node(None, &node.data_dir());
                if left.is_empty() || Instant::now() >= by {
                    break;
                }
                processes::kill_at_once(&left);
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn signal_agent(&self, name: &str, signal: Signal) {
        if let Some(pid) = self.get(name).1.now().pid.and_then(|pid| i32::try_from(pid).ok()) {
            processes::send(pid, signal);
        }
    }

    fn get(&self, name: &str) -> &(Node, Respawner) {
        self.running.iter().find(|(node, _)| node.name == name).expect("names come from the same layout")
    }
}
