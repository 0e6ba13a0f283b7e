//! A failover as three members recorded it.

use super::{
    super::telling,
    codes::{ABOUT_OTHERS, GAVE_UP, PASSED_OVER},
    *,
};
use crate::journal::record::merge;

fn record(time: &str, member: &str, kind: &str, fields: Value) -> Record {
    let mut object =
        json!({"v": 1, "time": format!("2026-11-22T10:00:{time}Z"), "member": member, "kind": kind});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Record::parse(object).unwrap()
}

fn decision(time: &str, member: &str, reason: &str, sentence: &str, more: Value) -> Record {
    let mut fields = json!({"reason": reason, "sentence": sentence, "also": [], "actions": []});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record(time, member, "decision", fields)
}

fn takeover() -> Vec<Record> {
    let seen = |lsn: &str, peers: Value| {
        json!({"leader": null, "lsn": lsn, "timeline": 5, "role": "replica", "store_age_ms": 3, "answer_age_ms": 40,
               "members": {"pg1": {}, "pg2": {}, "pg3": {}}, "peers": peers})
    };
    let answers =
        json!({"age_ms": 2, "answers": {"pg1": "refused", "pg3": {"lsn": "0/3FE5600", "timeline": 5}}});
    let mut records = vec![
        record("00.000", "pg1", "start", json!({"version": "0.1.0"})),
        decision(
            "04.500",
            "pg2",
            "polling_peers",
            "asking the other members before the leader race",
            json!({"seen": seen("0/3FE56C0", Value::Null)}),
        ),
        decision(
            "04.520",
            "pg2",
            "acquiring_lock",
            "trying to acquire the leader lock",
            json!({"seen": seen("0/3FE56C0", answers), "actions": [{"AcquireLease": {"sync": 7}}],
                   "also": [{"reason": "member_unreachable", "sentence": "Member pg1 is not reachable"}]}),
        ),
        decision(
            "04.515",
            "pg3",
            "peer_ahead",
            "Wal position of pg2 is ahead of my wal position",
            json!({"seen": seen("0/3FE5600", Value::Null)}),
        ),
        decision(
            "04.530",
            "pg2",
            "promoted_by_acquiring_lock",
            "promoted self to leader by acquiring session lock",
            json!({"seen": seen("0/3FE56C0", Value::Null), "actions": ["Promote"]}),
        ),
        record(
            "04.605",
            "pg2",
            "failover",
            json!({
            "event": "takeover", "old_leader": "pg1", "detect_ms": 4500, "decide_ms": 30, "fence_ms": 10,
            "promote_ms": 60, "route_ms": 5, "total_ms": 4605}),
        ),
        decision(
            "30.000",
            "pg1",
            "rewind",
            "running pg_rewind from pg2",
            json!({"actions": [{"Rewind": {}}]}),
        ),
        decision(
            "31.000",
            "pg1",
            "secondary_following",
            "no action. I am (pg1), a secondary, and following a leader (pg2)",
            json!({}),
        ),
    ];
    merge(&mut records);
    records
}

fn failover_of(events: &[Event]) -> &Failover {
    let failover = events.iter().find_map(|event| match event {
        Event::Failover(failover) => Some(failover),
        Event::Note(_) => None,
    });
    failover.expect("a failover is told")
}

#[test]
fn a_takeover_tells_who_led_who_took_over_and_who_was_passed_over() {
    let events = tell(&takeover());
    let failover = failover_of(&events);
    assert_eq!((failover.new_leader.as_str(), failover.old_leader.as_deref()), ("pg2", Some("pg1")));
    assert_eq!(failover.cause, "the lock of pg1 ran out (pg1 refused the connection)");
    assert_eq!(
        failover.budget,
        [("detect", 4500), ("decide", 30), ("fence", 10), ("promote", 60), ("route", 5)]
    );
    assert_eq!(failover.passed_over["pg1"], ["Member pg1 is not reachable", "it refused the connection"]);
    assert_eq!(failover.passed_over["pg3"], ["Wal position of pg2 is ahead of my wal position"]);
    assert!(!failover.passed_over.contains_key("pg2"));
    let own = &failover.saw["pg2"];
    assert_eq!((own.lsn.as_deref(), own.timeline, own.store_age_ms), (Some("0/3FE56C0"), Some(5), Some(3)));
    assert_eq!(own.peers["pg3"], "0/3FE5600 on timeline 5", "the poll before the last decision still counts");
    let reasons: Vec<&str> = failover.rules.iter().map(|rule| rule.reason.as_str()).collect();
    assert_eq!(reasons, ["polling_peers", "peer_ahead", "acquiring_lock", "promoted_by_acquiring_lock"]);
}

#[test]
fn what_belongs_to_a_failover_is_not_told_twice_and_routine_not_at_all() {
    let events = tell(&takeover());
    let notes: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Note(note) => Some(note.text.as_str()),
            Event::Failover(_) => None,
        })
        .collect();
    assert_eq!(notes, ["the agent started (version 0.1.0)", "rewind: running pg_rewind from pg2 -> Rewind"]);
}

