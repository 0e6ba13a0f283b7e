use bellwether_pgwire::{
    extended::Target,
    frame::Header,
    message::{self, put, put_str},
};

use super::{
    client::ClientSide,
    down::{Down, down},
    effects::Pin,
    gather::Gather,
    server::{Expect, ServerSide},
    statements::Registry,
    up::{Counted, End, Keeping, up},
};

mod reads;
mod statements;

/// A client and a server with nothing between them.
#[derive(Default)]
struct Pair {
    client: ClientSide,
    server: ServerSide,
    registry: Registry,
    counted: Counted,
}

impl Pair {
    /// What the server and the client see of what the client sends.
    fn up(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut scratch, mut to_client) = (Vec::new(), Vec::new());
        let mut input = std::mem::take(&mut self.client.input);
        input.extend_from_slice(bytes);
        let mut out = Gather::new(&input, &mut scratch);
        let mut keeping = Keeping { registry: &mut self.registry, limit: 2, counted: self.counted };
        let done = up(&mut self.client, &mut self.server, &mut keeping, &input, &mut out, &mut to_client);
        assert_eq!(done.end, End::More);
        self.counted = keeping.counted;
        let output = out.finish().to_vec();
        self.client.input = input[done.taken..].to_vec();
        (output, to_client)
    }

    fn down(&mut self, bytes: &[u8]) -> (Vec<u8>, Down) {
        let mut scratch = Vec::new();
        let mut input = std::mem::take(&mut self.server.input);
        input.extend_from_slice(bytes);
        let mut out = Gather::new(&input, &mut scratch);
        let done = down(&mut self.server, Some(&mut self.client), &input, &mut out);
        let output = out.finish().to_vec();
        self.server.input = input[done.taken..].to_vec();
        (output, done)
    }

    /// A statement that succeeds, and what state it leaves the transaction in.
    fn statement(&mut self, sql: &str, tag: &str, status: u8) {
        self.up(&query(sql));
        self.down(&answer(tag, status));
        if self.server.is_at_rest() {
            self.client.at_rest();
        }
    }

    /// The client goes on with another server.
    fn move_to(&mut self, server: ServerSide) {
        self.client.at_rest();
        self.server = server;
    }
}

fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    message::query(&mut out, sql);
    out
}

fn answer(tag: &str, status: u8) -> Vec<u8> {
    let mut out = Vec::new();
    message::complete(&mut out, tag);
    message::ready(&mut out, status);
    out
}

fn error(severity: &str, sqlstate: &str) -> Vec<u8> {
    let mut out = Vec::new();
    message::Report { severity, sqlstate, message: "m", detail: "", hint: "" }.write(&mut out);
    out
}

fn bare(tags: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for tag in tags {
        put(&mut out, *tag, |_| {});
    }
    out
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, b'P', |out| {
        put_str(out, name.as_bytes());
        put_str(out, sql.as_bytes());
        out.extend_from_slice(&[0, 0]);
    });
    out
}

fn bind(statement: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, b'B', |out| {
        put_str(out, b"");
        put_str(out, statement.as_bytes());
        out.extend_from_slice(&[0; 6]);
    });
    out
}

fn execute() -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, b'E', |out| out.extend_from_slice(&[0; 5]));
    out
}

/// Tags of the messages.
fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Ok(Some(Header { tag, size })) = Header::of(bytes) {
        tags.push(tag as char);
        bytes = &bytes[size..];
    }
    assert!(bytes.is_empty(), "whole messages");
    tags
}

#[test]
fn a_simple_query_passes_untouched_and_ends_with_its_transaction() {
    let mut pair = Pair::default();
    let sent = query("select 1");
    assert_eq!(pair.up(&sent), (sent.clone(), vec![]));
    assert!(!pair.server.is_at_rest());
    let answered = answer("SELECT 1", b'I');
    let (seen, done) = pair.down(&answered);
    assert_eq!((seen, done.finished), (answered, 1));
    assert!(pair.server.is_at_rest());
    pair.statement("begin", "BEGIN", b'T');
    assert!(!pair.server.is_at_rest(), "a transaction is open");
    pair.statement("commit", "COMMIT", b'I');
    assert!(pair.server.is_at_rest());
}

#[test]
fn two_queries_at_once_need_two_answers() {
    let mut pair = Pair::default();
    pair.up(&[query("select 1"), query("select 2")].concat());
    pair.down(&answer("SELECT 1", b'I'));
    assert!(!pair.server.is_at_rest(), "the second is not answered");
    pair.down(&answer("SELECT 1", b'I'));
    assert!(pair.server.is_at_rest());
}

