//! Checks and writes over several keys.

use std::sync::Arc;

use bellwether_types::{LeaseId, Revision};
use tokio::task::JoinSet;

use super::{Bench, Client, Failure, Verdict, ensure, value_of};
use crate::store::{Check, CommitOutcome, Key, Write};

pub(super) async fn one_creator_wins(bench: Arc<dyn Bench>) -> Verdict {
    for round in 0..5 {
        let key = format!("race/{round}");
        let mut racers = JoinSet::new();
        for racer in 0..4 {
            let client = Client::open(&bench).await?;
            for lane in 0..4 {
                let (client, key) = (client.clone(), key.clone());
                let name = format!("{racer}-{lane}");
                racers.spawn(async move {
                    let key = Key::from(key.as_str());
                    let outcome =
                        client.commit(&[Check::absent(key.clone())], &[Write::put(key, name.as_str())]).await;
                    (name, outcome)
                });
            }
        }
        let mut winners = Vec::new();
        while let Some(ended) = racers.join_next().await {
            match ended.map_err(|error| Failure(error.to_string()))? {
                (name, CommitOutcome::Applied(revision)) => winners.push((name, revision)),
                (_, CommitOutcome::Refused { found: Some(_) }) => {}
                (name, other) => return Err(Failure(format!("racer {name} ended as {other:?}"))),
            }
        }
        ensure!(winners.len() == 1, "round {round} had {} winners: {winners:?}", winners.len());
        let (name, revision) = &winners[0];
        let snapshot = Client::open(&bench).await?.snapshot().await?;
        let entry = snapshot.entries.get(&Key::from(key.as_str()));
        ensure!(
            entry.is_some_and(|entry| entry.value == name.as_bytes() && entry.created == *revision),
            "{name} won at {revision:?}, but the store has {entry:?}"
        );
    }
    Ok(())
}

pub(super) async fn all_or_nothing(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let put_three = |value: &str| ["a", "b", "c"].map(|key| Write::put(key, value));
    let created = client.apply(&["a", "b", "c"].map(Check::absent), &put_three("1")).await?;
    for failing in ["a", "b", "c"] {
        let checks = ["a", "b", "c"]
            .map(|key| if key == failing { Check::has_value(key, "no") } else { Check::at(key, created) });
        let before = client.snapshot().await?;
        let found = client.refused(&checks, &put_three("2")).await?;
        ensure!(found == Some(created), "the check on {failing} failed, but {found:?} was reported");
        let after = client.snapshot().await?;
        ensure!(before.entries == after.entries, "a refused transaction wrote: {after:?}");
    }
    let writes = [Write::put("a", "3"), Write::delete("b"), Write::put("d", "3")];
    let revision = client.apply(&["a", "b", "c"].map(|key| Check::at(key, created)), &writes).await?;
    let snapshot = client.snapshot().await?;
    let now = |key: &str| snapshot.entries.get(&Key::from(key)).map(|entry| entry.modified);
    ensure!(
        now("a") == Some(revision)
            && now("b").is_none()
            && now("c") == Some(created)
            && now("d") == Some(revision),
        "a transaction at {revision:?} left {snapshot:?}"
    );
    client.apply(&[], &[Write::delete("never-there")]).await?;
    Ok(())
}

/// Several clients move amounts between three accounts; the sum is the same in every snapshot.
pub(super) async fn transfers_never_mix(bench: Arc<dyn Bench>) -> Verdict {
    const ACCOUNTS: [&str; 3] = ["x", "y", "z"];
    let setup = Client::open(&bench).await?;
    setup.apply(&[], &ACCOUNTS.map(|account| Write::put(account, "100"))).await?;
    let mut clerks = JoinSet::new();
    for clerk in 0..3_usize {
        let client = Client::open(&bench).await?;
        clerks.spawn(async move {
            let mut applied = 0;
            for attempt in 0..40_usize {
                let (revisions, balances) = read_accounts(&client, ACCOUNTS).await?;
                let sum: i64 = balances.iter().sum();
                ensure!(sum == 300, "a snapshot held {balances:?}");
                let (from, to) = ((clerk + attempt) % 3, (clerk + attempt + 1) % 3);
                let mut next = balances;
                next[from] -= 7;
                next[to] += 7;
                let checks: Vec<Check> = (0..3).map(|i| Check::at(ACCOUNTS[i], revisions[i])).collect();
                let writes: Vec<Write> =
                    [from, to].map(|i| Write::put(ACCOUNTS[i], next[i].to_string())).to_vec();
                match client.commit(&checks, &writes).await {
                    CommitOutcome::Applied(_) => applied += 1,
                    CommitOutcome::Refused { found: Some(_) } => {}
                    other => return Err(Failure(format!("a transfer ended as {other:?}"))),
                }
            }
            Ok(applied)
        });
    }
    let mut applied = 0;
    while let Some(ended) = clerks.join_next().await {
        applied += ended.map_err(|error| Failure(error.to_string()))??;
    }
    ensure!(applied > 0, "not a single transfer was applied");
    let (_, balances) = read_accounts(&setup, ACCOUNTS).await?;
    ensure!(balances.iter().sum::<i64>() == 300, "in the end the accounts hold {balances:?}");
    Ok(())
}

