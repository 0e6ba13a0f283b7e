//! `userlist.txt` in PgBouncer's form: a line per user, `"name" "secret"`, and whatever follows is ignored.
//!
//! A quotation mark in a name or secret is written twice. Empty lines and lines that begin with `;` or `#` are skipped.

use super::secret::{Secret, SecretError};
use std::collections::BTreeMap;

/// The users of a file, by name.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: BTreeMap<String, Secret>,
}

/// What is wrong with a line. Never shows what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("a user's name and secret are expected, each in double quotes: \"alice\" \"SCRAM-SHA-256$...\"")]
    Form,
    #[error("the secret cannot be used: {0}")]
    Secret(SecretError),
    #[error("the user {0:?} has a line already")]
    Twice(String),
}

impl Users {
    /// Reads a file's text. All problems at once: half of the users would be locked out without anybody knowing why.
    pub fn parse(text: &str) -> Result<Users, Vec<LineError>> {
        let mut users = BTreeMap::new();
        let mut problems = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let content = line.trim_start();
            if content.is_empty() || content.starts_with([';', '#']) {
                continue;
            }
            let problem = match entry(content) {
                Ok((name, _)) if users.contains_key(&name) => Problem::Twice(name),
                Ok((name, secret)) => {
                    users.insert(name, secret);
                    continue;
                }
                Err(problem) => problem,
            };
            problems.push(LineError { line: index + 1, problem });
        }
        if problems.is_empty() { Ok(Users { users }) } else { Err(problems) }
    }

    pub fn secret(&self, user: &str) -> Option<&Secret> {
        self.users.get(user)
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

fn entry(line: &str) -> Result<(String, Secret), Problem> {
    let (name, rest) = quoted(line).ok_or(Problem::Form)?;
    let (secret, _) = quoted(rest.trim_start()).ok_or(Problem::Form)?;
    if name.is_empty() {
        return Err(Problem::Form);
    }
    Ok((name, Secret::parse(&secret).map_err(Problem::Secret)?))
}

/// The string in quotation marks that `text` begins with, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

/// Why a file with secrets must not be used, by its permissions (`st_mode`) and owner; the same rule as PostgreSQL's for private
/// keys. `None` if it may be.
pub fn exposure(mode: u32, owner: u32, own_user: u32) -> Option<String> {
    let permissions = mode & 0o777;
    // A file of root may be readable to a group: that is how packages share one.
    let (forbidden, wanted) =
        if owner == 0 && own_user != 0 { (0o027, "chmod 0640") } else { (0o077, "chmod 0600") };
    if owner != 0 && owner != own_user {
        return Some(format!(
            "it belongs to user id {owner}: it must belong to user id {own_user} or to root"
        ));
    }
    (permissions & forbidden != 0)
        .then(|| format!("others can get at it (its mode is {permissions:04o}): {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_pgbouncer_is_read() {
        let text = "; made by hand\n\n\"alice\" \"secret\"\n  \"bo\"\"b\"   \"md54a0a68b43b6cd5cf266fa02f196e2371\" \"\" more\n";
        let users = Users::parse(text).unwrap();
        assert_eq!(users.len(), 2);
        assert!(matches!(users.secret("alice"), Some(Secret::Plain(_))));
        assert!(matches!(users.secret("bo\"b"), Some(Secret::Md5(_))));
        assert!(users.secret("carol").is_none());
    }

    #[test]
    fn every_bad_line_is_named_and_no_secret_is_told() {
        let text = "\"alice\" \"s3cret\"\nbob s3cret\n\"carol\" \"s3cret\n\"alice\" \"s3cret\"\n\"dave\" \"SCRAM-SHA-256$s3cret\"\n\"erin\" \"\"\n\"\" \"x\"";
        let problems = Users::parse(text).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
        assert_eq!(problems[2].problem, Problem::Twice("alice".into()));
        let told: String = problems.iter().map(ToString::to_string).collect();
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        assert_eq!(exposure(0o100_600, 1000, 1000), None);
        assert_eq!(exposure(0o100_640, 0, 1000), None, "root's, for a group");
        assert!(exposure(0o100_644, 0, 1000).is_some_and(|told| told.contains("0640")));
        assert!(exposure(0o100_640, 1000, 1000).is_some_and(|told| told.contains("0600")));
        assert!(exposure(0o100_604, 1000, 1000).is_some());
        assert!(exposure(0o100_640, 0, 0).is_some(), "root's own");
        assert!(exposure(0o100_600, 1001, 1000).is_some_and(|told| told.contains("1001")));
    }
}
