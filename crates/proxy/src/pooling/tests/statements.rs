//! Prepared statements that move from server to server.

use super::*;

#[test]
fn a_prepared_statement_follows_its_client_to_another_server() {
    let mut pair = Pair::default();
    let (sent, _) = pair.up(&[parse("s", "select $1"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "PS");
    assert!(sent[5..].starts_with(b"bellwether_1\0"), "under a name of ours");
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    pair.move_to(ServerSide::default());
    let (sent, told) = pair.up(&[bind("s"), execute(), bare(b"S")].concat());
    assert_eq!((tags(&sent).as_str(), told), ("PBES", vec![]), "the new server learns it first");
    let (seen, _) = pair.down(&[bare(b"12"), answer("SELECT 1", b'I')].concat());
    assert_eq!(tags(&seen), "2CZ", "and the client does not hear of that");
    assert!(pair.server.is_at_rest());
}

#[test]
fn what_a_server_knows_is_not_sent_again() {
    let mut pair = Pair::default();
    pair.up(&[parse("s", "select 1"), bare(b"S")].concat());
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    // Another client prepares the same under another name.
    let server = std::mem::take(&mut pair.server);
    pair.client = ClientSide::default();
    pair.server = server;
    let (sent, told) = pair.up(&[parse("other", "select 1"), bare(b"S")].concat());
    assert_eq!((tags(&sent).as_str(), tags(&told).as_str()), ("S", "1"), "it is answered at once");
    pair.down(&answer("", b'I')[6..]);
    // After something that must be answered first, it waits its turn.
    let (sent, told) = pair.up(&[bind("other"), execute(), parse("third", "select 1"), bare(b"S")].concat());
    assert_eq!((tags(&sent).as_str(), told), ("BES", vec![]));
    let (seen, _) = pair.down(&[bare(b"2"), answer("SELECT 1", b'I')].concat());
    assert_eq!(tags(&seen), "2C1Z");
}

/// Another client on the same server.
fn another_client(pair: &mut Pair) {
    pair.client = ClientSide::default();
    let turns = u64::from(std::mem::take(&mut pair.server.redefined));
    pair.registry.renew(turns);
}

#[test]
fn what_was_redefined_is_prepared_anew_for_who_comes_afterwards() {
    let prepare = |pair: &mut Pair| {
        let (sent, _) = pair.up(&[parse("s", "select * from t"), bare(b"S")].concat());
        let answered = if tags(&sent) == "PS" { bare(b"1") } else { vec![] };
        pair.down(&[answered, answer("", b'I')[6..].to_vec()].concat());
        pair.client.at_rest();
        tags(&sent)
    };
    for (sql, tag, again) in [
        ("alter table t add n int", "ALTER TABLE", "PS"),
        ("drop table t", "DROP TABLE", "PS"),
        ("create or replace view t as select 1", "CREATE VIEW", "PS"),
        ("create temp table t ()", "CREATE TABLE", "S"),
        ("insert into t values (1)", "INSERT 0 1", "S"),
    ] {
        let mut pair = Pair::default();
        assert_eq!(prepare(&mut pair), "PS");
        pair.statement(sql, tag, b'I');
        another_client(&mut pair);
        assert_eq!(prepare(&mut pair), again, "{sql}");
    }
    // Nobody else sees it before its transaction has ended; who has prepared meanwhile has what was.
    let mut pair = Pair::default();
    pair.statement("begin", "BEGIN", b'T');
    pair.statement("alter table t add n int", "ALTER TABLE", b'T');
    assert!(std::mem::take(&mut pair.server.redefined), "its own client sees it");
    pair.statement("select 1", "SELECT 1", b'T');
    assert!(!pair.server.redefined);
    pair.statement("commit", "COMMIT", b'I');
    assert!(pair.server.redefined);
}

#[test]
fn a_statement_that_makes_no_sense_any_more_is_prepared_anew() {
    for (step, sqlstate, is_stale) in [(bind("s"), "42804", true), (bind("s"), "22P02", false)] {
        let mut pair = Pair::default();
        pair.up(&[parse("s", "insert into t values ($1)"), bare(b"S")].concat());
        pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
        let id = pair.client.statement(b"s").unwrap().id;
        pair.up(&[step, execute(), bare(b"S")].concat());
        pair.down(&[error("ERROR", sqlstate), answer("", b'I')[6..].to_vec()].concat());
        assert_eq!(pair.server.stale == [id], is_stale, "{sqlstate}");
    }
}

#[test]
fn the_least_used_statement_makes_room_unseen() {
    let mut pair = Pair::default();
    for name in ["a", "b"] {
        pair.up(&[parse(name, &format!("select '{name}'")), bare(b"S")].concat());
        pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    }
    let (sent, _) = pair.up(&[parse("c", "select 'c'"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "CPS");
    let (seen, _) = pair.down(&[bare(b"31"), answer("", b'I')[6..].to_vec()].concat());
    assert_eq!(tags(&seen), "1Z");
    let (sent, _) = pair.up(&[bind("a"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "CPBS", "it is brought back when it is needed");
}

#[test]
fn closing_a_statement_concerns_only_the_client() {
    let mut pair = Pair::default();
    pair.up(&[parse("s", "select 1"), bare(b"S")].concat());
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    let mut close = Vec::new();
    Target::write_statement(b'C', b"s", &mut close);
    let (sent, told) = pair.up(&[close, bare(b"S")].concat());
    assert_eq!((tags(&sent).as_str(), tags(&told).as_str()), ("S", "3"));
    pair.down(&answer("", b'I')[6..]);
    let (sent, _) = pair.up(&[bind("s"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "BS", "the server itself says that there is no such statement");
}

#[test]
fn a_statement_without_a_name_is_brought_along_too() {
    let mut pair = Pair::default();
    pair.up(&[parse("", "select 1"), bare(b"S")].concat());
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    pair.move_to(ServerSide::default());
    let (sent, _) = pair.up(&[bind(""), execute(), bare(b"S")].concat());
    assert_eq!(tags(&sent), "PBES");
    let (seen, _) = pair.down(&[bare(b"12"), answer("SELECT 1", b'I')].concat());
    assert_eq!(tags(&seen), "2CZ");
}

#[test]
fn in_a_session_of_its_own_statements_have_the_clients_names() {
    let mut pair = Pair::default();
    pair.server.is_own = true;
    let sent = [parse("s", "select 1"), bind("s"), execute(), bare(b"S")].concat();
    assert_eq!(pair.up(&sent), (sent.clone(), vec![]));
    let answered = [bare(b"12"), answer("SELECT 1", b'I')].concat();
    assert_eq!(pair.down(&answered).0, answered);
    assert!(pair.server.is_at_rest());
    pair.client.at_rest();
    pair.up(&query("select 2"));
    let (_, done) = pair.down(&error("FATAL", "57P01"));
    assert!(!done.repeatable, "another server has no such statement");
}

#[test]
fn a_plan_that_no_longer_fits_is_made_anew_for_who_prepares_again() {
    let mut pair = Pair::default();
    pair.up(&[parse("s", "select * from t"), bare(b"S")].concat());
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    let first = pair.client.statement(b"s").unwrap().id;
    pair.up(&[bind("s"), execute(), bare(b"S")].concat());
    let mut stale = Vec::new();
    put(&mut stale, b'E', |out| {
        out.extend_from_slice(b"SERROR\0VERROR\0C0A000\0Mm\0RRevalidateCachedQuery\0\0")
    });
    pair.down(&[stale, answer("", b'I')[6..].to_vec()].concat());
    assert!(pair.server.is_at_rest());
    assert_eq!(pair.server.stale, [first]);
    pair.registry.retire(first);
    let (sent, _) = pair.up(&[parse("again", "select * from t"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "PS");
    assert_ne!(pair.client.statement(b"again").unwrap().id, first);
}
