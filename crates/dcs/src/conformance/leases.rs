//! How long leases last, and what goes with them.

use std::{sync::Arc, time::Duration};

use bellwether_types::{LeaseId, Timestamp};
use tokio::task::JoinSet;

use super::{Bench, Client, Failure, Verdict, ensure, next_event, sleep_until, value_of};
use crate::store::{Check, Key, Renewal, WatchEvent, Write, now};

/// Between two looks at the store while waiting for an expiry.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Renews a lease that must be alive; returns until when it is guaranteed.
async fn renew(client: &Client, lease: LeaseId, holding: Option<&Key>) -> Result<Timestamp, Failure> {
    let sent_at = now();
    match client.store.keep_alive(lease, holding, client.deadline()).await {
        Renewal::Valid { guaranteed } => {
            ensure!(!guaranteed.is_zero(), "a valid lease was guaranteed for no time at all");
            Ok(sent_at + guaranteed)
        }
        other => Err(Failure(format!("renewing a live lease ended as {other:?}"))),
    }
}

/// Looks at the store until `key` has vanished; fails if that happens before `guaranteed` or more than the store's allowance after.
async fn await_expiry(client: &Client, key: &str, guaranteed: Timestamp) -> Verdict {
    let latest = guaranteed + client.timing.expires_within;
    loop {
        let asked_at = now();
        let snapshot = client.snapshot().await?;
        let answered_at = now();
        if value_of(&snapshot, key).is_none() {
            ensure!(
                answered_at >= guaranteed,
                "{key} vanished {:?} before the guaranteed time",
                answered_at.until(guaranteed)
            );
            return Ok(());
        }
        ensure!(
            asked_at <= latest,
            "{key} is still there {:?} after the guaranteed time",
            asked_at - guaranteed
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn keys_vanish_together(bench: Arc<dyn Bench>) -> Verdict {
    let (client, observer) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let lease = client.grant().await?;
    let leased = ["leader", "members/a", "members/b"];
    client.apply(&[], &leased.map(|key| Write::put_leased(key, "a", lease))).await?;
    let last = client.apply(&[], &[Write::put("config", "{}")]).await?;
    let mut watch = observer.store.watch(last).await?;
    let guaranteed = renew(&client, lease, None).await?;
    await_expiry(&observer, "leader", guaranteed).await?;
    let snapshot = observer.snapshot().await?;
    let left: Vec<&str> = snapshot.entries.keys().map(Key::as_str).collect();
    ensure!(left == ["config"], "after the expiry the store holds {left:?}");
    loop {
        match next_event(&mut watch).await? {
            WatchEvent::Alive { .. } => {}
            WatchEvent::Lost => return Err(Failure("the watch was lost over three keys".to_owned())),
            WatchEvent::Changed { mut changes, .. } => {
                changes.sort_by(|a, b| a.0.cmp(&b.0));
                let gone: Vec<(&str, bool)> =
                    changes.iter().map(|(key, entry)| (key.as_str(), entry.is_none())).collect();
                ensure!(gone == leased.map(|key| (key, true)), "one expiry was told as {changes:?}");
                return Ok(());
            }
        }
    }
}

/// Many leases are renewed once around the time of their end, each at another moment. Whoever hears `Valid` must keep the key for
/// the guaranteed time; whoever hears `Gone` must have lost it.
pub(super) async fn last_moment_renewals(bench: Arc<dyn Bench>) -> Verdict {
    const RACERS: u32 = 24;
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let client = Client::open(&bench).await?;
        let key = format!("racer/{racer}");
        racers.spawn(async move {
            let key = Key::from(key.as_str());
            let lease = client.grant().await?;
            client.apply(&[], &[Write::put_leased(key.clone(), "held", lease)]).await?;
            let guaranteed = renew(&client, lease, Some(&key)).await?;
            // From well before the guaranteed end, where all must succeed, to the latest allowed one.
            let early = client.timing.ttl / 2;
            let offset = (client.timing.expires_within + early) * racer / RACERS;
            sleep_until(guaranteed.saturating_sub(early) + offset).await;
            last_moment(&client, &key, lease).await
        });
    }
    let mut renewed = 0;
    while let Some(ended) = racers.join_next().await {
        renewed += u32::from(ended.map_err(|error| Failure(error.to_string()))??);
    }
    ensure!(renewed > 0, "no lease could be renewed, though some were asked for well in time");
    Ok(())
}

/// Whether the renewal succeeded.
async fn last_moment(client: &Client, key: &Key, lease: LeaseId) -> Result<bool, Failure> {
    let sent_at = now();
    match client.store.keep_alive(lease, Some(key), client.deadline()).await {
        Renewal::Valid { guaranteed } => {
            await_expiry(client, key.as_str(), sent_at + guaranteed).await?;
            Ok(true)
        }
        Renewal::Gone => {
            let snapshot = client.snapshot().await?;
            ensure!(
                value_of(&snapshot, key.as_str()).is_none(),
                "the lease of {key} is gone, but the key is there"
            );
            Ok(false)
        }
        other => Err(Failure(format!("a renewal in the last moment ended as {other:?}"))),
    }
}

pub(super) async fn renewed_lease_lives(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let (lease, key) = (client.grant().await?, Key::from("leader"));
    let created = client.apply(&[], &[Write::put_leased(key.clone(), "a", lease)]).await?;
    let end = now() + client.timing.ttl * 3;
    while now() < end {
        let guaranteed = renew(&client, lease, Some(&key)).await?;
        tokio::time::sleep(now().until(guaranteed) / 5).await;
    }
    let snapshot = client.snapshot().await?;
    let entry = snapshot.entries.get(&key);
    ensure!(
        entry.is_some_and(|entry| entry.modified == created && entry.lease == Some(lease)),
        "renewals must not touch the key, but it is {entry:?}"
    );
    Ok(())
}

pub(super) async fn gone_is_gone(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let lease = client.grant().await?;
    client.apply(&[], &[Write::put_leased("leader", "a", lease)]).await?;
    let guaranteed = renew(&client, lease, None).await?;
    await_expiry(&client, "leader", guaranteed).await?;
    for (case, lease) in [("an expired lease", lease), ("one that never was", LeaseId(987_654_321))] {
        for holding in [None, Some(Key::from("leader"))] {
            let renewal = client.store.keep_alive(lease, holding.as_ref(), client.deadline()).await;
            ensure!(matches!(renewal, Renewal::Gone), "renewing {case} ended as {renewal:?}");
        }
    }
    client.refused(&[], &[Write::put_leased("leader", "a", lease)]).await?;
    ensure!(value_of(&client.snapshot().await?, "leader").is_none(), "an expired lease could still write");
    Ok(())
}

pub(super) async fn holding(bench: Arc<dyn Bench>) -> Verdict {
    let (mine, other) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let (my_lease, other_lease) = (mine.grant().await?, other.grant().await?);
    let key = Key::from("leader");
    let must_not_hold = async |case: &str| {
        let renewal = mine.store.keep_alive(my_lease, Some(&key), mine.deadline()).await;
        ensure!(matches!(renewal, Renewal::NotHolding), "{case}: the renewal ended as {renewal:?}");
        Ok(())
    };
    must_not_hold("the key does not exist").await?;
    mine.apply(&[Check::absent("leader")], &[Write::put_leased("leader", "me", my_lease)]).await?;
    renew(&mine, my_lease, Some(&key)).await?;
    other.apply(&[], &[Write::delete("leader")]).await?;
    must_not_hold("somebody deleted the key").await?;
    other.apply(&[Check::absent("leader")], &[Write::put_leased("leader", "me", other_lease)]).await?;
    must_not_hold("somebody else holds the key, under my name").await?;
    other.apply(&[], &[Write::put("leader", "me")]).await?;
    must_not_hold("the key hangs on no lease").await?;
    // The lease itself lives on.
    renew(&mine, my_lease, None).await?;
    mine.apply(&[], &[Write::put_leased("leader", "me", my_lease)]).await?;
    renew(&mine, my_lease, Some(&key)).await?;
    Ok(())
}

pub(super) async fn revoked_at_once(bench: Arc<dyn Bench>) -> Verdict {
    let (client, observer) = (Client::open(&bench).await?, Client::open(&bench).await?);
    let lease = client.grant().await?;
    let writes =
        [Write::put_leased("a", "1", lease), Write::put_leased("b", "1", lease), Write::put("c", "1")];
    let written = client.apply(&[], &writes).await?;
    let mut watch = observer.store.watch(written).await?;
    client.store.revoke_lease(lease, client.deadline()).await?;
    let left: Vec<Key> = observer.snapshot().await?.entries.into_keys().collect();
    ensure!(left == [Key::from("c")], "after the revocation the store holds {left:?}");
    let told = loop {
        match next_event(&mut watch).await? {
            WatchEvent::Alive { .. } => {}
            WatchEvent::Changed { changes, .. } => break changes,
            WatchEvent::Lost => return Err(Failure("the watch was lost over two keys".to_owned())),
        }
    };
    ensure!(
        told.len() == 2 && told.iter().all(|(_, entry)| entry.is_none()),
        "one revocation was told as {told:?}"
    );
    let renewal = client.store.keep_alive(lease, None, client.deadline()).await;
    ensure!(matches!(renewal, Renewal::Gone), "renewing a revoked lease ended as {renewal:?}");
    client.refused(&[], &[Write::put_leased("a", "1", lease)]).await?;
    client.store.revoke_lease(lease, client.deadline()).await?;
    Ok(())
}

pub(super) async fn detached_key_survives(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let (first, second) = (client.grant().await?, client.grant().await?);
    let writes = ["detached", "moved", "gone"].map(|key| Write::put_leased(key, "1", first));
    client.apply(&[], &writes).await?;
    client.apply(&[], &[Write::put("detached", "2"), Write::put_leased("moved", "2", second)]).await?;
    client.store.revoke_lease(first, client.deadline()).await?;
    let snapshot = client.snapshot().await?;
    let lease = |key: &str| snapshot.entries.get(&Key::from(key)).map(|entry| entry.lease);
    ensure!(
        lease("detached") == Some(None) && lease("moved") == Some(Some(second)) && lease("gone").is_none(),
        "after the first lease ended the store holds {snapshot:?}"
    );
    Ok(())
}
