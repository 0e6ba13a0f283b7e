use std::time::Duration;

use bellwether_dcs::{
    CommitOutcome, Deadline, MemoryStore, Snapshot, Store, Write,
    codec::{self, keys},
    memory::ManualClock,
    ops::{self, Seen},
};
use bellwether_types::{
    LeaseId, MemberName, Timestamp,
    cluster::{FailoverRequest, Initialize, SyncState},
};

const BY: Deadline = Deadline(Timestamp::ZERO);

fn store() -> MemoryStore {
    MemoryStore::with_clock(ManualClock::default())
}

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn is_applied(outcome: CommitOutcome) -> bool {
    match outcome {
        CommitOutcome::Applied(_) => true,
        CommitOutcome::Refused { .. } => false,
        CommitOutcome::Unknown(error) => panic!("{error}"),
    }
}

async fn lease(store: &MemoryStore) -> LeaseId {
    store.grant_lease(Duration::from_secs(5), BY).await.unwrap()
}

async fn snapshot(store: &MemoryStore) -> Snapshot {
    store.snapshot(BY).await.unwrap()
}

#[tokio::test]
async fn the_sync_state_is_created_once_and_then_only_compared_and_set() {
    let store = store();
    let state = SyncState { leader: Some(name("a")), quorum: 0, voters: [name("b")].into() };
    assert!(is_applied(ops::write_sync(&store, &state, Seen::Absent, &[], BY).await));
    assert!(!is_applied(ops::write_sync(&store, &state, Seen::Absent, &[], BY).await), "the first write won");
    let first = snapshot(&store).await;
    let seen = Seen::in_snapshot(&first, keys::SYNC);
    assert!(!is_applied(ops::write_sync(&store, &state, seen, &[ops::leader_is(&name("a"))], BY).await));
    assert!(is_applied(ops::write_sync(&store, &state, seen, &[], BY).await));
    assert!(!is_applied(ops::write_sync(&store, &state, seen, &[], BY).await), "the revision is used up");
    let stale = first.entries[&keys::SYNC.into()].modified;
    assert!(!is_applied(ops::delete_sync(&store, stale, &[], BY).await));
    let present = codec::decode(&snapshot(&store).await).sync_revision().unwrap();
    assert!(is_applied(ops::delete_sync(&store, present, &[], BY).await));
    assert_eq!(codec::decode(&snapshot(&store).await).sync, None);
}

#[tokio::test]
async fn one_member_bootstraps_and_a_finished_bootstrap_cannot_be_abandoned() {
    let store = store();
    let lease = lease(&store).await;
    let claim = async || codec::decode(&snapshot(&store).await).initialize.unwrap();
    assert!(is_applied(ops::claim_initialize(&store, lease, BY).await));
    assert!(!is_applied(ops::claim_initialize(&store, lease, BY).await));
    assert_eq!(claim().await.value, Initialize::InProgress);
    assert_eq!(codec::decode(&snapshot(&store).await).initialize_lease, Some(lease));
    let first = claim().await.revision;
    assert!(is_applied(ops::abandon_initialize(&store, first, BY).await));
    assert!(is_applied(ops::claim_initialize(&store, lease, BY).await));
    assert!(!is_applied(ops::abandon_initialize(&store, first, BY).await), "that is another claim");
    let second = claim().await.revision;
    let id = "7421833905512378144".parse().unwrap();
    let claimed = snapshot(&store).await;
    let seen = Seen::in_snapshot(&claimed, keys::INITIALIZE);
    assert!(is_applied(ops::write_initialize(&store, id, Some("a-1"), seen, &[], BY).await));
    assert!(!is_applied(ops::abandon_initialize(&store, second, BY).await));
    assert_eq!(codec::decode(&snapshot(&store).await).founded_by(), Some("a-1"));
    store.revoke_lease(lease, BY).await.unwrap();
    assert_eq!(
        codec::decode(&snapshot(&store).await).system_id(),
        Some(id),
        "the identity outlives the claimer"
    );
    // Whoever writes the same identity again is not that founder, whether it says so or, as a Patroni, knows nothing of it.
    let rewritten = codec::encode_initialize(Some(id));
    assert!(is_applied(store.commit(&[], &[Write::put(keys::INITIALIZE, rewritten)], BY).await));
    assert_eq!(codec::decode(&snapshot(&store).await).founded_by(), None);
    assert!(is_applied(ops::write_initialize(&store, id, None, Seen::Any, &[], BY).await));
    assert_eq!(codec::decode(&snapshot(&store).await).founder, None);
}

#[tokio::test]
async fn the_claim_of_a_member_that_died_blocks_nobody() {
    let store = store();
    let died = lease(&store).await;
    assert!(is_applied(ops::claim_initialize(&store, died, BY).await));
    store.revoke_lease(died, BY).await.unwrap();
    let next = lease(&store).await;
    assert!(is_applied(ops::claim_initialize(&store, next, BY).await));
}

#[tokio::test]
async fn a_request_that_came_meanwhile_survives_the_clearing_of_the_old_one() {
    let store = store();
    let request = |candidate| FailoverRequest { candidate: Some(name(candidate)), ..Default::default() };
    assert!(is_applied(ops::write_failover(&store, &request("b"), Seen::Any, BY).await));
    let old = snapshot(&store).await;
    assert!(is_applied(ops::write_failover(&store, &request("c"), Seen::Any, BY).await));
    let seen = Seen::in_snapshot(&old, keys::FAILOVER);
    assert!(!is_applied(ops::clear_failover(&store, seen, &[], BY).await));
    assert!(is_applied(ops::clear_failover(&store, Seen::Any, &[], BY).await));
    let present = snapshot(&store).await;
    assert_eq!(present.entries[&keys::FAILOVER.into()].value, b"{}");
    assert_eq!(codec::decode(&present).failover_request(), None);
}
