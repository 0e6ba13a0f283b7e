//! Watches: everything, in order, or a word that something is missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_types::Revision;

use super::{Bench, Client, Failure, Verdict, ensure, next_event};
use crate::store::{Check, Entry, Key, Watch, WatchEvent, Write, now};

/// Changes by which a reader may fall behind.
const MANY: u64 = 200;

/// What a reader learned from a watch.
#[derive(Debug, Default)]
struct Told {
    revisions: Vec<Revision>,
    entries: BTreeMap<Key, Entry>,
    lost: bool,
}

impl Told {
    /// Reads until a change at `last` or later, or until the watch is lost.
    async fn until(watch: &mut Watch, after: Revision, last: Revision) -> Result<Self, Failure> {
        let mut told = Self::default();
        let mut position = after;
        while position < last && !told.lost {
            match next_event(watch).await? {
                WatchEvent::Lost => told.lost = true,
                WatchEvent::Alive { revision, .. } => {
                    // Whoever proves its life at `last` claims to have told everything up to there.
                    ensure!(
                        revision < last,
                        "alive at {revision:?}, but the last told was {position:?} of {last:?}"
                    );
                    let back = told.revisions.last().is_some_and(|told| revision < *told);
                    ensure!(!back, "a proof of life at {revision:?} came after {position:?}");
                }
                WatchEvent::Changed { revision, changes } => {
                    ensure!(revision > position, "{revision:?} was told after {position:?}");
                    ensure!(!changes.is_empty(), "{revision:?} was told without a change");
                    position = revision;
                    told.revisions.push(revision);
                    for (key, entry) in changes {
                        match entry {
                            Some(entry) => drop(told.entries.insert(key, entry)),
                            None => drop(told.entries.remove(&key)),
                        }
                    }
                }
            }
        }
        Ok(told)
    }
}

pub(super) async fn tells_everything(bench: Arc<dyn Bench>) -> Verdict {
    let (mine, other) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let start = mine.apply(&[], &[Write::put("before", "1")]).await?;
    let mut watch = mine.store.watch(start).await?;
    let mut written = Vec::new();
    for round in 0..10 {
        let key = format!("members/{round}");
        written
            .push(mine.apply(&[], &[Write::put(key.as_str(), "mine"), Write::put("shared", "mine")]).await?);
        written.push(other.apply(&[], &[Write::put("shared", "other")]).await?);
        if round % 3 == 0 {
            written.push(other.apply(&[], &[Write::delete(key.as_str())]).await?);
        }
        other.refused(&[Check::absent("shared")], &[Write::put("shared", "refused")]).await?;
    }
    let (revoked, expiring) = (other.grant().await?, other.grant().await?);
    written.push(other.apply(&[], &[Write::put_leased("leader", "a", revoked)]).await?);
    other.store.revoke_lease(revoked, other.deadline()).await?;
    written
        .push(other.apply(&[Check::absent("leader")], &[Write::put_leased("leader", "b", expiring)]).await?);
    let end = now() + other.timing.ttl + other.timing.expires_within + Duration::from_secs(2);
    let last = loop {
        let marker = mine.commit(&[Check::absent("leader")], &[Write::put("last", "1")]).await;
        match marker {
            crate::CommitOutcome::Applied(revision) => break revision,
            _ => ensure!(now() < end, "a lease that nobody renews did not end"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    written.push(last);
    let told = Told::until(&mut watch, start, last).await?;
    ensure!(!told.lost, "the watch was lost over {} changes", written.len());
    if mine.store.capabilities().every_change {
        for revision in &written {
            ensure!(
                told.revisions.contains(revision),
                "{revision:?} was written, but told were {:?}",
                told.revisions
            );
        }
        ensure!(
            told.revisions.len() == written.len() + 2,
            "with a revocation and an expiry {} revisions were due, told were {:?}",
            written.len() + 2,
            told.revisions
        );
    }
    let mut expected = mine.snapshot().await?.entries;
    expected.remove(&Key::from("before"));
    ensure!(told.entries == expected, "the watch told {:?}, the store has {expected:?}", told.entries);
    Ok(())
}

pub(super) async fn from_an_old_revision(bench: Arc<dyn Bench>) -> Verdict {
    let (client, observer) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let start = observer.snapshot().await?.revision;
    let first = client.apply(&[], &[Write::put("first", "1")]).await?;
    let last = write_many(&client).await?;
    for after in [start, first] {
        let mut watch = observer.store.watch(after).await?;
        let told = Told::until(&mut watch, after, last).await?;
        if told.lost {
            ensure!(told.revisions.is_empty(), "a lost watch from {after:?} told some changes first");
            continue;
        }
        ensure!(told.revisions.last() == Some(&last), "from {after:?} the last told was not {last:?}");
        let due = MANY + u64::from(after == start);
        let all = told.revisions.len() as u64 == due || !observer.store.capabilities().every_change;
        ensure!(all, "{due} changes were due: {:?}", told.revisions);
        let first = told.entries.contains_key(&Key::from("first"));
        ensure!(first == (after == start), "from {after:?} `first` was told wrongly: {:?}", told.entries);
    }
    // A revision that the store has not reached (it was set back): going on from there would hide changes.
    let mut watch = match observer.store.watch(Revision(last.0 + 1_000_000)).await {
        Ok(watch) => watch,
        Err(_) => return Ok(()),
    };
    let event = next_event(&mut watch).await?;
    ensure!(event == WatchEvent::Lost, "a watch from the future began with {event:?}");
    Ok(())
}

async fn write_many(client: &Client) -> Result<Revision, Failure> {
    let mut last = Revision(0);
    for number in 0..MANY {
        last = client.apply(&[], &[Write::put("counter", number.to_string())]).await?;
    }
    Ok(last)
}

pub(super) async fn slow_reader(bench: Arc<dyn Bench>) -> Verdict {
    let (client, observer) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let start = client.apply(&[], &[Write::put("before", "1")]).await?;
    let mut watch = observer.store.watch(start).await?;
    let last = write_many(&client).await?;
    let told = Told::until(&mut watch, start, last).await?;
    // Each revision of this case is one write, so a gap shows in the counter.
    let every_change = client.store.capabilities().every_change;
    let counted = told.entries.get(&Key::from("counter")).map(|entry| entry.value.clone());
    let changes = if every_change || told.lost { told.revisions.len() as u64 } else { MANY };
    let expected = changes.checked_sub(1).map(|number| number.to_string().into_bytes());
    ensure!(
        counted == expected || (told.lost && !every_change),
        "{} changes were told, but the counter is {counted:?}",
        told.revisions.len()
    );
    ensure!(told.lost || changes == MANY, "changes are missing without a word");
    if told.lost {
        let after = watch.events.recv().await;
        ensure!(after.is_none(), "after `Lost` the watch went on with {after:?}");
    }
    Ok(())
}

pub(super) async fn proves_life(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let start = client.apply(&[], &[Write::put("a", "1")]).await?;
    let mut watch = client.store.watch(start).await?;
    let end = now() + Duration::from_secs(4);
    let mut heard_at = now();
    while now() < end {
        let event = next_event(&mut watch).await?;
        ensure!(matches!(event, WatchEvent::Alive { .. }), "an idle watch told {event:?}");
        // Half a second of grace for a busy machine.
        let silence = now() - heard_at;
        ensure!(silence <= Duration::from_millis(1_500), "an idle watch was silent for {silence:?}");
        heard_at = now();
    }
    Ok(())
}
