//! What a client wishes: by a comment, or by a command to the proxy.
//!
//! The words of PgCat and PgDog are understood as well.

use crate::token::{Scan, Token};

/// Who shall answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
    /// As the statement itself demands.
    Auto,
}

/// A command that the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SET bellwether.role = ...`; `None`: back to what is configured.
    Set { role: Option<Role>, span: crate::effect::Span },
    /// `SHOW bellwether.role`
    Show,
    /// The value is none of the known ones.
    Unknown,
}

impl Role {
    pub fn parse(word: &str) -> Option<Role> {
        let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        match () {
            () if is(&["leader", "primary", "writer", "master"]) => Some(Role::Primary),
            () if is(&["replica", "standby", "reader", "secondary"]) => Some(Role::Replica),
            () if is(&["auto", "any"]) => Some(Role::Auto),
            () => None,
        }
    }

    /// As `SHOW bellwether.role` tells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "leader",
            Role::Replica => "replica",
            Role::Auto => "auto",
        }
    }
}

/// The wish in the comments of a text: `/* bellwether: replica */`, `-- bellwether: leader`, `/* pgdog_role: primary */`. The last
/// one counts.
pub fn in_comments(scan: &Scan<'_>) -> Option<Role> {
    scan.comments.iter().rev().find_map(|comment| {
        let (key, value) = comment.split_once(':')?;
        matches!(key.trim(), "bellwether" | "pgdog_role").then(|| Role::parse(value.trim()))?
    })
}

/// The command to the proxy that a text is, if it is one.
pub fn command(scan: &Scan<'_>) -> Option<Command> {
    let mut statements = scan.statements();
    let (statement, None) = (statements.next()?, statements.next()) else { return None };
    let (verb, rest) = statement.split_first()?;
    if verb.is("show") {
        return is_ours(rest).filter(|after| after.is_empty()).map(|_| Command::Show);
    }
    if verb.is("reset") {
        let after = is_ours(rest)?;
        let span = crate::effect::Span::Session;
        return after.is_empty().then_some(Command::Set { role: None, span });
    }
    if !verb.is("set") {
        return None;
    }
    let (span, rest) = match rest {
        [local, rest @ ..] if local.is("local") => (crate::effect::Span::Transaction, rest),
        [session, rest @ ..] if session.is("session") => (crate::effect::Span::Session, rest),
        rest => (crate::effect::Span::Session, rest),
    };
    match is_ours(rest)? {
        [sign, value] if sign.is("to") || sign.raw == "=" => {
            let word = value.plain_text().or_else(|| value.name())?;
            if word.eq_ignore_ascii_case("default") {
                return Some(Command::Set { role: None, span });
            }
            Some(Role::parse(&word).map_or(Command::Unknown, |role| Command::Set { role: Some(role), span }))
        }
        _ => Some(Command::Unknown),
    }
}

/// What stands behind the name of our parameter.
fn is_ours<'a, 'b>(rest: &'a [Token<'b>]) -> Option<&'a [Token<'b>]> {
    match rest {
        [schema, dot, role, rest @ ..]
            if schema.is_any(&["bellwether", "pgdog"]) && dot.is_mark(".") && role.is("role") =>
        {
            Some(rest)
        }
        [server, role, rest @ ..] if server.is("server") && role.is("role") => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Span;
    use crate::token::{Strings, scan};

    fn wish(text: &str) -> Option<Role> {
        in_comments(&scan(text, Strings::Standard).unwrap())
    }

    fn told(text: &str) -> Option<Command> {
        command(&scan(text, Strings::Standard).unwrap())
    }

    #[test]
    fn comments_carry_wishes() {
        assert_eq!(wish("/* bellwether: replica */ SELECT 1"), Some(Role::Replica));
        assert_eq!(wish("SELECT 1 -- bellwether:leader"), Some(Role::Primary));
        assert_eq!(wish("/* pgdog_role: primary */ SELECT 1"), Some(Role::Primary));
        assert_eq!(wish("SELECT '/* bellwether: replica */'"), None);
        assert_eq!(wish("/* bellwether: elsewhere */ SELECT 1"), None);
    }

    #[test]
    fn commands_to_the_proxy() {
        let set = |role, span| Some(Command::Set { role, span });
        assert_eq!(told("SET bellwether.role = 'replica'"), set(Some(Role::Replica), Span::Session));
        assert_eq!(told("set local bellwether.role to leader;"), set(Some(Role::Primary), Span::Transaction));
        assert_eq!(told("SET SERVER ROLE TO 'any'"), set(Some(Role::Auto), Span::Session));
        assert_eq!(told("SET SERVER ROLE TO 'default'"), set(None, Span::Session));
        assert_eq!(told("RESET bellwether.role"), set(None, Span::Session));
        assert_eq!(told("SHOW bellwether.role"), Some(Command::Show));
        assert_eq!(told("SET bellwether.role = 'moon'"), Some(Command::Unknown));
        for other in ["SET role = 'x'", "SHOW role", "SET bellwether.role = 'x'; SELECT 1", "SELECT 1", ""] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
