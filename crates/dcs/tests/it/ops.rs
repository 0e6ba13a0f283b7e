use std::time::Duration;

use bellwether_dcs::{
    Check, CommitOutcome, Deadline, MemoryStore, Renewal, Snapshot, Store, Write,
    codec::{self, MemberDocument, keys},
    memory::ManualClock,
    ops::{self, Seen},
};
use bellwether_types::{
    LeaseId, MemberName, PostgresState, Role, Timestamp,
    cluster::{FailoverRequest, Initialize, PeerProtocol, SyncState},
};
use serde_json::json;

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
async fn the_leader_lock_has_one_holder_who_alone_can_release_it() {
    let store = store();
    let (a, b) = (name("a"), name("b"));
    let (lease_a, lease_b) = (lease(&store).await, lease(&store).await);
    assert!(is_applied(ops::acquire_leader(&store, &a, lease_a, &[], BY).await));
    assert!(!is_applied(ops::acquire_leader(&store, &b, lease_b, &[], BY).await));
    assert!(matches!(ops::renew_leader(&store, lease_a, BY).await, Renewal::Valid { .. }));
    assert!(matches!(ops::renew_leader(&store, lease_b, BY).await, Renewal::NotHolding));
    assert!(!is_applied(ops::release_leader(&store, &b, &[], BY).await));
    let cluster = codec::decode(&snapshot(&store).await);
    assert_eq!(cluster.leader.map(|leader| (leader.name, leader.lease)), Some((a.clone(), Some(lease_a))));
    let status = [Write::put(keys::STATUS, codec::encode_optime(bellwether_types::Lsn(7), None))];
    assert!(is_applied(ops::release_leader(&store, &a, &status, BY).await));
    let cluster = codec::decode(&snapshot(&store).await);
    assert!(cluster.is_unlocked() && cluster.optime().0 == 7);
}

#[tokio::test]
async fn the_lock_is_not_taken_when_the_voters_changed_meanwhile() {
    let store = store();
    let (a, b) = (name("a"), name("b"));
    let my_lease = lease(&store).await;
    let state = SyncState { leader: Some(b.clone()), quorum: 0, voters: [a.clone()].into() };
    assert!(is_applied(ops::write_sync(&store, &state, Seen::Absent, &[], BY).await));
    let seen = codec::decode(&snapshot(&store).await).sync_revision().unwrap();
    let fewer = SyncState { voters: [name("c")].into(), ..state };
    let before = snapshot(&store).await;
    assert!(is_applied(
        ops::write_sync(&store, &fewer, Seen::in_snapshot(&before, keys::SYNC), &[], BY).await
    ));
    let also = [Check::at(keys::SYNC, seen)];
    assert!(!is_applied(ops::acquire_leader(&store, &a, my_lease, &also, BY).await));
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
    assert!(is_applied(ops::write_initialize(&store, id, seen, &[], BY).await));
    assert!(!is_applied(ops::abandon_initialize(&store, second, BY).await));
    store.revoke_lease(lease, BY).await.unwrap();
    assert_eq!(
        codec::decode(&snapshot(&store).await).system_id(),
        Some(id),
        "the identity outlives the claimer"
    );
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

#[tokio::test]
async fn an_unchanged_member_is_not_written_again_unless_its_lease_changed() {
    let store = store();
    let me = name("a");
    let (first, second) = (lease(&store).await, lease(&store).await);
    let protocol = PeerProtocol { version: "0.1.0".into(), level: 1 };
    let mut document = MemberDocument::new(
        "postgres://h:1/d",
        "http://h:2/patroni",
        PostgresState::Running,
        Role::Replica,
        protocol,
    );
    assert!(ops::member_differs(&snapshot(&store).await, &me, &document, first));
    let previous = br#"{"note":1}"#;
    assert!(is_applied(ops::write_member(&store, &me, &document, Some(previous), first, BY).await));
    let written = snapshot(&store).await;
    assert_eq!(codec::decode(&written).members[&me].raw["note"], json!(1));
    assert!(!ops::member_differs(&written, &me, &document, first));
    assert!(ops::member_differs(&written, &me, &document, second));
    document.pause = true;
    assert!(ops::member_differs(&written, &me, &document, first));
    assert!(is_applied(ops::delete_member(&store, &me, BY).await));
    assert!(codec::decode(&snapshot(&store).await).members.is_empty());
}
