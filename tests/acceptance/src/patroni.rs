//! A real Patroni, as the agent of a node beside ours and as the command line that operators know.
//!
//! Both read the same configuration and work on the same data directory, so that a node can be handed from one to the other
//! ([`crate::Node::hand_to`]).

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    account::Account,
    binary,
    cluster::{Cluster, Options, UP_WITHIN},
    node::Node,
    run::{Ended, answering, to_the_end},
    wait::eventually,
};

/// For one call of the command line; a switchover may take a while.
const ENDED_WITHIN: Duration = Duration::from_secs(90);

/// What runs as the agent of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// `bellwether run FILE`.
    #[default]
    Bellwether,
    /// Ours under the other's name: `patroni FILE`.
    AsPatroni,
    /// The real one.
    Patroni,
    /// `bellwether witness FILE`: a vote in the store, and no PostgreSQL.
    Witness,
    /// `bellwether proxy FILE`: clients are led to the members, and nothing else is done.
    Proxy,
}

impl Program {
    /// The agent as a command, without its working directory.
    pub(crate) fn agent(self, account: Account, configuration: &std::path::Path) -> Command {
        let mut command = match self {
            Self::Bellwether => {
                let mut command = binary::bellwether(account);
                command.arg("run");
                command
            }
            Self::Witness => {
                let mut command = binary::bellwether(account);
                command.arg("witness");
                command
            }
            Self::Proxy => {
                let mut command = binary::bellwether(account);
                command.arg("proxy");
                command
            }
            Self::AsPatroni => binary::called("patroni", account),
            Self::Patroni => real("patroni", account),
        };
        command.arg(configuration);
        command
    }
}

/// Where the real one is installed (`scripts/prerequisites stores` does it).
pub fn programs() -> PathBuf {
    if let Some(directory) = std::env::var_os("BELLWETHER_TEST_PATRONI") {
        return directory.into();
    }
    let cache = if rustix::process::geteuid().is_root() {
        "/var/cache".into()
    } else {
        std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
            PathBuf::from,
        )
    };
    cache.join("bellwether/patroni-4.1/bin")
}

/// One of the real programs as a command of the nodes' account.
fn real(name: &str, account: Account) -> Command {
    let path = programs().join(name);
    assert!(path.exists(), "{} is missing (scripts/prerequisites stores)", path.display());
    let mut command = Command::new(path);
    binary::without_our_settings(&mut command);
    account.apply(&mut command);
    command
}

/// Calls the real `patronictl` with this node's configuration.
pub fn patronictl(node: &Node, arguments: &[&str]) -> Ended {
    patronictl_answering(node, arguments, "")
}

/// The same for calls that ask: `answers` are typed, one a line.
pub fn patronictl_answering(node: &Node, arguments: &[&str], answers: &str) -> Ended {
    let mut command = real("patronictl", node.account);
    command.arg("-c").arg(node.configuration()).args(arguments);
    command.current_dir(&node.dir).env("HOME", &node.dir).env("COLUMNS", "200");
    answering(command, answers, ENDED_WITHIN)
}

/// The same for calls that must succeed: what it said.
pub fn steer(node: &Node, arguments: &[&str]) -> String {
    let ended = patronictl(node, arguments);
    assert!(ended.status.success(), "patronictl {arguments:?}: {}\n{}", ended.status, ended.text);
    ended.text
}

/// Has the monitoring plugin `check_patroni` ask this node. Its exit status is the verdict.
pub fn check_patroni(node: &Node, arguments: &[&str]) -> Ended {
    let mut command = real("check_patroni", node.account);
    command.arg("-e").arg(format!("http://127.0.0.1:{}", node.api_port)).args(arguments);
    command.current_dir(&node.dir).env("HOME", &node.dir);
    to_the_end(command, ENDED_WITHIN)
}

/// Timings that Patroni allows, as short as they may be.
pub fn shortest_timings() -> Value {
    json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 3})
}

/// A cluster whose first node founds it and whose others join, each run by the program at its place.
pub async fn cluster_run_by(options: Options, programs: &[Program]) -> Cluster {
    let mut cluster = Cluster::prepare(&options).await;
    cluster.nodes[0].start_as(programs[0]);
    eventually("the first node leads", UP_WITHIN, || async { cluster.primary().await.map(|_| ()) }).await;
    for (node, program) in cluster.nodes.iter_mut().zip(programs).skip(1) {
        node.start_as(*program);
    }
    cluster.whole_within(UP_WITHIN).await;
    cluster
}

/// The version that our members say they are compatible with.
pub const COMPATIBLE: &str = "4.1.";
