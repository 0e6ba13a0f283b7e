//! Secrets of users, read from a server.
//!
//! The contract of an `auth_query`: it takes the user's name as `$1` and returns one row or none, whose first column is the name
//! and whose second is the secret in one of the forms of [`Secret`], or null for a user who has none. [`DEFAULT`] and
//! [`function_definition`] fulfil it. [`Cache`] keeps what was read, for as long as it may be believed.

use super::secret::{Secret, SecretError};
use std::collections::BTreeMap;
use std::time::Duration;

/// For a lookup user who is a superuser. A password that has expired is none.
pub const DEFAULT: &str = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
     FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";

/// The statements that create `schema.user_search` in a database: it reads `pg_authid` with the rights of whoever creates it, and
/// only `lookup_role` may call it. The query is then `SELECT usename, passwd FROM schema.user_search($1)`.
pub fn function_definition(schema: &str, lookup_role: &str) -> String {
    let (schema, role) = (quote_identifier(schema), quote_identifier(lookup_role));
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema};\n\
         CREATE OR REPLACE FUNCTION {schema}.user_search(uname name, OUT usename name, OUT passwd text)\n\
         RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n\
         SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END\n\
         FROM pg_authid WHERE rolname = uname AND rolcanlogin\n\
         $$;\n\
         REVOKE ALL ON FUNCTION {schema}.user_search(name) FROM PUBLIC;\n\
         GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT EXECUTE ON FUNCTION {schema}.user_search(name) TO {role};\n"
    )
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A result that breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    #[error("auth_query returned {0} rows for one user: one or none is expected")]
    Rows(usize),
    #[error("auth_query returned {0} columns: the name and the secret are expected")]
    Columns(usize),
    #[error("auth_query returned the user {returned:?} when asked for {asked:?}")]
    OtherUser { asked: String, returned: String },
    #[error("auth_query returned a secret for {user:?} that cannot be used: {problem}")]
    Secret { user: String, problem: SecretError },
}

/// What the rows of an `auth_query` for `user` say: the secret, or that there is none.
pub fn secret_of(user: &str, rows: &[Vec<Option<String>>]) -> Result<Option<Secret>, ContractError> {
    let row = match rows {
        [] => return Ok(None),
        [row] => row,
        rows => return Err(ContractError::Rows(rows.len())),
    };
    let [name, secret, ..] = row.as_slice() else { return Err(ContractError::Columns(row.len())) };
    if name.as_deref() != Some(user) {
        let returned = name.clone().unwrap_or_default();
        return Err(ContractError::OtherUser { asked: user.to_owned(), returned });
    }
    match secret.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => Secret::parse(text)
            .map(Some)
            .map_err(|problem| ContractError::Secret { user: user.to_owned(), problem }),
    }
}

/// How long an answer is believed.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// After this it is read again.
    pub ttl: Duration,
    /// After a failed login a younger one is read again as well, but not one as young as this: guessing passwords must not become
    /// a flood of queries.
    pub retry: Duration,
    /// So many names are remembered; names that nobody has cannot fill the memory.
    pub most: usize,
}

impl Default for Ages {
    fn default() -> Ages {
        Ages { ttl: Duration::from_secs(60), retry: Duration::from_secs(1), most: 10_000 }
    }
}

/// What was read for each user, and when (as time since any fixed moment).
#[derive(Debug, Default)]
pub struct Cache {
    ages: Ages,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    secret: Option<Secret>,
    read_at: Duration,
}

/// What to do for a login.
#[derive(Debug)]
pub enum Lookup {
    Known(Option<Secret>),
    /// Ask the server. If that fails, this is what was known last (`None`: nothing is known).
    Ask {
        last: Option<Option<Secret>>,
    },
}

impl Cache {
    pub fn new(ages: Ages) -> Cache {
        Cache { ages, entries: BTreeMap::new() }
    }

