//! Renewing a lease so that the answer can be relied on.
//!
//! A renewal is answered by the member that leads etcd, from its own memory: it asks nobody. A leader that was cut off or
//! frozen does not know yet that it was replaced, and would promise what its successor will not keep. So each renewal is
//! followed by a linearizable read. The header of the renewal's answer is filled *before* the lease is renewed; if a read
//! that began later was answered at the same raft term, then no other leader came before the renewal, and one that comes
//! after it starts every lease anew. If the terms differ, the renewal is repeated.
//!
//! The read takes in all keys below the prefix, by name and revision: watches prove their life with it. Of a lease that holds nothing
//! the renewal is not proved: nobody relies on it, and a lease that is lost all the same is granted anew.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, Key, Renewal, StoreError, store};
use bellwether_types::LeaseId;

use crate::{
    cluster::{Cluster, Repeat, Unanswered},
    proto::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest, RangeResponse},
    transaction::{Sighting, everything, full_key, signed},
};

/// An answer that settles nothing yet.
struct Unsettled(&'static str);

pub(crate) async fn keep_alive(
    cluster: &Arc<Cluster>,
    lease: LeaseId,
    holding: Option<&Key>,
    by: Deadline,
) -> Renewal {
    loop {
        match renew_and_read(cluster, lease, holding, by).await {
            Ok(Ok(renewal)) => return renewal,
            Ok(Err(Unsettled(why))) if !by.remaining().is_zero() => {
                tracing::debug!(why, "a renewal is repeated");
                // The next question goes out at once; that etcd elects takes longer than a few round trips.
                tokio::time::sleep(Duration::from_millis(10).min(by.remaining())).await;
            }
            Ok(Err(Unsettled(why))) => return Renewal::Unavailable(StoreError::NoQuorum(why.to_owned())),
            Err(unanswered) => return Renewal::Unavailable(unanswered.into()),
        }
    }
}

async fn renew_and_read(
    cluster: &Arc<Cluster>,
    lease: LeaseId,
    holding: Option<&Key>,
    by: Deadline,
) -> Result<Result<Renewal, Unsettled>, Unanswered> {
    let id = signed(lease.0);
    let renewed = cluster.call(LeaseKeepAliveRequest { id }, Repeat::Always, by).await?;
    let Some(holding) = holding else { return Ok(Ok(unproved(&renewed))) };
    let key = full_key(cluster.prefix(), holding);
    let since = store::now();
    let read = RangeRequest { keys_only: true, ..everything(cluster.prefix()) };
    let read = cluster.call(read, Repeat::Always, by).await?;
    let judgement = judge(id, &key, &renewed, &read);
    cluster.sighted().send_replace(Some(Arc::new(Sighting::of(read, since))));
    Ok(judgement)
}

fn unproved(renewed: &LeaseKeepAliveResponse) -> Renewal {
    match renewed.ttl {
        ..=0 => Renewal::Gone,
        ttl => Renewal::Valid { guaranteed: Duration::from_secs(ttl.unsigned_abs()) },
    }
}

fn judge(
    id: i64,
    key: &[u8],
    renewed: &LeaseKeepAliveResponse,
    read: &RangeResponse,
) -> Result<Renewal, Unsettled> {
    let holds = read.kvs.iter().any(|kv| kv.key == key && kv.lease == id);
    if renewed.ttl <= 0 {
        // A leader that has just been elected may not know the youngest leases yet.
        return if holds { Err(Unsettled("a key hangs on a lease that is gone")) } else { Ok(Renewal::Gone) };
    }
    let term = |header: Option<crate::proto::ResponseHeader>| header.map(|header| header.raft_term);
    if term(renewed.header) != term(read.header) {
        return Err(Unsettled("etcd changed its leader meanwhile"));
    }
    Ok(if holds { unproved(renewed) } else { Renewal::NotHolding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{KeyValue, ResponseHeader};

    const KEY: &[u8] = b"/leader";

    fn renewed(ttl: i64, raft_term: u64) -> LeaseKeepAliveResponse {
        let header = ResponseHeader { raft_term, ..ResponseHeader::default() };
        LeaseKeepAliveResponse { header: Some(header), id: 7, ttl }
    }

    fn read(lease: Option<i64>, raft_term: u64) -> RangeResponse {
        let header = ResponseHeader { raft_term, ..ResponseHeader::default() };
        let other = KeyValue { key: b"/other".to_vec(), lease: 7, ..KeyValue::default() };
        let key = KEY.to_vec();
        let leader = lease.map(|lease| KeyValue { key, lease, ..KeyValue::default() });
        let kvs = leader.into_iter().chain([other]).collect();
        RangeResponse { header: Some(header), kvs }
    }

    #[test]
    fn only_a_renewal_by_the_present_leader_of_etcd_is_valid() {
        let judge = |ttl, term, (lease, read_at)| judge(7, KEY, &renewed(ttl, term), &read(lease, read_at));
        let valid = judge(5, 3, (Some(7), 3));
        assert!(matches!(valid, Ok(Renewal::Valid { guaranteed }) if guaranteed == Duration::from_secs(5)));
        assert!(judge(5, 3, (Some(7), 4)).is_err(), "a leader that was replaced");
        assert!(matches!(judge(5, 3, (Some(8), 3)), Ok(Renewal::NotHolding)));
        assert!(matches!(judge(5, 3, (None, 3)), Ok(Renewal::NotHolding)), "another key hangs on it");
        assert!(matches!(judge(0, 3, (None, 3)), Ok(Renewal::Gone)));
        assert!(judge(-1, 3, (Some(7), 3)).is_err(), "gone, but its key is there");
        assert!(matches!(unproved(&renewed(5, 3)), Renewal::Valid { .. }));
        assert!(matches!(unproved(&renewed(-1, 3)), Renewal::Gone));
    }
}