async fn read_accounts(client: &Client, accounts: [&str; 3]) -> Result<([Revision; 3], [i64; 3]), Failure> {
    let snapshot = client.snapshot().await?;
    let mut revisions = [Revision(0); 3];
    let mut balances = [0; 3];
    for (index, account) in accounts.into_iter().enumerate() {
        let entry = snapshot.entries.get(&Key::from(account));
        let entry = entry.ok_or_else(|| Failure(format!("account {account} vanished")))?;
        let balance = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
        balances[index] = balance.ok_or_else(|| Failure(format!("account {account} holds {entry:?}")))?;
        revisions[index] = entry.modified;
    }
    Ok((revisions, balances))
}

pub(super) async fn checks_refuse(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let first = client.apply(&[], &[Write::put("k", "1")]).await?;
    let second = client.apply(&[], &[Write::put("k", "2")]).await?;
    ensure!(second > first, "revisions went from {first:?} to {second:?}");
    let write = [Write::put("out", "written")];
    for (case, check, found) in [
        ("absent, but it exists", Check::absent("k"), Some(second)),
        ("an older revision", Check::at("k", first), Some(second)),
        ("a revision of a key that does not exist", Check::at("none", second), None),
        ("another value", Check::has_value("k", "1"), Some(second)),
        ("a prefix of the value", Check::has_value("k", ""), Some(second)),
        ("a value of a key that does not exist", Check::has_value("none", ""), None),
    ] {
        let reported = client.refused(&[check], &write).await?;
        ensure!(reported == found, "{case}: expected {found:?} to be reported, got {reported:?}");
    }
    let snapshot = client.snapshot().await?;
    ensure!(value_of(&snapshot, "out").is_none(), "a refused write landed");
    for (case, check) in [
        ("absent", Check::absent("none")),
        ("the present revision", Check::at("k", second)),
        ("the present value", Check::has_value("k", "2")),
    ] {
        client.apply(&[check], &write).await.map_err(|failure| Failure(format!("{case}: {failure}")))?;
    }
    // Bytes are bytes, and an empty value is not an absent key (`initialize` relies on that).
    client.apply(&[], &[Write::put("bytes", vec![0, 255, 10]), Write::put("empty", "")]).await?;
    client
        .apply(&[Check::has_value("bytes", vec![0, 255, 10]), Check::has_value("empty", "")], &write)
        .await?;
    client.refused(&[Check::absent("empty")], &write).await?;
    Ok(())
}

pub(super) async fn recreation_shows(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let created = client.apply(&[], &[Write::put("leader", "a")]).await?;
    let modified = client.apply(&[], &[Write::put("leader", "b")]).await?;
    let snapshot = client.snapshot().await?;
    let entry = snapshot.entries.get(&Key::from("leader"));
    ensure!(
        entry.is_some_and(|entry| entry.created == created && entry.modified == modified),
        "created at {created:?} and modified at {modified:?}, but the store has {entry:?}"
    );
    client.apply(&[], &[Write::delete("leader")]).await?;
    let again = client.apply(&[Check::absent("leader")], &[Write::put("leader", "b")]).await?;
    let snapshot = client.snapshot().await?;
    let entry = snapshot.entries.get(&Key::from("leader"));
    ensure!(
        again > modified && entry.is_some_and(|entry| entry.created == again && entry.modified == again),
        "created again at {again:?}, but the store has {entry:?}"
    );
    client.refused(&[Check::at("leader", modified)], &[Write::put("leader", "late")]).await?;
    Ok(())
}

pub(super) async fn unknown_lease_is_refused(bench: Arc<dyn Bench>) -> Verdict {
    let client = Client::open(&bench).await?;
    let writes = [Write::put("beside", "1"), Write::put_leased("k", "1", LeaseId(987_654_321))];
    let found = client.refused(&[], &writes).await?;
    ensure!(found.is_none(), "the lease was the reason, but {found:?} was reported");
    let snapshot = client.snapshot().await?;
    ensure!(snapshot.entries.is_empty(), "half of a refused transaction landed: {snapshot:?}");
    Ok(())
}
