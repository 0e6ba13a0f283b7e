//! Watches: a persistent recursive watch says that something happened below the base, a read says what.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_dcs::{
    Deadline, Snapshot, StoreError,
    polling::{Remembered, Source},
};
use zookeeper_client::{AddWatchMode, Client, EventType, PersistentWatcher};

use crate::{
    error::{unavailable, within},
    servers::{Servers, while_connected},
    tree::{self, Shape},
};

const READ: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Watched {
    client: Client,
    servers: Arc<Servers>,
    shape: Arc<Shape>,
    remembered: Arc<Remembered>,
    events: PersistentWatcher,
}

impl Watched {
    /// Begins to listen.
    pub(crate) async fn begin(
        servers: Arc<Servers>,
        shape: Arc<Shape>,
        remembered: Arc<Remembered>,
        by: Deadline,
    ) -> Result<Self, StoreError> {
        let client = servers.plain(by).await?;
        let watching = async {
            let mode = AddWatchMode::PersistentRecursive;
            client.watch(servers.base(), mode).await.map_err(unavailable)
        };
        let events = within(by, while_connected(&client, watching)).await?;
        Ok(Self { client, servers, shape, remembered, events })
    }
}

#[async_trait]
impl Source for Watched {
    async fn changed(&mut self) -> Result<(), StoreError> {
        let event = self.events.changed().await;
        // Events of the time without a connection are lost.
        if event.event_type == EventType::Session {
            return Err(StoreError::Unreachable(format!("the session is {}", event.session_state)));
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Snapshot, StoreError> {
        let read = async { tree::read(&self.client, &self.servers, &self.shape).await.map_err(unavailable) };
        let snapshot = within(Deadline::after(READ), while_connected(&self.client, read)).await?;
        self.remembered.note(&snapshot);
        Ok(snapshot)
    }
}
