//! What a statement leaves behind in its session, as far as its text shows.
//!
//! Not seen is what functions and procedures do inside: one that takes an advisory lock or makes a temporary table does so
//! unnoticed, as with every pooler. The body of a `DO` is looked into.

use crate::token::{Kind, Scan, Strings, Token, scan};
use std::borrow::Cow;

mod settings;

/// A change of the session that outlives the transaction, or may do so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Listens,
    /// From all channels, or only from this one.
    Unlistens(Which),
    /// Something that is only there for this session: a table, view or sequence.
    MakesTemporary,
    DropsTemporary,
    /// An advisory lock of the session, not of the transaction.
    LocksAdvisory,
    UnlocksAllAdvisory,
    HoldsCursor(String),
    ClosesCursor(Which),
    /// `PREPARE` as a statement; what the extended protocol prepares is not seen here.
    Prepares(String),
    Deallocates(Which),
    Sets {
        parameter: String,
        span: Span,
    },
    Resets(Which),
    /// `LOAD`: a library in this one server process.
    Loads,
    /// `DISCARD ALL`: as if it had just begun.
    ForgetsAll,
    /// It may leave behind anything: nobody can tell.
    Unknown,
}

/// One by its name, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    One(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Session,
    /// `SET LOCAL`: until the transaction ends.
    Transaction,
}

/// The effects of all statements of a text, in their order. What is lexically wrong has none: the server refuses it.
pub fn effects(text: &str, strings: Strings) -> Vec<Effect> {
    match scan(text, strings) {
        Ok(scan) => effects_of(&scan),
        // Servers differ in how they read it.
        Err(error) if error.doubtful => vec![Effect::Unknown],
        Err(_) => Vec::new(),
    }
}

/// The same, of a text that was scanned already.
pub fn effects_of(scan: &Scan<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for statement in scan.statements() {
        of_statement(statement, &mut effects);
        by_functions(statement, &mut effects);
        if makes_temporary(statement) {
            effects.push(Effect::MakesTemporary);
        }
    }
    effects
}