#[test]
fn the_story_for_people_has_the_budget_and_the_reasons() {
    let text = telling::tell(&tell(&takeover()), &jiff::tz::TimeZone::UTC);
    let expected = "\
2026-11-22 10:00:00.000  pg1  the agent started (version 0.1.0)

2026-11-22 10:00:04.605  pg2 took over from pg1, writable again after 4.605 s
  why: the lock of pg1 ran out (pg1 refused the connection)
  where the time went:
    detect     4500 ms  from the old leader's last sign of life until its lock was gone
    decide       30 ms  asking the other members and taking the lock
    fence        10 ms  until the guardian was armed and the promotion asked for
    promote      60 ms  until PostgreSQL accepted writes
    route         5 ms  until the new picture was published
    total      4605 ms
  what each member saw:
    pg2  replica, 0/3FE56C0 on timeline 5, heard 40 ms before, store read 3 ms before, no leader, peers: pg1 refused, pg3 0/3FE5600 on timeline 5
    pg3  replica, 0/3FE5600 on timeline 5, heard 40 ms before, store read 3 ms before, no leader
  passed over:
    pg1  Member pg1 is not reachable; it refused the connection
    pg3  Wal position of pg2 is ahead of my wal position
  rules that fired:
       -105 ms  pg2  polling_peers: asking the other members before the leader race
        -90 ms  pg3  peer_ahead: Wal position of pg2 is ahead of my wal position
        -85 ms  pg2  acquiring_lock: trying to acquire the leader lock -> AcquireLease
        -75 ms  pg2  promoted_by_acquiring_lock: promoted self to leader by acquiring session lock -> Promote

2026-11-22 10:00:30.000  pg1  rewind: running pg_rewind from pg2 -> Rewind
";
    assert_eq!(text, expected);
}

#[test]
fn the_cause_is_the_strongest_evidence() {
    let base = takeover();
    let with = |more: Record| {
        let mut records = base.clone();
        records.push(more);
        merge(&mut records);
        failover_of(&tell(&records)).cause.clone()
    };
    for (case, more, expected) in [
        (
            "somebody asked for a switchover",
            record(
                "03.000",
                "pg1",
                "call",
                json!({"method": "POST", "path": "/switchover", "identity": "ann", "origin": "10.0.0.9", "status": 200}),
            ),
            "planned switchover, asked for by ann at 10.0.0.9",
        ),
        (
            "the guardian fired",
            // 2026-11-22T10:00:04Z
            record(
                "12.000",
                "pg1",
                "guardian_fired",
                json!({"record": "Firing { fired_at: WallTime { unix_millis: 1795341604000 }, killed: 7 }"}),
            ),
            "the guardian killed PostgreSQL of the old leader when its lease ran out",
        ),
        (
            "the guardian fired another time",
            record(
                "12.000",
                "pg1",
                "guardian_fired",
                json!({"record": "WallTime { unix_millis: 1795000000000 }"}),
            ),
            "the lock of pg1 ran out (pg1 refused the connection)",
        ),
        (
            "the old leader says why it gave up",
            decision(
                "04.000",
                "pg1",
                "renewal_rejected",
                "demoted self because failed to update leader lock in DCS",
                json!({}),
            ),
            "pg1 gave up: demoted self because failed to update leader lock in DCS",
        ),
    ] {
        assert_eq!(with(more), expected, "{case}");
    }
}

#[test]
fn a_restart_in_place_is_an_event_of_its_own() {
    let records = [record(
        "10.000",
        "pg1",
        "failover",
        json!({"event": "restart_in_place", "promote_ms": 600, "route_ms": 10, "total_ms": 610}),
    )];
    let events = tell(&records);
    let failover = failover_of(&events);
    assert_eq!(failover.cause, "PostgreSQL ended and was started again where it was");
    assert!(
        telling::tell(&events, &jiff::tz::TimeZone::UTC)
            .contains("pg1 was restarted in place, writable again after 0.610 s")
    );
    assert_eq!(failover.to_json()["budget"], json!({"promote_ms": 600, "route_ms": 10, "total_ms": 610}));
}

#[test]
fn calls_and_jobs_are_told_with_their_ends() {
    for (kind, fields, expected) in [
        (
            "call",
            json!({"method": "POST", "path": "/restart", "origin": "10.0.0.9", "status": 503, "message": "restart failed"}),
            "POST /restart by 10.0.0.9: 503 restart failed",
        ),
        (
            "job",
            json!({"job": {"Clone": {}}, "outcome": {"Failed": {"why": "no space"}}}),
            "Clone: failed: no space",
        ),
        ("job", json!({"job": "Promote", "outcome": "Succeeded"}), "Promote: succeeded"),
        (
            "citus",
            json!({"group": 1, "cause": "before_demote", "changes": ["node 2 is at a-demoted:5432"], "end": "held open"}),
            "Citus metadata of group 1 by before_demote: node 2 is at a-demoted:5432 (held open)",
        ),
        ("citus", json!({"failure": "no"}), "the Citus metadata could not be kept: no"),
        ("something_new", json!({}), "something_new"),
    ] {
        assert_eq!(note(&record("00.000", "pg1", kind, fields)).unwrap().text, expected);
    }
}

#[test]
fn every_code_that_a_story_looks_for_is_one_that_the_core_gives() {
    let named = [&ROUTINE[..], PASSED_OVER, &ABOUT_OTHERS, &GAVE_UP].concat();
    let unknown: Vec<_> = named.iter().filter(|code| !bellwether_ha::Reason::CODES.contains(code)).collect();
    assert_eq!(unknown, Vec::<&&str>::new());
}
