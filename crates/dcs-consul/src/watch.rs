//! Watches: a blocking query says that something changed below the prefix, a read says what.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bellwether_dcs::{Deadline, Snapshot, StoreError, polling::Source};
use futures::future::BoxFuture;

use crate::{http::Agent, read};

const READ: Duration = Duration::from_secs(1);
/// How long one query may block.
const WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Blocking {
    agent: Agent,
    /// Up to where everything was read.
    index: u64,
    /// The query that waits for more. It goes on while the watch does other things.
    waiting: Option<BoxFuture<'static, Result<u64, StoreError>>>,
}

impl Blocking {
    pub(crate) fn new(agent: Agent) -> Self {
        Self { agent, index: 0, waiting: None }
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("index", &self.index).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for Blocking {
    async fn changed(&mut self) -> Result<(), StoreError> {
        loop {
            let (agent, index) = (&self.agent, self.index.max(1));
            let waiting = self.waiting.get_or_insert_with(|| {
                let agent = agent.clone();
                Box::pin(async move { read::wait(&agent, index, WAIT).await })
            });
            let seen = waiting.await;
            self.waiting = None;
            if seen? != self.index {
                return Ok(());
            }
        }
    }

    async fn read(&mut self) -> Result<Snapshot, StoreError> {
        let snapshot = read::read(&self.agent, Deadline::after(READ)).await?.snapshot;
        self.index = snapshot.revision.0;
        Ok(snapshot)
    }
}
