use super::*;

fn pin(sql: &str) -> Option<Pin> {
    Effects::of(sql.as_bytes()).pin
}

fn changes(sql: &str) -> Vec<String> {
    Effects::of(sql.as_bytes())
        .changes
        .into_iter()
        .map(|change| match change {
            Change::Set(setting) => setting.apply,
            Change::Reset(name) => format!("reset {name}"),
            Change::ResetAll => "reset all".into(),
        })
        .collect()
}

#[test]
fn plain_statements_leave_nothing_behind() {
    for sql in [
        "select 1",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
        "BEGIN",
        "select 'set x to 1; listen a', \"pg_advisory\" from t",
        "insert into t values ($$ listen x; $$)",
        "select pg_advisory_xact_lock(1)",
        "select pg_try_advisory_xact_lock_shared(1, 2)",
        "set local work_mem = '1MB'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "set constraints all deferred",
        "create table t (temp int)",
        "prepare transaction 'x'",
        "declare c cursor for select 1",
        "select temp from readings",
        "/* set x to 1 */ select 1 -- listen",
        "",
        ";;",
    ] {
        assert!(Effects::of(sql.as_bytes()).is_none(), "{sql}: {:?}", Effects::of(sql.as_bytes()));
    }
}

#[test]
fn what_stays_in_the_session_keeps_the_server() {
    for (sql, expected) in [
        ("listen events", Pin::Listen),
        ("select 1; LISTEN events", Pin::Listen),
        ("/* c */ -- d\n listen x", Pin::Listen),
        ("create temp table t (a int)", Pin::TemporaryTable),
        ("CREATE LOCAL TEMPORARY TABLE t AS SELECT 1", Pin::TemporaryTable),
        ("create or replace temp view v as select 1", Pin::TemporaryTable),
        ("select * into temp t from s", Pin::TemporaryTable),
        ("select * into temporary table t from s", Pin::TemporaryTable),
        ("select pg_advisory_lock(1)", Pin::AdvisoryLock),
        ("with x as (select PG_TRY_ADVISORY_LOCK(1)) select 1", Pin::AdvisoryLock),
        ("(select pg_advisory_lock_shared(1))", Pin::AdvisoryLock),
        ("prepare s as select 1", Pin::Prepare),
        ("declare c cursor with hold for select 1", Pin::HoldCursor),
        ("select set_config('a.b', 'c', false)", Pin::Setting),
        ("set session characteristics as transaction read only", Pin::Setting),
        ("do $$ begin perform pg_advisory_lock(1); end $$", Pin::AdvisoryLock),
        ("load 'auto_explain'", Pin::Other),
        ("set nonsense", Pin::Setting),
    ] {
        assert_eq!(pin(sql), Some(expected), "{sql}");
    }
}

#[test]
fn settings_are_kept_as_statements_that_can_be_repeated() {
    for (sql, expected) in [
        ("SET work_mem = '64MB'", r#"SET "work_mem" TO '64MB'"#),
        ("set search_path to a, \"B\"", r#"SET "search_path" TO a, "B""#),
        ("set session statement_timeout=100", r#"SET "statement_timeout" TO 100"#),
        ("SET my.Setting TO 'a;b'", r#"SET "my"."setting" TO 'a;b'"#),
        ("set time zone 'UTC'", "SET TIME ZONE 'UTC'"),
        ("set role admin", "SET ROLE admin"),
        ("set session authorization bob", "SET SESSION AUTHORIZATION bob"),
        ("set names 'LATIN1'", "SET NAMES 'LATIN1'"),
        ("reset work_mem", "reset work_mem"),
        ("reset time zone", "reset timezone"),
        ("RESET ALL", "reset all"),
        ("discard all", "reset all"),
    ] {
        assert_eq!(changes(sql), [expected], "{sql}");
        assert_eq!(pin(sql), None, "{sql}");
    }
    assert_eq!(changes("set a = 1; select 1; set b = 2").len(), 2);
}

#[test]
fn a_string_hides_what_stands_in_it() {
    assert_eq!(changes(r"select E'\'; set a = 1; --'"), Vec::<String>::new());
    assert_eq!(changes(r"select '\'; set a = 1; --'"), [r#"SET "a" TO 1"#], "no escape in a plain string");
    assert_eq!(changes("select $t$ ; set a = 1 $t$; set b = 2"), [r#"SET "b" TO 2"#]);
    assert_eq!(changes("select $1; set b = 2"), [r#"SET "b" TO 2"#], "a parameter is no quote");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(sql in "[a-z$'\";/*_ -]{0,60}", bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = Effects::of(sql.as_bytes());
        let _ = Effects::of(&bytes);
    }
}
