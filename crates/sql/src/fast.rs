//! The fast path: plain statements, read without the grammar.
//!
//! It answers only where the words alone leave no doubt, and names more than the grammar would, never less. Tests hold each of its
//! answers against the grammar's.

use crate::facts::{Access, Because, Names, Shape};
use crate::keyword::is_keyword;
use crate::token::{Kind, Scan, Token};

/// Statements that begin with these are not for a replica, whatever follows.
const COMMANDS: [&str; 40] = [
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "create",
    "alter",
    "drop",
    "grant",
    "revoke",
    "comment",
    "vacuum",
    "analyze",
    "cluster",
    "reindex",
    "refresh",
    "call",
    "do",
    "lock",
    "listen",
    "notify",
    "unlisten",
    "prepare",
    "execute",
    "deallocate",
    "declare",
    "fetch",
    "move",
    "close",
    "set",
    "reset",
    "discard",
    "load",
    "checkpoint",
    "security",
    "reassign",
    "import",
    "repack",
    "wait",
    "property",
];

/// They go where the transaction is.
const ENDS: [&str; 5] = ["commit", "rollback", "end", "abort", "savepoint"];

/// Keywords that may stand in a query which this module answers for. Behind these no call begins.
const STRUCTURE: [&str; 41] = [
    "select", "from", "where", "and", "or", "not", "in", "is", "null", "true", "false", "as", "order", "by",
    "asc", "desc", "limit", "offset", "group", "having", "join", "inner", "full", "outer", "cross", "on",
    "using", "distinct", "case", "when", "then", "else", "end", "union", "all", "exists", "between", "nulls",
    "first", "last", "any",
];

/// Those of them that can be the name of a function or a type as well.
const AMBIGUOUS: [&str; 10] =
    ["is", "join", "inner", "full", "outer", "cross", "nulls", "first", "last", "by"];

/// Those of them that can be the name of a relation: `SELECT FROM by` is one.
const RELATIONS: [&str; 6] = ["by", "nulls", "first", "last", "between", "exists"];

/// Keywords that may be names there.
const NAMES: [&str; 40] = [
    "left", "right", "name", "type", "value", "key", "data", "level", "content", "index", "language",
    "location", "method", "mode", "object", "role", "session", "source", "state", "system", "target",
    "version", "text", "year", "month", "day", "hour", "minute", "second", "action", "class", "domain",
    "label", "start", "stop", "comment", "owner", "number", "region", "status",
];

/// What the statement is; `None`: the grammar must say it.
pub fn read(scan: &Scan<'_>) -> Option<(Shape, Names)> {
    let mut statements = scan.statements();
    let Some(statement) = statements.next() else { return Some((Shape::Empty, Names::default())) };
    if statements.next().is_some() {
        return Some((Shape::Primary(Because::SeveralStatements), Names::default()));
    }
    let (first, rest) = statement.split_first()?;
    let shape = match first.name().filter(|_| first.kind == Kind::Word)?.as_ref() {
        "select" => return query(rest),
        "begin" if rest.is_empty() => Shape::Begin(Access::Unstated),
        "start" if matches!(rest, [only] if only.is("transaction")) => Shape::Begin(Access::Unstated),
        word if COMMANDS.contains(&word) => Shape::Primary(Because::Command),
        word if ENDS.contains(&word) => Shape::Primary(Because::EndsTransaction),
        _ => return None,
    };
    Some((shape, Names::default()))
}

