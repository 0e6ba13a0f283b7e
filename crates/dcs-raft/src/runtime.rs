//! A runtime of its own: a busy proxy or a slow disk elsewhere in the process must not cost an election.

use std::{future::Future, io, time::Duration};

use tokio::runtime::{Builder, Handle, Runtime};

/// One thread for the Raft core, timers and connections: what they do between two waits takes microseconds, the files have
/// threads of their own, and a second one costs more in wake-ups than it does work.
const WORKERS: usize = 1;

/// Ends in the background when dropped, from any context.
#[derive(Debug)]
pub(crate) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(8)
            .thread_keep_alive(Duration::from_secs(2))
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ref().expect("it is taken only by drop").handle().clone()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on the store's runtime and waits for it from any other. Dropping the result does not stop the work.
pub(crate) async fn elsewhere<T: Send + 'static>(
    handle: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    handle.spawn(work).await.ok()
}
