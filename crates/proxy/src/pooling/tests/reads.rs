//! What a replica cannot do is said to the primary, as long as the client has seen nothing.

use super::*;

/// A pair in which the server reads for somebody else.
fn reader() -> Pair {
    let mut pair = Pair::default();
    pair.server.gives_way = true;
    pair
}

/// A row of no columns.
fn row() -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, b'D', |out| out.extend_from_slice(&[0, 0]));
    out
}

#[test]
fn what_a_replica_cannot_do_is_for_the_primary() {
    for sqlstate in ["40001", "25006", "0A000"] {
        let mut pair = reader();
        let asked = query("SELECT 1");
        pair.up(&asked);
        let (_, done) = pair.down(&[error("ERROR", sqlstate), answer("", b'I')[6..].to_vec()].concat());
        assert!(done.for_primary, "{sqlstate}");
        assert_eq!(done.no_read, sqlstate != "40001", "a conflict says nothing about the statement");
        assert!(pair.server.is_at_rest(), "another client may have the server");
        assert_eq!(pair.client.take_repeat(), asked);
    }
}

#[test]
fn a_batch_is_said_again_as_a_whole() {
    let mut pair = reader();
    let batch = [parse("", "SELECT 1"), bind(""), execute(), bare(b"S")].concat();
    pair.up(&batch);
    let answer = [bare(b"12"), error("ERROR", "40001"), answer("", b'I')[6..].to_vec()].concat();
    let (_, done) = pair.down(&answer);
    assert!(done.for_primary && pair.server.is_at_rest());
    assert_eq!(pair.client.take_repeat(), batch);
}

#[test]
fn what_the_client_must_hear_is_passed_on() {
    // It has seen a row.
    let mut pair = reader();
    pair.up(&query("SELECT 1"));
    pair.down(&row());
    assert!(!pair.down(&error("ERROR", "40001")).1.for_primary);
    // It is in a transaction.
    let mut pair = reader();
    pair.statement("BEGIN READ ONLY", "BEGIN", b'T');
    pair.up(&query("SELECT 1"));
    assert!(!pair.down(&error("ERROR", "40001")).1.for_primary);
    // It is its own fault.
    let mut pair = reader();
    pair.up(&query("SELECT 1"));
    assert!(!pair.down(&error("ERROR", "42P01")).1.for_primary);
    // There is nobody else: it is the primary that says so, or the client wants this replica.
    let mut pair = Pair::default();
    pair.up(&query("SELECT 1"));
    assert!(!pair.down(&error("ERROR", "25006")).1.for_primary);
}
