//! The scripts that users hang on events.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use bellwether_types::{Role, program::CallbackAction};
use tokio::{process::Child, sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{self, ProcessTable},
    program::blocking,
    settings::PgSettings,
};

/// Runs callbacks: at most one that is not `on_reload`; a new one kills the one still running, with all its children.
///
/// A script that can't be killed (it became another user by sudo) is waited for by the next one, not by the caller. Scripts
/// outlive the runner: `on_stop` must be able to finish after the agent.
#[derive(Debug)]
pub struct CallbackRunner {
    settings: Arc<PgSettings>,
    main: Slot,
    reload: Slot,
    tasks: JoinSet<()>,
}

/// Scripts in a slot take turns.
#[derive(Debug, Default)]
struct Slot {
    turn: Arc<Mutex<()>>,
    /// Ends the turn of the latest script.
    latest: CancellationToken,
}

impl CallbackRunner {
    pub fn new(settings: Arc<PgSettings>) -> Self {
        Self { settings, main: Slot::default(), reload: Slot::default(), tasks: JoinSet::new() }
    }

    pub fn set_settings(&mut self, settings: Arc<PgSettings>) {
        self.settings = settings;
    }

    /// Starts the script for `action`, if there is one, and does not wait for it. Must be called on a tokio runtime.
    pub fn run(&mut self, action: CallbackAction, role: Role) {
        while self.tasks.try_join_next().is_some() {}
        let Some(line) = self.settings.callbacks.get(&action) else { return };
        let mut command = match self.settings.hook(line) {
            Ok(command) => command,
            Err(error) => {
                tracing::warn!(action = action.as_str(), %error, "callback can't be run");
                return;
            }
        };
        let role = if role == Role::Promoted { Role::Primary } else { role };
        command.args([action.as_str(), role.as_str(), self.settings.cluster.as_str()]);
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());

        let slot = if action == CallbackAction::OnReload { &mut self.reload } else { &mut self.main };
        // on_reload waits for its predecessor instead of killing it.
        if action != CallbackAction::OnReload {
            slot.latest.cancel();
        }
        slot.latest = CancellationToken::new();
        let (turn, superseded) = (Arc::clone(&slot.turn), slot.latest.clone());
        self.tasks.spawn(async move {
            let _turn = turn.lock_owned().await;
            if superseded.is_cancelled() {
                return;
            }
            match command.spawn() {
                Ok(child) => watch(child, action, &superseded).await,
                Err(error) => {
                    tracing::warn!(action = action.as_str(), %error, "callback could not be started")
                }
            }
        });
    }
}

/// Waits for the script, or kills it when a newer one wants its place.
async fn watch(mut child: Child, action: CallbackAction, superseded: &CancellationToken) {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = superseded.cancelled() => {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                tracing::info!(action = action.as_str(), pid, "killing a callback that is still running");
                if let Err(error) = blocking(move || kill_with_children(pid)).await {
                    tracing::warn!(action = action.as_str(), %error, "callback can't be killed, waiting for it");
                }
            }
            child.wait().await
        }
    };
    if let Some(problem) = problem(ended) {
        tracing::info!(action = action.as_str(), status = %problem, "callback failed");
    }
}

fn problem(ended: std::io::Result<ExitStatus>) -> Option<String> {
    match ended {
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Stops the script so that it starts nothing new, then kills its descendants and itself.
fn kill_with_children(pid: i32) -> std::io::Result<()> {
    let Some(script) = process::read(pid)? else { return Ok(()) };
    process::signal(&script, rustix::process::Signal::STOP)?;
    let table = ProcessTable::read()?;
    let family = table.descendants_of(pid, script.start_ticks);
    for child in table.living().filter(|process| family.contains(&process.pid)) {
        process::kill(child)?;
    }
    process::kill(&script)
}
