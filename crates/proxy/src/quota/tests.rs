use super::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(100) + Duration::from_millis(millis)
}

fn names(database: &str, user: &str) -> Names {
    Names { database: database.into(), user: user.into(), target: Target::Primary }
}

fn holder(worker: usize, pool: usize) -> Holder {
    Holder { worker, pool }
}

fn of_pool(pool: usize) -> Limits {
    Limits { pool, database: None, user: None }
}

const A: Holder = Holder { worker: 0, pool: 0 };
const B: Holder = Holder { worker: 1, pool: 0 };

#[test]
fn threads_together_have_no_more_than_the_limit_and_the_last_one_is_shared_in_turn() {
    let (quota, shop, one) = (Quota::default(), names("shop", "app"), of_pool(1));
    assert_eq!(quota.take(A, &shop, one, at(0)), Ok(()));
    let refused = quota.take(B, &shop, one, at(1)).unwrap_err();
    assert_eq!((refused.full, refused.is_new), (Full::Pool(1), true));
    assert_eq!(refused.notices, [Notice::Spare { holder: A, must: true }], "who has none is given one");
    assert!(!quota.take(B, &shop, one, at(2)).unwrap_err().is_new);
    assert_eq!(quota.used(&shop), 1);
    // Who gives it back has others who wait, too: they come after the one who waits already.
    assert_eq!(quota.give(A, at(3)), [Notice::Room(B)]);
    assert_eq!(quota.take(A, &shop, one, at(4)).unwrap_err().notices, [], "it is promised");
    assert_eq!(quota.take(B, &shop, one, at(5)), Ok(()));
    assert_eq!(
        quota.take(A, &shop, one, at(6)).unwrap_err().notices,
        [Notice::Spare { holder: B, must: true }]
    );
}

#[test]
fn what_is_uneven_by_one_stays_where_it_is() {
    let (quota, shop, five) = (Quota::default(), names("shop", "app"), of_pool(5));
    for (holder, count) in [(A, 3), (B, 2)] {
        for _ in 0..count {
            quota.take(holder, &shop, five, at(0)).unwrap();
        }
    }
    let spare = |must| vec![Notice::Spare { holder: A, must }];
    assert_eq!(quota.take(B, &shop, five, at(1)).unwrap_err().notices, spare(false), "only what is not used");
    assert_eq!(quota.take(B, &shop, five, at(2)).unwrap_err().notices, [], "and not all the time");
    quota.give(B, at(3));
    quota.withdraw(B, at(3));
    quota.take(A, &shop, five, at(4)).unwrap();
    assert_eq!(quota.take(B, &shop, five, at(500)).unwrap_err().notices, spare(true), "four and one");
}

#[test]
fn who_waits_for_another_limit_holds_nobody_up() {
    let quota = Quota::default();
    let limits = Limits { pool: 1, database: Some(3), user: None };
    let (ann, bob) = (names("shop", "ann"), names("shop", "bob"));
    quota.take(A, &ann, limits, at(0)).unwrap();
    assert_eq!(quota.take(A, &ann, limits, at(1)).unwrap_err().full, Full::Pool(1));
    assert_eq!(quota.take(B, &bob, limits, at(2)), Ok(()), "the claim of ann's pool could not be met");
    quota.take(holder(1, 1), &names("shop", "eve"), limits, at(3)).unwrap();
    let refused = quota.take(holder(0, 2), &names("shop", "max"), limits, at(4)).unwrap_err();
    assert_eq!(refused.full, Full::Database(3));
    assert_eq!(refused.notices.len(), 3, "{refused:?}");
    assert_eq!(quota.take(holder(0, 3), &names("other", "max"), limits, at(5)), Ok(()));
}

#[test]
fn a_claim_that_is_withdrawn_or_forgotten_passes_on() {
    let (quota, one) = (Quota::default(), Limits { pool: 5, database: None, user: Some(1) });
    let (c, shop) = (holder(1, 7), names("shop", "app"));
    quota.take(A, &shop, one, at(0)).unwrap();
    assert_eq!(quota.take(B, &names("b", "app"), one, at(1)).unwrap_err().full, Full::User(1));
    quota.take(c, &names("c", "app"), one, at(2)).unwrap_err();
    assert_eq!(quota.give(A, at(3)), [Notice::Room(B)]);
    assert_eq!(quota.withdraw(B, at(4)), [Notice::Room(c)]);
    quota.take(B, &names("b", "app"), one, at(5)).unwrap_err();
    assert_eq!(quota.take(A, &shop, one, at(1000)).unwrap_err().full, Full::User(1), "two are before it");
    assert_eq!(quota.take(A, &shop, one, at(2500)), Ok(()), "nobody has renewed them");
    assert!(quota.is_over(A, Limits { user: Some(0), ..one }) && !quota.is_over(A, one));
}

#[test]
fn clients_are_counted_by_database_and_user() {
    let quota = Quota::default();
    let (shop, app): (Arc<str>, Arc<str>) = ("shop".into(), "app".into());
    let come = |database, user| quota.admit((&shop, database), (&app, user));
    assert_eq!(come(Some(1), None), Ok(()));
    assert_eq!(come(Some(1), None), Err(TooMany::OfDatabase(1)));
    assert_eq!(come(None, Some(1)), Err(TooMany::OfUser(1)));
    quota.dismiss(&shop, &app);
    assert_eq!(come(Some(1), Some(1)), Ok(()));
}
