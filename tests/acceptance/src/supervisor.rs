//! Keeps one agent running as systemd does on a real node: a dead one is started again after 100 ms, unless it ended with
//! one of the documented permanent statuses.

use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{account::Account, patroni::Program, processes};

const RESPAWN_AFTER: Duration = Duration::from_millis(100);
const LOOK_EACH: Duration = Duration::from_millis(5);
/// Usage, foreign data, unusable store, duplicate name, bad configuration.
const PERMANENT: [i32; 5] = [2, 65, 66, 76, 78];

/// How to start an agent.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub program: Program,
    pub configuration: PathBuf,
    pub working_dir: PathBuf,
    pub log: PathBuf,
    pub account: Account,
}

/// A supervised agent; dropping it kills the agent's process (not PostgreSQL).
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i32>,
    starts: u32,
    held: bool,
    last_exit: Option<ExitStatus>,
    dropped: bool,
}

impl Supervisor {
    /// Starts the agent now.
    pub fn start(recipe: Recipe) -> Self {
        let shared = Arc::new(Mutex::new(State::default()));
        let child = spawn(&recipe, &mut lock(&shared));
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || supervise(&recipe, child, &state));
        Self { shared, thread: Some(thread) }
    }

    /// The agent's process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        lock(&self.shared).pid
    }

    pub fn starts(&self) -> u32 {
        lock(&self.shared).starts
    }

    /// How the last run ended, if one has.
    pub fn last_exit(&self) -> Option<ExitStatus> {
        lock(&self.shared).last_exit
    }

    /// From now on a dead agent stays dead.
    pub fn hold(&self) {
        lock(&self.shared).held = true;
    }

    /// Starts it again if it is dead.
    pub fn release(&self) {
        let mut state = lock(&self.shared);
        state.held = false;
        state.last_exit = None;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let pid = {
            let mut state = lock(&self.shared);
            state.dropped = true;
            state.pid
        };
        if let Some(pid) = pid {
            processes::send(pid, Signal::KILL);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn supervise(recipe: &Recipe, first: Child, shared: &Mutex<State>) {
    let mut child = Some(first);
    let mut ended_at = Instant::now();
    loop {
        {
            let mut state = lock(shared);
            if let Some(running) = &mut child
                && let Ok(Some(status)) = running.try_wait()
            {
                (child, ended_at) = (None, Instant::now());
                (state.pid, state.last_exit) = (None, Some(status));
            }
            let is_permanent = state
                .last_exit
                .and_then(|status| status.code())
                .is_some_and(|code| PERMANENT.contains(&code));
            match &child {
                None if state.dropped => return,
                None if !state.held && !is_permanent && ended_at.elapsed() >= RESPAWN_AFTER => {
                    child = Some(spawn(recipe, &mut state));
                }
                _ => {}
            }
        }
        std::thread::sleep(LOOK_EACH);
    }
}

fn spawn(recipe: &Recipe, state: &mut State) -> Child {
    let log = log_file(&recipe.log);
    let mut command = recipe.program.agent(recipe.account, &recipe.configuration);
    command
        .current_dir(&recipe.working_dir)
        .env("HOME", &recipe.working_dir)
        // Ctrl-C is for the tests alone.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be opened twice"))
        .stderr(log);
    let child = command.spawn().expect("the binary can be started");
    state.pid = i32::try_from(child.id()).ok();
    state.starts += 1;
    child
}

fn log_file(path: &Path) -> std::fs::File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
