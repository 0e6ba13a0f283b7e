//! What calls may say when their connection, their server or their answer is lost. Passes trivially on a bench that cannot disturb.

use std::{sync::Arc, time::Duration};

use bellwether_types::LeaseId;

use super::{Bench, Client, Failure, Verdict, ensure};
use crate::store::{Check, CommitOutcome, Deadline, Key, Renewal, Store, Write, now};

/// How long one interrupted call may take before it ends `Unknown`.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many writes are sent at least, and as many more as it takes until enough of them were interrupted.
const WRITES: usize = 120;
const INTERRUPTED: usize = 3;
/// A bench that has not interrupted anything by then never will. Far more than one cycle of any bench.
const LIMIT: Duration = Duration::from_secs(20);

/// One write as its sender knows it.
#[derive(Debug)]
struct Sent {
    key: Key,
    outcome: CommitOutcome,
}

pub(super) async fn honest_writes(bench: Arc<dyn Bench>) -> Verdict {
    let Some(flaky) = bench.flaky_client().await? else { return Ok(()) };
    let mut sent: Vec<Sent> = Vec::new();
    let started = now();
    for number in 0.. {
        // Counted, not timed: how long a write takes is the disk's affair, and the bench disturbs by the clock.
        let enough = number >= WRITES && interrupted(&sent) >= INTERRUPTED;
        if enough || now() - started > LIMIT {
            break;
        }
        let key = Key::new(format!("write/{number}"));
        // Every third one must be refused: its check cannot hold.
        let check = if number % 3 == 0 { Check::has_value("none", "") } else { Check::absent(key.clone()) };
        let twin = Key::new(format!("twin/{number}"));
        let writes = [Write::put(key.clone(), "1"), Write::put(twin, "1")];
        let began = now();
        let outcome = flaky.commit(&[check], &writes, Deadline::after(PATIENCE)).await;
        let took = now() - began;
        ensure!(took <= PATIENCE + Duration::from_secs(1), "a call with {PATIENCE:?} took {took:?}");
        if number % 3 == 0 {
            ensure!(!matches!(outcome, CommitOutcome::Applied(_)), "{key}: applied against its check");
        }
        sent.push(Sent { key, outcome });
    }
    bench.calm().await;
    let snapshot = Client::open(&bench).await?.snapshot().await?;
    for Sent { key, outcome } in &sent {
        let entry = snapshot.entries.get(key);
        let twin = snapshot.entries.get(&Key::new(key.as_str().replace("write", "twin")));
        ensure!(
            entry.map(|entry| entry.modified) == twin.map(|entry| entry.modified),
            "half of the transaction of {key} landed"
        );
        match outcome {
            CommitOutcome::Applied(revision) => ensure!(
                entry.is_some_and(|entry| entry.modified == *revision),
                "{key} was applied at {revision:?}, but the store has {entry:?}"
            ),
            CommitOutcome::Refused { .. } => {
                ensure!(entry.is_none(), "{key} was refused, but the store has {entry:?}");
            }
            CommitOutcome::Unknown(_) => {}
        }
    }
    ensure!(interrupted(&sent) > 0, "the bench never interrupted a write, so nothing was examined");
    Ok(())
}

fn interrupted(sent: &[Sent]) -> usize {
    sent.iter().filter(|sent| matches!(sent.outcome, CommitOutcome::Unknown(_))).count()
}

/// A client that cannot tell whether its renewals arrived: at no moment that it believes in is the key gone.
pub(super) async fn lease_of_the_cut_off(bench: Arc<dyn Bench>) -> Verdict {
    let Some(flaky) = bench.flaky_client().await? else { return Ok(()) };
    let observer = Client::open(&bench).await?;
    let key = Key::from("leader");
    let lease = hold(&flaky, &observer, &key).await?;
    let end = now() + observer.timing.ttl * 3;
    let mut believed = now();
    while now() < end {
        let sent_at = now();
        match flaky.keep_alive(lease, Some(&key), Deadline::after(PATIENCE)).await {
            Renewal::Valid { guaranteed } => believed = believed.max(sent_at + guaranteed),
            Renewal::Unavailable(_) => {}
            Renewal::Gone | Renewal::NotHolding => {
                ensure!(now() >= believed, "the lease was lost {:?} too early", now().until(believed));
                break;
            }
        }
        let snapshot = observer.snapshot().await?;
        let answered_at = now();
        ensure!(
            snapshot.entries.contains_key(&key) || answered_at >= believed,
            "the key was gone {:?} before its holder stopped believing",
            answered_at.until(believed)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.calm().await;
    // Nobody renews any more. An unanswered renewal may have arrived as late as now.
    let latest = now() + observer.timing.ttl + observer.timing.expires_within;
    loop {
        if !observer.snapshot().await?.entries.contains_key(&key) {
            return Ok(());
        }
        if now() > latest {
            return Err(Failure("the key outlived the last possible renewal".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A lease of the interrupted client's own, with a key that hangs on it. Only its own: a store may bind leases to clients.
async fn hold(flaky: &Arc<dyn Store>, observer: &Client, key: &Key) -> Result<LeaseId, Failure> {
    let end = now() + LIMIT;
    while now() < end {
        if let Ok(lease) = flaky.grant_lease(observer.timing.ttl, Deadline::after(PATIENCE)).await {
            // The check: an earlier attempt that lands late must not move the key to its own lease.
            let (check, write) = (Check::absent(key.clone()), Write::put_leased(key.clone(), "a", lease));
            let outcome = flaky.commit(&[check], &[write], Deadline::after(PATIENCE)).await;
            if let CommitOutcome::Applied(_) = outcome {
                return Ok(lease);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Failure(format!("the interrupted client could not take a lease within {LIMIT:?}")))
}
