//! Keeps a program running as systemd does on a real node: a dead one is started again after 100 ms, unless it ended with one of the
//! statuses that it documents as permanent.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::processes;

const RESPAWN_AFTER: Duration = Duration::from_millis(100);
const LOOK_EACH: Duration = Duration::from_millis(5);
/// Of our agent: usage, foreign data, unusable store, duplicate name, bad configuration.
pub const PERMANENT: [i32; 5] = [2, 65, 66, 76, 78];

/// A supervised program; dropping it kills its process alone (PostgreSQL outlives an agent).
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// How to start the program, and when not to.
struct Recipe<F> {
    command: F,
    log: PathBuf,
    permanent: &'static [i32],
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
    /// Starts what `command` makes, now; the output goes to the end of `log`. It stays dead after one of the `permanent` statuses.
    pub fn start<F>(log: PathBuf, permanent: &'static [i32], command: F) -> Self
    where
        F: FnMut() -> Command + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(State::default()));
        let mut recipe = Recipe { command, log, permanent };
        let child = spawn(&mut recipe, &mut lock(&shared));
        let child =
            child.unwrap_or_else(|error| panic!("{}: it cannot be started: {error}", recipe.log.display()));
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || supervise(recipe, child, &state));
        Self { shared, thread: Some(thread) }
    }

    /// Its process, while there is one.
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

    /// Sends a signal; whether there was a process to get it.
    pub fn signal(&self, signal: Signal) -> bool {
        self.pid().is_some_and(|pid| processes::send(pid, signal))
    }

    /// Once dead it stays dead, until [`Supervisor::release`].
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

fn supervise<F: FnMut() -> Command>(mut recipe: Recipe<F>, first: Child, shared: &Mutex<State>) {
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
                .is_some_and(|code| recipe.permanent.contains(&code));
            match &child {
                None if state.dropped => return,
                None if !state.held && !is_permanent && ended_at.elapsed() >= RESPAWN_AFTER => {
                    // The lock is held over the start, so that nothing starts once it is held back. A full disk may prevent it.
                    child = spawn(&mut recipe, &mut state).ok();
                    ended_at = Instant::now();
                }
                _ => {}
            }
        }
        std::thread::sleep(LOOK_EACH);
    }
}

fn spawn<F: FnMut() -> Command>(recipe: &mut Recipe<F>, state: &mut State) -> io::Result<Child> {
    let log = log_file(&recipe.log)?;
    let both = log.try_clone()?;
    let child = (recipe.command)().stdin(Stdio::null()).stdout(log).stderr(both).spawn()?;
    state.pid = i32::try_from(child.id()).ok();
    state.starts += 1;
    Ok(child)
}

fn log_file(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