    pub fn lookup(&self, user: &str, now: Duration) -> Lookup {
        match self.entries.get(user) {
            Some(entry) if now.saturating_sub(entry.read_at) < self.ages.ttl => {
                Lookup::Known(entry.secret.clone())
            }
            entry => Lookup::Ask { last: entry.map(|entry| entry.secret.clone()) },
        }
    }

    /// A login with the cached secret has failed, or a server has said that it is stale. Whether to read it again before the client
    /// is refused: the password may have been changed a moment ago.
    pub fn ask_again(&self, user: &str, now: Duration) -> bool {
        self.entries.get(user).is_none_or(|entry| now.saturating_sub(entry.read_at) >= self.ages.retry)
    }

    pub fn store(&mut self, user: &str, secret: Option<Secret>, now: Duration) {
        if self.entries.len() >= self.ages.most && !self.entries.contains_key(user) {
            self.make_room(now);
        }
        self.entries.insert(user.to_owned(), Entry { secret, read_at: now });
    }

    /// Forgets what is too old; if that is nothing, the oldest one.
    fn make_room(&mut self, now: Duration) {
        let ttl = self.ages.ttl;
        self.entries.retain(|_, entry| now.saturating_sub(entry.read_at) < ttl);
        if self.entries.len() >= self.ages.most {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.read_at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.entries.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&str>]) -> Vec<Option<String>> {
        columns.iter().map(|column| column.map(str::to_owned)).collect()
    }

    #[test]
    fn one_row_or_none_with_the_name_and_the_secret() {
        let ask = |rows: &[Vec<Option<String>>]| secret_of("alice", rows);
        assert!(ask(&[]).unwrap().is_none());
        assert!(ask(&[row(&[Some("alice"), None])]).unwrap().is_none());
        assert!(ask(&[row(&[Some("alice"), Some("")])]).unwrap().is_none());
        assert!(matches!(ask(&[row(&[Some("alice"), Some("secret")])]), Ok(Some(Secret::Plain(_)))));
        assert!(matches!(ask(&[row(&[Some("bob"), Some("x")])]), Err(ContractError::OtherUser { .. })));
        assert!(matches!(ask(&[row(&[Some("alice")])]), Err(ContractError::Columns(1))));
        let two = [row(&[Some("alice"), None]), row(&[Some("alice"), None])];
        assert!(matches!(ask(&two), Err(ContractError::Rows(2))));
        let damaged = ask(&[row(&[Some("alice"), Some("SCRAM-SHA-256$s3cret")])]).unwrap_err();
        assert!(!damaged.to_string().contains("s3cret"), "{damaged}");
    }

    #[test]
    fn a_secret_is_believed_for_its_time_and_read_again_after_a_failure() {
        let mut cache = Cache::new(Ages::default());
        let at = Duration::from_secs;
        assert!(matches!(cache.lookup("alice", at(5)), Lookup::Ask { last: None }));
        cache.store("alice", None, at(5));
        assert!(matches!(cache.lookup("alice", at(64)), Lookup::Known(None)));
        assert!(matches!(cache.lookup("alice", at(65)), Lookup::Ask { last: Some(None) }));
        assert!(!cache.ask_again("alice", at(5)), "just read: the password is wrong");
        assert!(cache.ask_again("alice", at(6)));
    }

    #[test]
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let mut cache = Cache::new(Ages { most: 3, ..Ages::default() });
        for second in 0..10 {
            cache.store(&format!("nobody{second}"), None, Duration::from_secs(second));
        }
        assert_eq!(cache.entries.len(), 3);
        assert!(cache.entries.contains_key("nobody9") && !cache.entries.contains_key("nobody0"));
    }

    #[test]
    fn names_in_the_definition_are_quoted() {
        let text = function_definition("s\"; DROP TABLE x; --", "pooler");
        assert!(text.contains("\"s\"\"; DROP TABLE x; --\".user_search"), "{text}");
    }
}
