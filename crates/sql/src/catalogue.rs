//! What a database says about its functions, operators and relations.
//!
//! Names alone are compared, without schemas and argument types: a name is safe if everything that bears it is. That is coarser
//! than PostgreSQL's own resolution, and never wrong in the dangerous direction.

use crate::facts::{Because, Names};
use std::collections::HashSet;

/// The query that reads it: rows of a kind and a name, for [`Catalogue::from_rows`]. Any member can answer it.
pub const QUERY: &str = include_str!("catalogue.sql");

/// The names of a database that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    safe_functions: HashSet<String>,
    unsafe_operators: HashSet<String>,
    /// Relations, types, and functions that may be written like fields.
    unsafe_others: HashSet<String>,
}

/// A row that the query cannot have returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue's query returned a row of the unknown kind {0:?}")]
pub struct UnknownKind(pub String);

/// What each server says of itself, not of the data.
const OF_THE_SERVER: [&str; 8] = [
    "pg_locks",
    "pg_settings",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_cursors",
    "pg_show_all_settings",
    "pg_replication_slots",
];
const OF_THE_SERVER_PREFIXES: [&str; 5] =
    ["pg_stat", "pg_prepared_", "pg_replication_", "pg_shmem_", "pg_backend_"];

impl Catalogue {
    pub fn from_rows<'a>(
        rows: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Catalogue, UnknownKind> {
        let mut catalogue = Catalogue::default();
        for (kind, name) in rows {
            let names = match kind {
                "safe_function" => &mut catalogue.safe_functions,
                "operator" => &mut catalogue.unsafe_operators,
                "relation" | "type" | "field" => &mut catalogue.unsafe_others,
                other => return Err(UnknownKind(other.to_owned())),
            };
            names.insert(name.to_owned());
        }
        Ok(catalogue)
    }

    /// What speaks against reading these names on a replica.
    pub fn objection(&self, names: &Names) -> Option<Because> {
        let call =
            names.calls.iter().find(|name| !self.safe_functions.contains(*name) || is_of_the_server(name));
        if let Some(name) = call {
            return Some(Because::Calls(name.clone()));
        }
        let other =
            names.others.iter().find(|name| self.unsafe_others.contains(*name) || is_of_the_server(name));
        if let Some(name) = other {
            return Some(Because::Names(name.clone()));
        }
        let operator = names.operators.iter().find(|name| self.unsafe_operators.contains(*name));
        operator.map(|name| Because::UsesOperator(name.clone()))
    }
}

fn is_of_the_server(name: &str) -> bool {
    OF_THE_SERVER.contains(&name) || OF_THE_SERVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(calls: &[&str], others: &[&str], operators: &[&str]) -> Names {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names { calls: set(calls), others: set(others), operators: set(operators) }
    }

    #[test]
    fn an_unknown_function_and_a_known_danger_are_objected_to() {
        let rows = [
            ("safe_function", "lower"),
            ("relation", "unlogged"),
            ("operator", "@@@"),
            ("safe_function", "pg_stat_get_db_numbackends"),
        ];
        let catalogue = Catalogue::from_rows(rows).unwrap();
        assert_eq!(catalogue.objection(&names(&["lower"], &["t"], &["="])), None);
        let calls = |name: &str| Some(Because::Calls(name.into()));
        assert_eq!(catalogue.objection(&names(&["lower", "nextval"], &[], &[])), calls("nextval"));
        assert_eq!(
            catalogue.objection(&names(&["pg_stat_get_db_numbackends"], &[], &[])),
            calls("pg_stat_get_db_numbackends"),
            "it tells of this one server"
        );
        assert_eq!(
            catalogue.objection(&names(&[], &["unlogged"], &[])),
            Some(Because::Names("unlogged".into()))
        );
        assert!(catalogue.objection(&names(&[], &["pg_stat_activity"], &[])).is_some());
        assert_eq!(
            catalogue.objection(&names(&[], &[], &["@@@"])),
            Some(Because::UsesOperator("@@@".into()))
        );
        assert!(Catalogue::from_rows([("other", "x")]).is_err());
    }
}
