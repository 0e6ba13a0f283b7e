//! Logical replication slots: made, moved, and carried over from another server as files.
//!
//! None of this uses the persistent connection: a logical slot is bound to a database, and decoding may take long.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use bellwether_types::{Lsn, slots::LogicalSlot};
use tokio_postgres::error::SqlState;

use crate::{
    connect::{ConnectError, Session, session},
    replication::Target,
    settings::PgSettings,
};

/// Decoding takes as long as there is WAL, and a new slot waits for the transactions that run.
const OPTIONS: &str = "-c statement_timeout=0 -c synchronous_commit=local";
/// The primary gives up a question that takes long; nobody waits for its answer then.
const QUESTION_OPTIONS: &str = "-c statement_timeout=2000";
/// From this version on a slot can be marked to be synchronised by the servers.
const HAS_FAILOVER_SLOTS: u32 = 170_000;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    #[error("could not connect to database {database}")]
    Connect {
        database: String,
        #[source]
        cause: ConnectError,
    },
    #[error("a query about replication slots failed")]
    Query(#[from] tokio_postgres::Error),
}

impl SlotError {
    /// What the slot needs is gone: WAL was removed, or the slot was invalidated. It stays so.
    pub fn is_final(&self) -> bool {
        let Self::Query(error) = self else { return false };
        error.code().is_some_and(|code| {
            [SqlState::UNDEFINED_FILE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE].contains(code)
        })
    }
}

/// Makes a logical slot. Waits for the end of every transaction that runs now: it may take long. Dropping the future ends the wait.
pub async fn create_logical(
    settings: &PgSettings,
    name: &str,
    slot: &LogicalSlot,
    server_version: u32,
) -> Result<(), SlotError> {
    let session = local(settings, &slot.database).await?;
    let with_failover = slot.failover && server_version >= HAS_FAILOVER_SLOTS;
    let arguments = if with_failover { "$1, $2, false, false, true" } else { "$1, $2" };
    let statement = format!("SELECT pg_create_logical_replication_slot({arguments})");
    session.client.execute(&statement, &[&name, &slot.plugin]).await?;
    Ok(())
}

/// Moves a logical slot forward, decoding the WAL up to there.
pub async fn advance_logical(
    settings: &PgSettings,
    database: &str,
    name: &str,
    to: Lsn,
) -> Result<(), SlotError> {
    let session = local(settings, database).await?;
    let statement = "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)";
    session.client.execute(statement, &[&name, &to.to_string()]).await?;
    Ok(())
}

async fn local(settings: &PgSettings, database: &str) -> Result<Session, SlotError> {
    let address = settings.local_address(settings.use_unix_socket).await;
    session(&address, &settings.superuser, database, "Patroni", OPTIONS)
        .await
        .map_err(|cause| SlotError::Connect { database: database.to_owned(), cause })
}

/// A slot as another server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSlot {
    pub name: String,
    pub database: Option<String>,
    pub plugin: Option<String>,
    pub catalog_xmin: Option<u32>,
    /// PostgreSQL 17 and later.
    pub failover: bool,
    /// The content of its state file, if that was asked for.
    pub state: Option<Vec<u8>>,
}

/// Asks a primary about slots, and for the state files of some of them. A standby answers with nothing.
///
/// The role must be a superuser or one that may run `pg_read_binary_file`.
pub async fn ask_primary(
    primary: &Target,
    database: &str,
    names: &BTreeSet<String>,
    states_of: &BTreeSet<String>,
) -> Result<Vec<RemoteSlot>, SlotError> {
    // The row as JSON: its columns differ from version to version.
    const STATEMENT: &str = "\
        SELECT s.slot_name::text, d.datname::text, s.plugin::text, s.catalog_xmin::text,
               coalesce((to_json(s) ->> 'failover')::bool, false),
               CASE WHEN s.slot_name::text = ANY($2) AND s.plugin IS NOT NULL
                    THEN pg_read_binary_file('pg_replslot/' || s.slot_name || '/state') END
        FROM pg_get_replication_slots() s LEFT JOIN pg_database d ON d.oid = s.datoid
        WHERE NOT pg_is_in_recovery() AND NOT s.temporary AND s.slot_name::text = ANY($1)";
    let session = session(&primary.address, &primary.credentials, database, "Patroni", QUESTION_OPTIONS)
        .await
        .map_err(|cause| SlotError::Connect { database: database.to_owned(), cause })?;
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<String>>();
    let rows = session.client.query(STATEMENT, &[&list(names), &list(states_of)]).await?;
    let slot = |row: &tokio_postgres::Row| {
        let xmin: Option<String> = row.try_get(3)?;
        Ok(RemoteSlot {
            name: row.try_get(0)?,
            database: row.try_get(1)?,
            plugin: row.try_get(2)?,
            catalog_xmin: xmin.and_then(|xmin| xmin.parse().ok()),
            failover: row.try_get(4)?,
            state: row.try_get(5)?,
        })
    };
    rows.iter().map(slot).collect()
}

/// Puts the state files of slots into the data directory of a *stopped* server, in the place of those that are there. Durable when it
/// returns; a crash half-way leaves for each slot the old file, the new one or none. Blocking.
pub fn put_states(data_dir: &Path, states: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let slots = data_dir.join("pg_replslot");
    for (name, state) in states {
        let (place, new) = (slots.join(name), slots.join(format!("{name}.tmp")));
        // PostgreSQL itself removes what ends in `.tmp` when it starts.
        remove(&new)?;
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(new.join("state"))?;
        file.write_all(state)?;
        file.sync_all()?;
        sync_dir(&new)?;
        remove(&place)?;
        fs::rename(&new, &place)?;
        sync_dir(&slots)?;
    }
    Ok(())
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_takes_the_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let slots = dir.path().join("pg_replslot");
        fs::create_dir_all(slots.join("feed.tmp")).unwrap();
        fs::create_dir_all(slots.join("feed")).unwrap();
        fs::write(slots.join("feed/old"), "old").unwrap();
        put_states(dir.path(), &[("feed".to_owned(), b"new".to_vec())].into()).unwrap();
        assert_eq!(fs::read(slots.join("feed/state")).unwrap(), b"new");
        assert!(!slots.join("feed/old").exists() && !slots.join("feed.tmp").exists());
    }
}