fn of_statement(statement: &[Token<'_>], effects: &mut Vec<Effect>) {
    let Some((first, rest)) = statement.split_first() else { return };
    if first.kind != Kind::Word {
        return;
    }
    let effect = match first.raw.to_ascii_lowercase().as_str() {
        "listen" => Effect::Listens,
        "unlisten" => Effect::Unlistens(which(rest)),
        "load" => Effect::Loads,
        "close" => Effect::ClosesCursor(which(rest)),
        "declare" if is_held(rest) => Effect::HoldsCursor(name_of(rest)),
        "prepare" if !rest.first().is_some_and(|next| next.is("transaction")) => {
            Effect::Prepares(name_of(rest))
        }
        "deallocate" => match rest {
            [prepare, rest @ ..] if prepare.is("prepare") => Effect::Deallocates(which(rest)),
            rest => Effect::Deallocates(which(rest)),
        },
        "discard" => match rest.first() {
            Some(what) if what.is("all") => Effect::ForgetsAll,
            Some(what) if what.is_any(&["temp", "temporary"]) => Effect::DropsTemporary,
            _ => return,
        },
        "set" => match settings::of_set(rest) {
            Some(effect) => effect,
            None => return,
        },
        "reset" => settings::of_reset(rest),
        "do" => {
            effects.extend(of_block(rest));
            return;
        }
        _ => return,
    };
    effects.push(effect);
}

fn name_of(rest: &[Token<'_>]) -> String {
    rest.first().and_then(Token::name).map(Cow::into_owned).unwrap_or_default()
}

/// `*` and `ALL` are all.
fn which(rest: &[Token<'_>]) -> Which {
    match rest.first() {
        Some(token) if token.is("all") || token.raw == "*" => Which::All,
        _ => Which::One(name_of(rest)),
    }
}

/// `DECLARE name ... CURSOR WITH HOLD FOR ...`
fn is_held(rest: &[Token<'_>]) -> bool {
    let head = rest.iter().take_while(|token| !token.is("for")).collect::<Vec<_>>();
    head.windows(2).any(|pair| pair[0].is("with") && pair[1].is("hold"))
}

fn makes_temporary(statement: &[Token<'_>]) -> bool {
    let before = ["create", "replace", "local", "global", "into"];
    let by_word =
        statement.windows(2).any(|pair| pair[1].is_any(&["temp", "temporary"]) && pair[0].is_any(&before));
    // Only statements that make something can make it there; to read from there is no news.
    let makes = statement.iter().any(|token| token.is_any(&["create", "into", "set", "alter"]));
    let by_schema = makes && statement.iter().any(|token| token.name().as_deref() == Some("pg_temp"));
    by_word || by_schema
}

/// What calls of PostgreSQL's own functions do to a session.
fn by_functions(statement: &[Token<'_>], effects: &mut Vec<Effect>) {
    for (at, pair) in statement.windows(2).enumerate() {
        if !pair[1].is_mark("(") {
            continue;
        }
        let Some(name) = pair[0].name() else { continue };
        match &*name {
            "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared" => effects.push(Effect::LocksAdvisory),
            "pg_advisory_unlock_all" => effects.push(Effect::UnlocksAllAdvisory),
            "set_config" => effects.push(settings::of_function(&statement[at + 2..])),
            _ => {}
        }
    }
}

/// Looks into the body of a `DO`. What could pin is not told apart: the block may have run it or not.
fn of_block(rest: &[Token<'_>]) -> Option<Effect> {
    let body = rest.iter().find(|token| token.kind == Kind::Text)?.raw;
    let body = match body.strip_prefix('$') {
        Some(tagged) => {
            let tag = tagged.find('$')? + 2;
            body.get(tag..body.len() - tag)?
        }
        // Quotation marks within are doubled; in doubt it may be anything.
        None => return Some(Effect::Unknown),
    };
    let Ok(inner) = scan(body, Strings::Standard) else { return Some(Effect::Unknown) };
    let opens = ["begin", "then", "else", "loop"];
    let mut statement_begins = true;
    for (at, token) in inner.tokens.iter().enumerate() {
        let starts_one = token.is_any(&["listen", "load", "set", "reset", "prepare", "execute", "discard"]);
        let call = inner.tokens.get(at + 1).is_some_and(|next| next.is_mark("("));
        let name = token.name().unwrap_or_default();
        let locks = call && name.contains("advisory") && !name.contains("xact");
        if (statement_begins && starts_one)
            || locks
            || name == "set_config"
            || name == "pg_temp"
            || token.is_any(&["temp", "temporary"])
        {
            return Some(Effect::Unknown);
        }
        statement_begins = token.is_mark(";") || token.is_any(&opens);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Effect> {
        effects(text, Strings::Standard)
    }

    #[test]
    fn statements_that_leave_something_behind() {
        assert_eq!(of("LISTEN news"), [Effect::Listens]);
        assert_eq!(of("unlisten *"), [Effect::Unlistens(Which::All)]);
        assert_eq!(of("UNLISTEN \"News\""), [Effect::Unlistens(Which::One("News".into()))]);
        assert_eq!(of("PREPARE p (int) AS SELECT $1"), [Effect::Prepares("p".into())]);
        assert_eq!(of("DEALLOCATE PREPARE ALL"), [Effect::Deallocates(Which::All)]);
        assert_eq!(of("deallocate p"), [Effect::Deallocates(Which::One("p".into()))]);
        assert_eq!(of("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1"), [Effect::HoldsCursor("c".into())]);
        assert_eq!(of("close all"), [Effect::ClosesCursor(Which::All)]);
        assert_eq!(of("DISCARD ALL"), [Effect::ForgetsAll]);
        assert_eq!(of("discard temp"), [Effect::DropsTemporary]);
        assert_eq!(of("LOAD 'auto_explain'"), [Effect::Loads]);
    }

    #[test]
    fn what_is_temporary() {
        for text in [
            "CREATE TEMP TABLE t (a int)",
            "create temporary view v as select 1",
            "CREATE LOCAL TEMPORARY TABLE t (a int)",
            "create or replace temp view v as select 1",
            "SELECT 1 INTO TEMP x",
            "CREATE TABLE pg_temp.t (a int)",
            "SELECT * INTO pg_temp.t FROM u",
            "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        ] {
            assert_eq!(of(text), [Effect::MakesTemporary], "{text}");
        }
        assert_eq!(of("SELECT * FROM pg_temp.t"), []);
        assert_eq!(of("SELECT temp FROM weather"), []);
    }

    #[test]
    fn functions_of_the_session() {
        assert_eq!(of("SELECT pg_advisory_lock(1)"), [Effect::LocksAdvisory]);
        assert_eq!(of("SELECT pg_catalog.\"pg_try_advisory_lock\" (1)"), [Effect::LocksAdvisory]);
        assert_eq!(of("SELECT pg_advisory_xact_lock(1)"), [], "ends with the transaction");
        assert_eq!(of("SELECT pg_advisory_unlock_all()"), [Effect::UnlocksAllAdvisory]);
        assert_eq!(of("SELECT 'pg_advisory_lock(1)'"), []);
    }

    #[test]
    fn what_leaves_nothing_behind() {
        for text in [
            "SELECT 1",
            "INSERT INTO t VALUES ('LISTEN x')",
            "PREPARE TRANSACTION 'x'",
            "DECLARE c CURSOR FOR SELECT 1",
            "DISCARD PLANS",
            "-- LISTEN x\nSELECT 1",
            "DO $$ begin update t set a = 1; perform pg_advisory_xact_lock(1); end $$",
            "SELECT 'open",
            "",
        ] {
            assert_eq!(of(text), [], "{text}");
        }
    }

    #[test]
    fn each_statement_of_a_text_counts() {
        assert_eq!(
            of("BEGIN; LISTEN a; SELECT pg_advisory_lock(2); COMMIT"),
            [Effect::Listens, Effect::LocksAdvisory]
        );
    }

    #[test]
    fn a_block_is_looked_into() {
        for text in [
            "DO $x$ begin create temp table t (a int); end $x$",
            "DO LANGUAGE plpgsql $$ begin perform pg_advisory_lock(1); end $$",
            "DO $$ begin set work_mem = '1MB'; end $$",
            "DO $$ begin perform set_config('a.b', 'c', false); end $$",
            "DO $$ begin execute 'listen x'; end $$",
            "DO 'begin null; end'",
        ] {
            assert_eq!(of(text), [Effect::Unknown], "{text}");
        }
    }
}
