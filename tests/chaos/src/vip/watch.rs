//! Which hosts have the address, looked at every few milliseconds through files of the kernel that belong to each host's namespace.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::IPV4;
use crate::laboratory::Laboratory;

const LOOK_EACH: Duration = Duration::from_millis(5);

/// A thread that looks.
#[derive(Debug)]
pub(super) struct Watch {
    names: Vec<String>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    /// Who has it, by host; one entry per change.
    changes: Mutex<Vec<(Instant, Vec<bool>)>>,
}

impl Watch {
    pub(super) fn over(laboratory: &Laboratory) -> Result<Self, String> {
        let names: Vec<String> = laboratory.hosts.iter().map(|host| host.name.clone()).collect();
        let shared = Arc::new(Shared::default());
        let (looking, places) = (Arc::clone(&shared), names.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // The thread ends in the last namespace, and with it.
            let files: Result<Vec<File>, String> = places.iter().map(|name| open_in(name)).collect();
            let mut files = match files {
                Ok(files) => files,
                Err(problem) => return drop(ready.send(Err(problem))),
            };
            let _ = ready.send(Ok(()));
            while !looking.ended.load(Ordering::Relaxed) {
                let seen: Vec<bool> = files.iter_mut().map(has_address).collect();
                let mut changes = lock(&looking.changes);
                if changes.last().is_none_or(|(_, last)| *last != seen) {
                    changes.push((Instant::now(), seen));
                }
                drop(changes);
                std::thread::sleep(LOOK_EACH);
            }
        });
        is_ready.recv().map_err(|_| "the watch has ended".to_owned())??;
        Ok(Self { names, shared, thread: Some(thread) })
    }

    /// Who has it now.
    pub(super) fn holders(&self) -> Vec<String> {
        let changes = lock(&self.shared.changes);
        let Some((_, last)) = changes.last() else { return vec![] };
        self.names.iter().zip(last).filter(|(_, has)| **has).map(|(name, _)| name.clone()).collect()
    }

    /// Forgets everything but the present.
    pub(super) fn forget(&self) {
        let mut changes = lock(&self.shared.changes);
        let last = changes.pop();
        changes.clear();
        changes.extend(last);
    }

    /// Whether anything has changed since.
    pub(super) fn changed(&self) -> bool {
        lock(&self.shared.changes).len() > 1
    }

    /// Whether two hosts had it at one time since.
    pub(super) fn overlapped(&self) -> bool {
        lock(&self.shared.changes).iter().any(|(_, seen)| seen.iter().filter(|has| **has).count() > 1)
    }

    /// When a host had it no more.
    pub(super) fn gone_from(&self, name: &str) -> Option<Instant> {
        let index = self.names.iter().position(|known| known == name)?;
        let changes = lock(&self.shared.changes);
        let pairs = changes.windows(2);
        pairs.filter(|pair| pair[0].1[index] && !pair[1].1[index]).map(|pair| pair[1].0).next()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file belongs to the namespace of the thread that opens it, for ever.
fn open_in(name: &str) -> Result<File, String> {
    let namespace = File::open(format!("/run/netns/{name}")).map_err(|error| error.to_string())?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| error.to_string())?;
    File::open("/proc/thread-self/net/fib_trie").map_err(|error| error.to_string())
}

fn has_address(file: &mut File) -> bool {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.is_ok()
        && text
            .split("|-- ")
            .any(|leaf| leaf.starts_with(&format!("{IPV4}\n")) && leaf.contains("host LOCAL"))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
