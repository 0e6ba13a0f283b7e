//! Whatever comes in, and however it is cut into reads: the outcome is the same, and nothing fails but by saying so.
//! `PROPTEST_CASES` sets how often it is tried (`make fuzz-proxy`).

use super::client::ClientSide;
use super::down::down;
use super::gather::Gather;
use super::server::{Expect, ServerSide};
use super::statements::Registry;
use super::up::{End, Keeping, up};
use bellwether_pgwire::message;
use proptest::prelude::*;

/// What a run of reads came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    sent: Vec<u8>,
    told: Vec<u8>,
    ended: bool,
}

/// Cuts `bytes` into reads of these sizes, over and over.
fn reads<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut reads = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (read, after) = rest.split_at((*size).clamp(1, rest.len()));
        reads.push(read);
        rest = after;
    }
    reads
}

fn carry_up(bytes: &[u8], sizes: &[usize]) -> Outcome {
    let (mut client, mut server) = (ClientSide::default(), ServerSide::default());
    let mut registry = Registry::default();
    let mut outcome = Outcome::default();
    let mut kept = Vec::new();
    let mut scratch = Vec::new();
    for read in reads(bytes, sizes) {
        kept.extend_from_slice(read);
        let mut out = Gather::new(&kept, &mut scratch);
        let mut keeping = Keeping { registry: &mut registry, limit: 3, counted: Default::default() };
        let done = up(&mut client, &mut server, &mut keeping, &kept, &mut out, &mut outcome.told);
        outcome.sent.extend_from_slice(out.finish());
        assert!(done.taken <= kept.len());
        kept.drain(..done.taken);
        if done.end != End::More {
            outcome.ended = true;
            break;
        }
    }
    outcome
}

fn carry_down(bytes: &[u8], sizes: &[usize]) -> Outcome {
    let (mut client, mut server) = (ClientSide::default(), ServerSide::default());
    for expect in
        [Expect::Query, Expect::Ours, Expect::Parse(None), Expect::Bind(None), Expect::Execute, Expect::Sync]
    {
        server.expected.push_back(expect);
    }
    // Nothing was kept to be said again.
    client.is_too_long = true;
    let mut outcome = Outcome::default();
    let mut kept = Vec::new();
    let mut scratch = Vec::new();
    for read in reads(bytes, sizes) {
        kept.extend_from_slice(read);
        let mut out = Gather::new(&kept, &mut scratch);
        let done = down(&mut server, Some(&mut client), &kept, &mut out);
        outcome.sent.extend_from_slice(out.finish());
        assert!(done.taken <= kept.len());
        kept.drain(..done.taken);
        if done.broken {
            outcome.ended = true;
            break;
        }
    }
    outcome
}

fn messages(tags: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            &b"select 1\0"[..],
            b"set work_mem = 1\0",
            b"s\0select 1\0\0\0",
            b"\0select 2\0\0\0",
            b"\0s\0\0\0\0\0\0\0",
            b"Ss\0",
            b"I",
            b"T",
            b"SELECT 1\0",
            b"SERROR\0C42P01\0Mx\0\0",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let message = (prop::sample::select(tags), body).prop_map(|(tag, body)| {
        let mut out = Vec::new();
        message::put(&mut out, tag, |out| out.extend_from_slice(&body));
        out
    });
    prop::collection::vec(message, 1..12).prop_map(|messages| messages.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_says_arrives_the_same_however_it_is_read(
        bytes in messages(b"QPBDECSHFdcfX?"),
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        prop_assert_eq!(carry_up(&bytes, &[bytes.len()]), carry_up(&bytes, &sizes));
    }

    #[test]
    fn what_a_server_says_arrives_the_same_however_it_is_read(
        bytes in messages(b"TDCZEN123nstSKAGHWIVd"),
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        prop_assert_eq!(carry_down(&bytes, &[bytes.len()]), carry_down(&bytes, &sizes));
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), sizes in prop::collection::vec(1..30_usize, 1..4)) {
        carry_up(&bytes, &sizes);
        carry_down(&bytes, &sizes);
    }
}

/// What the other scanner of ours, which is held against PostgreSQL's grammar, says that a session keeps.
fn keeps(sql: &str) -> bool {
    use bellwether_sql::effect::{Effect, effects};
    effects(sql, bellwether_sql::token::Strings::Standard).iter().any(|effect| {
        matches!(
            effect,
            Effect::Listens
                | Effect::MakesTemporary
                | Effect::LocksAdvisory
                | Effect::HoldsCursor(_)
                | Effect::Prepares(_)
                | Effect::Loads
        )
    })
}

#[test]
fn both_scanners_pin_a_session() {
    for sql in [
        "LISTEN a",
        "/* c */ listen a",
        "SELECT 1; LISTEN a",
        "CREATE TEMP TABLE t (a int)",
        "CREATE LOCAL TEMPORARY VIEW v AS SELECT 1",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "CREATE TABLE pg_temp.t (a int)",
        "SELECT 1 INTO TEMP t",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_catalog.\"pg_try_advisory_lock\" (1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE p AS SELECT 1",
        "LOAD 'x'",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "WITH x AS (SELECT pg_advisory_lock(1)) SELECT 1",
    ] {
        assert!(keeps(sql), "{sql}: the scanner of the grammar's crate");
        assert!(super::effects::Effects::of(sql.as_bytes()).pin.is_some(), "{sql}: the pooler's scanner");
    }
}