fn query(rest: &[Token<'_>]) -> Option<(Shape, Names)> {
    let mut names = Names::default();
    for (at, token) in rest.iter().enumerate() {
        match token.kind {
            Kind::Word | Kind::Quoted => {
                // Behind a dot every word is a name, also a keyword.
                let before = at.checked_sub(1).and_then(|at| rest.get(at));
                let is_name = token.kind == Kind::Quoted || before.is_some_and(|before| before.is_mark("."));
                word(token, is_name, rest.get(at + 1), &mut names)?;
            }
            Kind::Operator => _ = names.operators.insert(operator(token.raw).to_owned()),
            Kind::Number if token.raw.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {}
            Kind::Number => return None,
            Kind::Mark if matches!(token.raw, "(" | ")" | "," | ".") => {}
            Kind::Mark => return None,
            // Other kinds of strings are given a type by the grammar.
            Kind::Text if token.raw.starts_with(['\'', '$']) => {}
            Kind::Text => return None,
            Kind::Parameter => {}
        }
    }
    Some((Shape::Query, names))
}

fn word(token: &Token<'_>, is_name: bool, next: Option<&Token<'_>>, names: &mut Names) -> Option<()> {
    let name = token.name()?;
    if !is_name {
        if STRUCTURE.contains(&name.as_ref()) {
            // libpg_query also takes a parameter where a string of a named type is expected.
            let before_value = next
                .is_some_and(|next| next.is_mark("(") || matches!(next.kind, Kind::Text | Kind::Parameter));
            if before_value && AMBIGUOUS.contains(&name.as_ref()) {
                return None;
            }
            let implied: &[&str] = match name.as_ref() {
                "in" => &["=", "<>"],
                "distinct" => &["="],
                "between" => &[">=", "<=", "<", ">"],
                _ => &[],
            };
            if RELATIONS.contains(&name.as_ref()) {
                names.others.insert(name.clone().into_owned());
            }
            names.operators.extend(implied.iter().map(|operator| (*operator).to_owned()));
            return Some(());
        }
        if is_keyword(&name) && !NAMES.contains(&name.as_ref()) {
            return None;
        }
    }
    if next.is_some_and(|next| next.is_mark("(")) {
        names.calls.insert(name.clone().into_owned());
    }
    names.others.insert(name.into_owned());
    Some(())
}

fn operator(raw: &str) -> &str {
    if raw == "!=" { "<>" } else { raw }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Strings, scan};

    fn of(text: &str) -> Option<(Shape, Names)> {
        read(&scan(text, Strings::Standard).unwrap())
    }

    #[test]
    fn what_is_plain_is_answered() {
        let (shape, names) = of("SELECT abalance FROM pgbench_accounts WHERE aid = 1;").unwrap();
        assert_eq!(shape, Shape::Query);
        assert!(names.others.contains("pgbench_accounts") && names.operators.contains("="));
        assert_eq!(of("UPDATE t SET a = 1").unwrap().0, Shape::Primary(Because::Command));
        assert_eq!(of("begin").unwrap().0, Shape::Begin(Access::Unstated));
        assert_eq!(of("; ;").unwrap().0, Shape::Empty);
        assert_eq!(of("select 1; select 2").unwrap().0, Shape::Primary(Because::SeveralStatements));
    }

    #[test]
    fn a_relation_may_be_called_by_a_keyword() {
        for name in RELATIONS {
            let (_, names) = of(&format!("SELECT FROM {name}")).unwrap();
            assert!(names.others.contains(name), "{name}");
        }
    }

    #[test]
    fn calls_are_found() {
        for (text, call) in [
            ("SELECT nextval('s')", "nextval"),
            ("SELECT \"My Func\" (1)", "My Func"),
            ("SELECT s.f(1) FROM t", "f"),
            ("SELECT left ('abc', 1)", "left"),
            ("SELECT s.all(1)", "all"),
        ] {
            assert!(of(text).unwrap().1.calls.contains(call), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_grammar() {
        for text in [
            "SELECT 1 FOR UPDATE",
            "SELECT 1 INTO t",
            "WITH x AS (SELECT 1) SELECT 2",
            "SELECT a::int FROM t",
            "SELECT a[1] FROM t",
            "TABLE t",
            "BEGIN READ ONLY",
            "SELECT extract(year FROM d) FROM t",
            "SELECT d AT TIME ZONE 'UTC' FROM t",
            "SELECT 0x1f",
            "SELECT first(a) FROM t",
            "SELECT join 'a'",
            "SELECT is $1",
            "SELECT E'a'",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
