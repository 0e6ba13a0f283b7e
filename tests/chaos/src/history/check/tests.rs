//! The check is right about good histories and finds each kind of wrong.

use super::*;

fn append(number: i64, began: u64, ended: u64, outcome: Outcome) -> Operation {
    Operation {
        client: 0,
        host: "node1".to_owned(),
        key: 7,
        kind: Kind::Append(number),
        began,
        ended,
        outcome,
    }
}

fn read(began: u64, ended: u64, list: &[i64]) -> Operation {
    Operation { kind: Kind::Read, ..append(0, began, ended, told(list, 1)) }
}

fn told(list: &[i64], timeline: u32) -> Outcome {
    Outcome::Done { list: list.to_vec(), timeline }
}

fn unknown() -> Outcome {
    Outcome::Unknown("connection closed".to_owned())
}

fn at_the_end(list: &[i64]) -> Final {
    Final::from([(7, list.to_vec())])
}

fn findings(history: &[Operation], list: &[i64]) -> Vec<Finding> {
    check(history, &at_the_end(list)).findings
}

#[test]
fn a_history_of_one_server_is_right() {
    let history = [
        append(1, 0, 10, told(&[1], 1)),
        // Concurrent with the next one, which was done first.
        append(2, 11, 30, told(&[1, 3, 2], 1)),
        append(3, 12, 20, told(&[1, 3], 1)),
        // In doubt, and done.
        append(4, 40, 90, unknown()),
        // In doubt, and not done.
        append(5, 40, 90, unknown()),
        append(6, 100, 110, Outcome::Refused("read-only".to_owned())),
        append(8, 120, 130, told(&[1, 3, 2, 4, 8], 2)),
        read(140, 150, &[1, 3, 2, 4, 8]),
    ];
    let verdict = check(&history, &at_the_end(&[1, 3, 2, 4, 8]));
    assert_eq!(verdict.findings, []);
    assert_eq!((verdict.appends, verdict.acknowledged, verdict.unknown, verdict.refused), (7, 4, 2, 1));
    assert_eq!((verdict.reads, verdict.stale_reads), (1, 0));
}

#[test]
fn an_acknowledged_append_that_is_not_there_is_lost() {
    let history = [append(1, 0, 10, told(&[1], 1)), append(2, 20, 30, told(&[1, 2], 1))];
    let found = findings(&history, &[1]);
    let lost = Finding::Lost { key: 7, number: 2, host: "node1".to_owned(), ended: 30 };
    assert!(found.contains(&lost), "{found:?}");
}

#[test]
fn a_second_past_is_found() {
    // Two servers took appends at a time, and both told the client.
    let history = [append(1, 0, 10, told(&[1], 1)), append(2, 5, 12, told(&[2], 1))];
    let found = findings(&history, &[1]);
    assert!(found.contains(&Finding::OtherPast { key: 7, host: "node1".to_owned(), began: 5 }), "{found:?}");
}

#[test]
fn an_append_that_did_not_see_an_acknowledged_one_is_found() {
    let history = [append(1, 0, 10, told(&[2, 1], 1)), append(2, 20, 30, told(&[2], 1))];
    let found = findings(&history, &[2, 1]);
    let too_little =
        Finding::SawTooLittle { key: 7, host: "node1".to_owned(), began: 20, saw: 1, must_see: 2 };
    assert!(found.contains(&too_little), "{found:?}");
    let future = Finding::SawTheFuture { key: 7, host: "node1".to_owned(), ended: 10, number: 2 };
    assert!(found.contains(&future), "{found:?}");
}

#[test]
fn what_was_refused_or_never_asked_for_must_not_be_there() {
    let history = [append(1, 0, 10, Outcome::Refused("read-only".to_owned()))];
    assert_eq!(findings(&history, &[1]), [Finding::RefusedButDone { key: 7, number: 1 }]);
    let history = [append(1, 0, 10, told(&[1], 1))];
    assert_eq!(findings(&history, &[1, 9]), [Finding::Invented { key: 7, number: 9 }]);
    assert_eq!(findings(&history, &[1, 1]), [Finding::Invented { key: 7, number: 1 }]);
}

#[test]
fn a_read_that_saw_too_little_is_stale_and_told_by_how_much() {
    let history =
        [append(1, 0, 10, told(&[1], 1)), append(2, 20, 30, told(&[1, 2], 1)), read(530, 540, &[1])];
    let verdict = check(&history, &at_the_end(&[1, 2]));
    assert_eq!(verdict.findings, []);
    assert_eq!((verdict.stale_reads, verdict.stalest_micros), (1, 500));
}

#[test]
fn timelines_never_go_back() {
    let mut old = append(2, 20, 30, told(&[1, 2], 1));
    old.host = "node2".to_owned();
    let history = [append(1, 0, 10, told(&[1], 2)), old];
    let two = Finding::TwoPrimaries { host: "node2".to_owned(), began: 20, timeline: 1, newest: 2 };
    assert_eq!(findings(&history, &[1, 2]), [two]);
}
