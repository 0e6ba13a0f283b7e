//! Snapshots and deadlines.

use std::{sync::Arc, time::Duration};

use bellwether_types::Revision;
use tokio::task::JoinSet;

use super::{Bench, Client, Failure, Verdict, ensure, value_of};
use crate::store::{Deadline, Key, Write, now};

pub(super) async fn snapshots_are_linearizable(bench: Arc<dyn Bench>) -> Verdict {
    let clients = [Client::open(&bench).await?, Client::open(&bench).await?, Client::open(&bench).await?];
    for round in 0..40_usize {
        let (writer, reader) = (&clients[round % 3], &clients[(round + 1) % 3]);
        let value = round.to_string();
        let revision = writer.apply(&[], &[Write::put("k", value.as_str())]).await?;
        let snapshot = reader.snapshot().await?;
        ensure!(
            snapshot.revision >= revision && value_of(&snapshot, "k") == Some(value.as_bytes()),
            "written at {revision:?}, but another client then read {snapshot:?}"
        );
        let entry = &snapshot.entries[&Key::from("k")];
        ensure!(entry.modified == revision, "written at {revision:?}, read as {entry:?}");
    }
    Ok(())
}

/// While one client counts up, readers on several clients take turns: nobody reads an older state than the reader before.
pub(super) async fn never_back_in_time(bench: Arc<dyn Bench>) -> Verdict {
    let writer = Client::open(&bench).await?;
    let readers = [Client::open(&bench).await?, Client::open(&bench).await?, Client::open(&bench).await?];
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for number in 0..60_u32 {
            writer.apply(&[], &[Write::put("k", number.to_string())]).await?;
        }
        Ok::<(), Failure>(())
    });
    let mut seen = Revision(0);
    let mut turn = 0;
    loop {
        let ended = writing.try_join_next();
        let snapshot = readers[turn % 3].snapshot().await?;
        ensure!(snapshot.revision >= seen, "{:?} was read after {seen:?}", snapshot.revision);
        let newest = snapshot.entries.values().map(|entry| entry.modified).max().unwrap_or_default();
        ensure!(
            newest <= snapshot.revision,
            "a snapshot at {:?} has an entry of {newest:?}",
            snapshot.revision
        );
        (seen, turn) = (snapshot.revision, turn + 1);
        tokio::task::yield_now().await; // the writer may wait for this very thread
        if let Some(ended) = ended {
            return ended.map_err(|error| Failure(error.to_string()))?;
        }
    }
}

pub(super) async fn deadlines_hold(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let lease = client.grant().await?;
    for budget in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(50)] {
        let by = || Deadline::after(budget);
        let began = now();
        // Any end will do, as long as there is one.
        let _ = client.store.snapshot(by()).await;
        let _ = client.store.commit(&[], &[Write::put("k", "1")], by()).await;
        let _ = client.store.keep_alive(lease, None, by()).await;
        let _ = client.store.grant_lease(client.timing.ttl, by()).await;
        let took = now() - began;
        ensure!(took <= budget * 4 + Duration::from_secs(1), "four calls of {budget:?} each took {took:?}");
    }
    Ok(())
}