#[test]
fn an_error_drops_what_the_server_leaves_out() {
    let mut pair = Pair::default();
    pair.up(&[parse("s", "select 1"), bare(b"S")].concat());
    pair.down(&[bare(b"1"), answer("", b'I')[6..].to_vec()].concat());
    pair.up(&[parse("bad", "selec"), parse("same", "select 1"), bind("bad"), execute(), bare(b"S")].concat());
    let (seen, _) = pair.down(&[error("ERROR", "42601"), answer("", b'I')[6..].to_vec()].concat());
    assert_eq!(tags(&seen), "EZ", "no answer of ours after the error");
    assert!(pair.server.is_at_rest());
    let (sent, _) = pair.up(&[bind("bad"), bare(b"S")].concat());
    assert_eq!(tags(&sent), "PBS", "the server does not have it");
}

#[test]
fn what_stays_in_a_session_pins_the_client() {
    for (sql, tag, pin) in [
        ("listen x", "LISTEN", Pin::Listen),
        ("create temp table t ()", "CREATE TABLE", Pin::TemporaryTable),
        ("select pg_advisory_lock(1)", "SELECT 1", Pin::AdvisoryLock),
        ("/*hidden*/ prepare s as select 1", "PREPARE", Pin::Prepare),
    ] {
        let mut pair = Pair::default();
        pair.statement(sql, tag, b'I');
        assert_eq!(pair.client.pin, Some(pin), "{sql}");
    }
    let mut pair = Pair::default();
    pair.statement("listen x", "LISTEN", b'I');
    pair.statement("discard all", "DISCARD ALL", b'I');
    assert_eq!(pair.client.pin, None, "nothing is left");
}

#[test]
fn settings_are_known_on_both_sides_once_they_are_made() {
    let mut pair = Pair::default();
    pair.up(&query("set a = 1"));
    pair.down(&[error("ERROR", "42704"), answer("", b'I')[6..].to_vec()].concat());
    assert!(pair.client.session.current().is_empty(), "it failed");
    pair.statement("set a = 1", "SET", b'I');
    assert_eq!(pair.client.session.current().len(), 1);
    assert_eq!(pair.server.settings, *pair.client.session.current());
    pair.statement("begin", "BEGIN", b'T');
    pair.statement("set b = 1", "SET", b'T');
    pair.statement("rollback", "ROLLBACK", b'I');
    assert_eq!(pair.client.session.current().len(), 1, "rolled back");
}

#[test]
fn a_savepoint_that_takes_settings_back_pins_the_client() {
    let mut pair = Pair::default();
    pair.statement("begin", "BEGIN", b'T');
    pair.statement("set b = 1", "SET", b'T');
    pair.statement("rollback to s", "ROLLBACK", b'T');
    assert_eq!(pair.client.pin, Some(Pin::Setting));
}

#[test]
fn what_no_server_has_begun_can_be_repeated() {
    let mut pair = Pair::default();
    let sent = query("update t set x = 1");
    pair.up(&sent);
    let (seen, done) = pair.down(&error("FATAL", "57P01"));
    assert_eq!((seen, done.repeatable), (vec![], true));
    assert_eq!(pair.client.take_repeat(), sent);

    // Neither in the middle of a transaction, nor after any answer, nor for another reason.
    let mut pair = Pair::default();
    pair.statement("begin", "BEGIN", b'T');
    pair.up(&query("update t set x = 1"));
    assert!(!pair.down(&error("FATAL", "57P01")).1.repeatable);
    let mut pair = Pair::default();
    pair.up(&query("select 1"));
    pair.down(&bare(b"T"));
    assert!(!pair.down(&error("FATAL", "57P01")).1.repeatable);
    let mut pair = Pair::default();
    pair.up(&query("select 1"));
    assert!(!pair.down(&error("FATAL", "57P02")).1.repeatable);
    let mut pair = Pair::default();
    pair.up(&query("update t set x = 1"));
    pair.down(&[b"N\0\0\0\x05\0".to_vec()].concat());
    assert!(!pair.down(&error("FATAL", "57P01")).1.repeatable, "it may have warned of a commit");
}

#[test]
fn nothing_of_ours_reaches_the_client() {
    let mut pair = Pair::default();
    pair.server.expected.push_back(Expect::Ours);
    let mut row = Vec::new();
    message::data_row(&mut row, &[Some("f"), Some("7")]);
    let (seen, done) = pair.down(&[bare(b"T"), row, answer("SELECT 1", b'I')].concat());
    assert_eq!((seen, done.finished), (vec![], 1));
    assert_eq!(pair.server.answer, [Some("f".to_owned()), Some("7".to_owned())]);
}

