//! A program that runs on a host and is started again when it dies, as systemd would do it.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bellwether_acceptance::processes;
use rustix::process::Signal;

const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LOOK_EACH: Duration = Duration::from_millis(5);

/// How to start a program.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub log: PathBuf,
}

/// A supervised program.
#[derive(Debug)]
pub struct Service {
    wanted: Arc<Mutex<bool>>,
    pid: Arc<AtomicI32>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<Mutex<bool>>,
}

impl Service {
    /// Starts what `command` makes; the output goes to the end of `log`.
    pub fn start(log: PathBuf, mut command: impl FnMut() -> Command + Send + 'static) -> Self {
        let (wanted, pid, ended) =
            (Arc::new(Mutex::new(true)), Arc::new(AtomicI32::new(0)), Arc::new(Mutex::new(false)));
        let (is_wanted, its_pid, is_over) = (Arc::clone(&wanted), Arc::clone(&pid), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut child: Option<Child> = None;
            let mut died = None::<Instant>;
            while !*lock(&is_over) {
                if let Some(running) = &mut child
                    && !matches!(running.try_wait(), Ok(None))
                {
                    (child, died) = (None, Some(Instant::now()));
                    its_pid.store(0, Ordering::SeqCst);
                }
                // The lock is held over the start, so that nothing starts once the power is off.
                let may_start = lock(&is_wanted);
                let rested = died.is_none_or(|died| died.elapsed() >= STARTED_AGAIN_AFTER);
                if child.is_none() && *may_start && rested {
                    child = spawn(&mut command(), &log);
                    its_pid.store(child.as_ref().map_or(0, pid_of), Ordering::SeqCst);
                }
                drop(may_start);
                std::thread::sleep(LOOK_EACH);
            }
            if let Some(mut child) = child {
                let _ = child.kill();
                let _ = child.wait();
            }
        });
        Self { wanted, pid, thread: Some(thread), ended }
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|&pid| pid != 0)
    }

    /// Once dead it stays dead, until [`Service::release`].
    pub fn hold(&self) {
        *lock(&self.wanted) = false;
    }

    /// It runs again from now on.
    pub fn release(&self) {
        *lock(&self.wanted) = true;
    }

    /// Sends a signal; whether there was a process to get it.
    pub fn signal(&self, signal: Signal) -> bool {
        self.pid().is_some_and(|pid| processes::send(pid, signal))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        *lock(&self.ended) = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(command: &mut Command, log: &Path) -> Option<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log).ok()?;
    let both = log.try_clone().ok()?;
    command.stdin(Stdio::null()).stdout(log).stderr(both).spawn().ok()
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("process ids fit")
}

fn lock(shared: &Mutex<bool>) -> MutexGuard<'_, bool> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
