//! `SET`, `RESET` and `set_config`.

use super::{Effect, Span, Which};
use crate::token::{Kind, Token};

/// What stands behind `SET`; `None` if only the running transaction is concerned.
pub(super) fn of_set(rest: &[Token<'_>]) -> Option<Effect> {
    let (span, rest) = match rest {
        // `SET SESSION CHARACTERISTICS` and `SET SESSION AUTHORIZATION` are commands of their own.
        [session, characteristics, ..] if session.is("session") && characteristics.is("characteristics") => {
            return Some(sets("default_transaction_*", Span::Session));
        }
        [session, authorization, ..] if session.is("session") && authorization.is("authorization") => {
            return Some(sets("session_authorization", Span::Session));
        }
        [local, rest @ ..] if local.is("local") => (Span::Transaction, rest),
        [session, rest @ ..] if session.is("session") && !begins_value(rest) => (Span::Session, rest),
        rest => (Span::Session, rest),
    };
    match rest {
        [time, zone, ..] if time.is("time") && zone.is("zone") => Some(sets("timezone", span)),
        [session, authorization, ..] if session.is("session") && authorization.is("authorization") => {
            Some(sets("session_authorization", span))
        }
        [xml, option, ..] if xml.is("xml") && option.is("option") => Some(sets("xmloption", span)),
        [names, rest @ ..] if names.is("names") && !begins_value(rest) => Some(sets("client_encoding", span)),
        [schema, rest @ ..] if schema.is("schema") && !begins_value(rest) => Some(sets("search_path", span)),
        [role, rest @ ..] if role.is("role") && !begins_value(rest) => Some(sets("role", span)),
        // Both say something about the running transaction.
        [transaction, rest @ ..]
            if transaction.is_any(&["transaction", "constraints"]) && !begins_value(rest) =>
        {
            None
        }
        rest => Some(sets(&parameter(rest), span)),
    }
}

/// What stands behind `RESET`.
pub(super) fn of_reset(rest: &[Token<'_>]) -> Effect {
    Effect::Resets(match rest {
        [all] if all.is("all") => Which::All,
        [time, zone] if time.is("time") && zone.is("zone") => Which::One("timezone".into()),
        [session, _] if session.is("session") => Which::One("session_authorization".into()),
        rest => Which::One(parameter(rest)),
    })
}

/// What stands behind `set_config(`. It lasts for the session unless the third argument is `true` as a word.
pub(super) fn of_function(rest: &[Token<'_>]) -> Effect {
    let parameter = match rest {
        [name, comma, ..] if comma.is_mark(",") => name.plain_text(),
        _ => None,
    };
    let mut depth = 0_usize;
    let mut arguments: Vec<Vec<&Token<'_>>> = vec![Vec::new()];
    for token in rest {
        match (token.kind, token.raw) {
            (Kind::Mark, "(" | "[") => depth += 1,
            (Kind::Mark, ")") if depth == 0 => break,
            (Kind::Mark, ")" | "]") => depth = depth.saturating_sub(1),
            (Kind::Mark, ",") if depth == 0 => {
                arguments.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = arguments.last_mut() {
            last.push(token);
        }
    }
    let local = matches!(arguments.get(2).map(Vec::as_slice), Some([only]) if only.is("true"));
    let span = if local { Span::Transaction } else { Span::Session };
    match parameter {
        Some(name) => sets(&name.to_ascii_lowercase(), span),
        None if local => sets("", span),
        None => Effect::Unknown,
    }
}

fn sets(parameter: &str, span: Span) -> Effect {
    Effect::Sets { parameter: parameter.to_owned(), span }
}

fn begins_value(rest: &[Token<'_>]) -> bool {
    rest.first().is_some_and(|token| token.is("to") || token.raw == "=" || token.is_mark("."))
}

/// A parameter's name, `.` included. PostgreSQL compares them without regard to capitals.
fn parameter(rest: &[Token<'_>]) -> String {
    let mut name = String::new();
    for token in rest {
        match token.name() {
            Some(part) if name.is_empty() || name.ends_with('.') => name.push_str(&part.to_ascii_lowercase()),
            None if token.is_mark(".") && !name.is_empty() => name.push('.'),
            _ => break,
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::effects;
    use super::*;
    use crate::token::Strings;

    fn of(text: &str) -> Effect {
        let mut effects = effects(text, Strings::Standard);
        assert_eq!(effects.len(), 1, "{text}");
        effects.remove(0)
    }

    #[test]
    fn the_forms_of_set() {
        for (text, parameter) in [
            ("SET work_mem = '1MB'", "work_mem"),
            ("set session Work_Mem to default", "work_mem"),
            ("SET myapp.user = 'x'", "myapp.user"),
            ("SET \"TimeZone\" = 'UTC'", "timezone"),
            ("SET TIME ZONE 'UTC'", "timezone"),
            ("SET SESSION TIME ZONE LOCAL", "timezone"),
            ("SET NAMES 'utf8'", "client_encoding"),
            ("SET SCHEMA 'x'", "search_path"),
            ("SET ROLE bob", "role"),
            ("SET role TO bob", "role"),
            ("SET SESSION AUTHORIZATION bob", "session_authorization"),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_*"),
            ("SET XML OPTION DOCUMENT", "xmloption"),
        ] {
            assert_eq!(of(text), sets(parameter, Span::Session), "{text}");
        }
        assert_eq!(of("SET LOCAL work_mem = '1MB'"), sets("work_mem", Span::Transaction));
        assert_eq!(of("SET LOCAL ROLE bob"), sets("role", Span::Transaction));
    }

    #[test]
    fn what_concerns_the_transaction_alone() {
        for text in ["SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED"] {
            assert_eq!(effects(text, Strings::Standard), [], "{text}");
        }
    }

    #[test]
    fn the_forms_of_reset() {
        assert_eq!(of("RESET ALL"), Effect::Resets(Which::All));
        assert_eq!(of("reset Work_mem"), Effect::Resets(Which::One("work_mem".into())));
        assert_eq!(of("RESET TIME ZONE"), Effect::Resets(Which::One("timezone".into())));
        assert_eq!(
            of("RESET SESSION AUTHORIZATION"),
            Effect::Resets(Which::One("session_authorization".into()))
        );
    }

    #[test]
    fn set_config_is_set() {
        assert_eq!(of("SELECT set_config('Work_Mem', '1MB', false)"), sets("work_mem", Span::Session));
        assert_eq!(of("SELECT set_config('a.b', f(1, 2), true)"), sets("a.b", Span::Transaction));
        assert_eq!(of("SELECT set_config('a.b', 'c', $1)"), sets("a.b", Span::Session));
        assert_eq!(of("SELECT set_config($1, $2, false)"), Effect::Unknown);
        assert_eq!(of("SELECT set_config('a.b', 'c', not true)"), sets("a.b", Span::Session));
    }
}