proptest::proptest! {
    /// However the bytes are cut, both sides see the same.
    #[test]
    fn pieces_make_no_difference(cuts in proptest::collection::vec(1_usize..40, 1..30)) {
        let up = [parse("s", "select $1"), bind("s"), execute(), bare(b"S"), query("select 'x'"), parse("t", "select $1"), bare(b"S")].concat();
        let mut row = Vec::new();
        message::data_row(&mut row, &[Some(&[b'x'; 100][..])]);
        let down = [bare(b"12"), row.clone(), row, answer("SELECT 2", b'I'), bare(b"T"), answer("SELECT 1", b'I'), answer("", b'I')[6..].to_vec()].concat();
        let mut whole = Pair::default();
        let expected = (whole.up(&up), whole.down(&down).0);
        let mut pieces = Pair::default();
        let mut seen = ((Vec::new(), Vec::new()), Vec::new());
        for piece in cut(&up, &cuts) {
            let (sent, told) = pieces.up(piece);
            seen.0.0.extend(sent);
            seen.0.1.extend(told);
        }
        for piece in cut(&down, &cuts) {
            seen.1.extend(pieces.down(piece).0);
        }
        proptest::prop_assert_eq!(seen, expected);
        proptest::prop_assert!(pieces.server.is_at_rest());
    }

    #[test]
    fn no_bytes_make_it_panic(up in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), down in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
        for tag in b"QPBDCESHFdcfXpTZ12EN" {
            let framed = |body: &[u8]| {
                let mut out = Vec::new();
                put(&mut out, *tag, |out| out.extend_from_slice(body));
                out
            };
            let mut pair = Pair::default();
            let (mut scratch, mut told) = (Vec::new(), Vec::new());
            let bytes = framed(&up);
            let mut out = Gather::new(&bytes, &mut scratch);
            let mut keeping = Keeping { registry: &mut pair.registry, limit: 2, counted: Default::default() };
            let _ = super::up::up(&mut pair.client, &mut pair.server, &mut keeping, &bytes, &mut out, &mut told);
            pair.down(&framed(&down));
        }
    }
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for size in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[test]
fn after_an_error_nothing_counts_until_the_sync_that_is_still_to_come() {
    let mut pair = Pair::default();
    pair.up(&[parse("", "select 1/0"), bind(""), execute(), bare(b"H")].concat());
    pair.down(&[bare(b"12"), error("ERROR", "22012")].concat());
    assert!(!pair.server.is_at_rest(), "the server waits for a Sync");
    // The client has not read it yet.
    let (sent, told) = pair.up(&[parse("s", "select 2"), bind("s"), execute(), query("select 3")].concat());
    assert_eq!((tags(&sent).as_str(), told), ("PBEQ", vec![]));
    assert!(pair.client.statement(b"s").is_none(), "the server has not read it");
    pair.up(&bare(b"S"));
    assert!(!pair.server.is_at_rest());
    let (seen, done) = pair.down(&answer("", b'I')[6..]);
    assert_eq!((tags(&seen).as_str(), done.finished), ("Z", 1));
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_server_is_not_shared_before_its_sync() {
    let mut pair = Pair::default();
    pair.up(&[parse("", "insert into t values (1)"), bind(""), execute(), bare(b"H")].concat());
    pair.down(&[bare(b"12"), answer("INSERT 0 1", b'I')[..16].to_vec()].concat());
    assert!(pair.server.expected.is_empty());
    assert!(!pair.server.is_at_rest(), "the next client's statement would commit this one's");
    pair.up(&bare(b"S"));
    pair.down(&answer("", b'I')[6..]);
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_copy_overhears_the_sync_before_its_end() {
    let begin = [parse("", "copy t from stdin"), bind(""), execute(), bare(b"S")].concat();
    let copy_in = [b'G', 0, 0, 0, 7, 0, 0, 0];
    let done = [bare(b"12"), copy_in.to_vec()].concat();
    // As libpq does it: the data follow once the server asks for them.
    let mut pair = Pair::default();
    pair.up(&begin);
    pair.down(&done);
    pair.up(&bare(b"dcS"));
    assert!(!pair.server.is_at_rest());
    pair.down(&answer("COPY 1", b'I'));
    assert!(pair.server.is_at_rest());
    // Without waiting for the server.
    let mut pair = Pair::default();
    pair.up(&[begin, bare(b"dcS")].concat());
    pair.down(&done);
    pair.down(&answer("COPY 1", b'I'));
    assert!(pair.server.is_at_rest());
    // A simple one has no Sync, and one that fails goes on at once.
    let mut pair = Pair::default();
    pair.up(&query("copy t from stdin"));
    pair.down(&copy_in);
    pair.up(&bare(b"dd"));
    pair.down(&[error("ERROR", "22P02"), answer("", b'I')[6..].to_vec()].concat());
    assert!(pair.server.is_at_rest());
    pair.up(&bare(b"dc"));
    assert!(pair.server.is_at_rest(), "what comes too late is about nothing");
}
