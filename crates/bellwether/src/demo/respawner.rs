//! Keeps one agent running, as systemd does on a real node: a dead one is started again within 100 ms.
//!
//! It stops trying when the agent says that a person must act first (bad configuration and the like), or when it has died
//! too often in a row.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::{
        fs::{OpenOptionsExt as _, fchown},
        process::ExitStatusExt as _,
    },
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{account::Account, layout::Node};
use crate::exit::Status;

/// Between the death of an agent and its next start.
const PAUSE: Duration = Duration::from_millis(100);
/// An agent that ran this long has started well; deaths before it count as failures in a row.
const SETTLED: Duration = Duration::from_secs(5);
const FAILURES_MAX: u32 = 20;
/// For an agent that was asked to stop, PostgreSQL's shutdown included.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// Commands are few and are waited for.
const COMMANDS: usize = 4;

/// How an agent's process is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// The process, while there is one.
    pub(super) pid: Option<u32>,
    pub(super) starts: u32,
    /// Why it is not started again.
    pub(super) given_up: Option<String>,
}

#[derive(Debug)]
enum Order {
    /// Do not start it when it dies.
    Hold,
    /// Start it when it is not running.
    Release,
    /// Ask it to stop and wait.
    Stop,
}

/// A running respawner. Dropping it leaves the agent alone; see [`Respawner::stop`].
#[derive(Debug)]
pub(super) struct Respawner {
    orders: mpsc::Sender<Order>,
    run: watch::Receiver<Run>,
    task: JoinHandle<()>,
}

impl Respawner {
    /// Starts the agent of `node`, and again whenever it dies.
    pub(super) fn start(node: &Node, account: Option<Account>) -> io::Result<Self> {
        let (orders, received) = mpsc::channel(COMMANDS);
        let (report, run) = watch::channel(Run::default());
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(node.log())?;
        if let Some(account) = &account {
            fchown(&log, Some(account.user), Some(account.group))?;
        }
        let recipe = Recipe { node: node.clone(), account, log };
        let child = recipe.start()?;
        report.send_modify(|run| {
            run.starts = 1;
            run.pid = child.id();
        });
        let task = tokio::spawn(Loop { recipe, orders: received, report, held: false }.run(child));
        Ok(Self { orders, run, task })
    }

    pub(super) fn now(&self) -> Run {
        self.run.borrow().clone()
    }

    /// Lets a dead agent stay dead until [`Respawner::release`].
    pub(super) async fn hold(&self) {
        let _ = self.orders.send(Order::Hold).await;
    }

    pub(super) async fn release(&self) {
        let _ = self.orders.send(Order::Release).await;
    }

    /// Asks the agent to stop (SIGTERM) and waits until it has; kills it after a minute.
    pub(super) async fn stop(self) {
        let _ = self.orders.send(Order::Stop).await;
        let _ = self.task.await;
    }
}

/// How to start the agent.
#[derive(Debug)]
struct Recipe {
    node: Node,
    account: Option<Account>,
    log: File,
}

impl Recipe {
    fn start(&self) -> io::Result<Child> {
        // The link means this very binary, wherever it lies and whether or not the node's user could find it there.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("bellwether")
            .arg("run")
            .arg(self.node.configuration())
            .current_dir(&self.node.dir)
            // Ctrl-C is for the demo alone, which then stops the nodes in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?);
        if let Some(account) = &self.account {
            // Nothing of the nodes should depend on anybody's home directory.
            command
                .uid(account.user)
                .gid(account.group)
                .env("USER", &account.name)
                .env("HOME", &self.node.dir);
        }
        command.spawn()
    }
}

#[derive(Debug)]
struct Loop {
    recipe: Recipe,
    orders: mpsc::Receiver<Order>,
    report: watch::Sender<Run>,
    held: bool,
}

impl Loop {
    async fn run(mut self, first: Child) {
        let mut child = Some(first);
        let mut started = Instant::now();
        let mut failures = 0;
        loop {
            let order = match &mut child {
                Some(running) => tokio::select! {
                    status = running.wait() => {
                        child = None;
                        failures = if started.elapsed() < SETTLED { failures + 1 } else { 0 };
                        let given_up = give_up(status, failures);
                        self.report.send_modify(|run| {
                            run.pid = None;
                            run.given_up = given_up;
                        });
                        continue;
                    }
                    order = self.orders.recv() => order,
                },
                None if self.held || self.report.borrow().given_up.is_some() => self.orders.recv().await,
                None => tokio::select! {
                    order = self.orders.recv() => order,
                    () = sleep(PAUSE) => {
                        (child, started) = (self.start_again(), Instant::now());
                        continue;
                    }
                },
            };
            match order {
                Some(Order::Hold) => self.held = true,
                Some(Order::Release) => self.held = false,
                // Without a sender nobody cares for the agent any more.
                Some(Order::Stop) | None => break,
            }
        }
        if let Some(child) = child {
            stop(child).await;
        }
        self.report.send_modify(|run| run.pid = None);
    }

    fn start_again(&self) -> Option<Child> {
        match self.recipe.start() {
            Ok(child) => {
                self.report.send_modify(|run| {
                    run.starts += 1;
                    run.pid = child.id();
                });
                Some(child)
            }
            Err(error) => {
                let given_up = Some(format!("it cannot be started: {error}"));
                self.report.send_modify(|run| run.given_up = given_up);
                None
            }
        }
    }
}

fn give_up(status: io::Result<ExitStatus>, failures: u32) -> Option<String> {
    let status = match status {
        Ok(status) => status,
        Err(error) => return Some(format!("its exit status was lost: {error}")),
    };
    if is_permanent(status) {
        return Some(format!("{status}: a person must act first"));
    }
    // Somebody who kills it is no failure of its own.
    (failures >= FAILURES_MAX && status.signal() != Some(Signal::KILL.as_raw()))
        .then(|| format!("{status}, and it died {failures} times in a row"))
}

/// What the systemd unit names too: a restart would only repeat the failure.
fn is_permanent(status: ExitStatus) -> bool {
    let mut permanent = Status::PERMANENT.into_iter().chain([Status::Usage]);
    status.code().is_some_and(|code| permanent.any(|status| i32::from(status as u8) == code))
}

async fn stop(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        // It may be frozen by a drill that was interrupted.
        for signal in [Signal::TERM, Signal::CONT] {
            let _ = kill_process(pid, signal);
        }
    }
    if timeout(STOPPED_WITHIN, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_must_correct_ends_the_restarts() {
        let exited = |code: i32| Ok(ExitStatus::from_raw(code << 8));
        let killed = || Ok(ExitStatus::from_raw(9));
        assert_eq!(give_up(killed(), FAILURES_MAX), None);
        assert_eq!(give_up(exited(1), 1), None);
        assert!(give_up(exited(1), FAILURES_MAX).is_some());
        for permanent in [Status::Usage, Status::Config, Status::ForeignData] {
            assert!(give_up(exited(permanent as i32), 1).is_some(), "{permanent:?}");
        }
    }
}
