//! Renewing a lease so that the answer can be relied on.
//!
//! A renewal is answered by the member that leads etcd, from its own memory: it asks nobody. A leader that was cut off or
//! frozen does not know yet that it was replaced, and would promise what its successor will not keep. So each renewal is
//! followed by a linearizable read. The header of the renewal's answer is filled *before* the lease is renewed; if a read
//! that began later was answered at the same raft term, then no other leader came before the renewal, and one that comes
//! after it starts every lease anew. If the terms differ, the renewal is repeated.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, Key, Renewal, StoreError};
use bellwether_types::LeaseId;

use crate::{
    cluster::{Cluster, Repeat, Unanswered},
    proto::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest, RangeResponse},
    transaction::{full_key, signed},
};

/// Read when nobody asks about a key: any key will do, and a user of etcd may only have rights below the prefix.
const ANY_KEY: &str = "leader";

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
    let any = Key::from(ANY_KEY);
    let key = full_key(cluster.prefix(), holding.unwrap_or(&any));
    let read = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
    let read = cluster.call(read, Repeat::Always, by).await?;
    Ok(judge(id, holding.is_some(), &renewed, &read))
}

fn judge(
    id: i64,
    asks_about_key: bool,
    renewed: &LeaseKeepAliveResponse,
    read: &RangeResponse,
) -> Result<Renewal, Unsettled> {
    let holds = asks_about_key && read.kvs.first().is_some_and(|kv| kv.lease == id);
    if renewed.ttl <= 0 {
        // A leader that has just been elected may not know the youngest leases yet.
        return if holds { Err(Unsettled("a key hangs on a lease that is gone")) } else { Ok(Renewal::Gone) };
    }
    let term = |header: Option<crate::proto::ResponseHeader>| header.map(|header| header.raft_term);
    if term(renewed.header) != term(read.header) {
        return Err(Unsettled("etcd changed its leader meanwhile"));
    }
    if asks_about_key && !holds {
        return Ok(Renewal::NotHolding);
    }
    Ok(Renewal::Valid { guaranteed: Duration::from_secs(renewed.ttl.unsigned_abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{KeyValue, ResponseHeader};

    fn renewed(ttl: i64, raft_term: u64) -> LeaseKeepAliveResponse {
        let header = ResponseHeader { raft_term, ..ResponseHeader::default() };
        LeaseKeepAliveResponse { header: Some(header), ttl }
    }

    fn read(lease: Option<i64>, raft_term: u64) -> RangeResponse {
        let header = ResponseHeader { raft_term, ..ResponseHeader::default() };
        let kvs = lease.map(|lease| KeyValue { lease, ..KeyValue::default() }).into_iter().collect();
        RangeResponse { header: Some(header), kvs }
    }

    #[test]
    fn only_a_renewal_by_the_present_leader_of_etcd_is_valid() {
        let valid = judge(7, true, &renewed(5, 3), &read(Some(7), 3));
        assert!(matches!(valid, Ok(Renewal::Valid { guaranteed }) if guaranteed == Duration::from_secs(5)));
        assert!(judge(7, true, &renewed(5, 3), &read(Some(7), 4)).is_err(), "a leader that was replaced");
        assert!(matches!(judge(7, true, &renewed(5, 3), &read(Some(8), 3)), Ok(Renewal::NotHolding)));
        assert!(matches!(judge(7, true, &renewed(5, 3), &read(None, 3)), Ok(Renewal::NotHolding)));
        assert!(matches!(judge(7, false, &renewed(5, 3), &read(None, 3)), Ok(Renewal::Valid { .. })));
        assert!(matches!(judge(7, true, &renewed(0, 3), &read(None, 3)), Ok(Renewal::Gone)));
        assert!(matches!(judge(7, false, &renewed(-1, 3), &read(Some(7), 3)), Ok(Renewal::Gone)));
        assert!(judge(7, true, &renewed(-1, 3), &read(Some(7), 3)).is_err(), "gone, but its key is there");
    }
}
