//! What every store promises.

use super::*;
use crate::schedule::SECONDS;

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn granted(store: &mut Store, now: Nanos) -> LeaseId {
    match store.carry_out(now, Operation::Grant { ttl: 5 * SECONDS }).0.verdict {
        Verdict::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn acquire(store: &mut Store, who: &str, lease: LeaseId) -> Verdict {
    let operation = Operation::Commit {
        checks: vec![(Key::Leader, Condition::Absent)],
        writes: vec![Write::Leader(name(who), lease)],
    };
    store.carry_out(0, operation).0.verdict
}

#[test]
fn only_one_gets_the_leader_key_and_it_goes_with_the_lease() {
    let mut store = Store::new(StoreKind::Embedded, 0);
    let (a, b) = (granted(&mut store, 0), granted(&mut store, 0));
    assert!(matches!(acquire(&mut store, "a", a), Verdict::Applied(_)));
    assert_eq!(acquire(&mut store, "b", b), Verdict::Refused);
    let renewed = Operation::KeepAlive { lease: a, holding: true };
    assert_eq!(store.carry_out(3 * SECONDS, renewed).0.verdict, Verdict::Valid { guaranteed: 5 * SECONDS });
    assert_eq!(store.expire(5 * SECONDS, a), Some(8 * SECONDS), "the renewal counts");
    assert_eq!(store.expire(8 * SECONDS, a), None);
    assert!(store.leader().is_none());
    let late = Operation::KeepAlive { lease: a, holding: true };
    assert_eq!(store.carry_out(9 * SECONDS, late).0.verdict, Verdict::Gone);
    assert_eq!(acquire(&mut store, "a", a), Verdict::Refused, "a dead lease holds nothing");
}

#[test]
fn a_transaction_applies_whole_or_not_at_all() {
    let mut store = Store::new(StoreKind::Embedded, 0);
    let lease = granted(&mut store, 0);
    let operation = Operation::Commit {
        checks: vec![(Key::Leader, Condition::Absent), (Key::Sync, Condition::At(Revision(9)))],
        writes: vec![Write::Leader(name("a"), lease)],
    };
    assert_eq!(store.carry_out(0, operation).0.verdict, Verdict::Refused);
    assert!(store.leader().is_none());
}

#[test]
fn a_store_election_restarts_every_lease() {
    let mut store = Store::new(StoreKind::Embedded, 0);
    let lease = granted(&mut store, 0);
    store.elected(4 * SECONDS);
    assert_eq!(store.expire(5 * SECONDS, lease), Some(9 * SECONDS));
}

#[test]
fn hanging_the_leader_key_on_another_lease_keeps_its_term() {
    let mut store = Store::new(StoreKind::Embedded, 0);
    let (old, new) = (granted(&mut store, 0), granted(&mut store, 0));
    acquire(&mut store, "a", old);
    let before = store.leader().unwrap().clone();
    let operation = Operation::Commit {
        checks: vec![(Key::Leader, Condition::At(before.revision))],
        writes: vec![Write::Leader(name("a"), new)],
    };
    store.carry_out(0, operation);
    let after = store.leader().unwrap();
    assert_eq!((after.term, after.lease), (before.term, Some(new)));
    assert!(after.revision > before.revision);
}
