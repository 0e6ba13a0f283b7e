//! Which parameters wait for a restart.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::{
    config::PendingRestart,
    connect::{CONNECT_TIMEOUT, superuser_session},
    file_values,
    monitor::MonitorError,
    parameters,
    server::{Server, ServerError},
};

/// Never reported: they change without a restart of ours, or are ours to change.
const IGNORED: &str = "'hot_standby', 'primary_conninfo', 'primary_slot_name', 'restore_command', \
    'archive_cleanup_command', 'recovery_end_command', 'recovery_min_apply_delay', 'promote_trigger_file', \
    'recovery_target', 'recovery_target_action', 'recovery_target_inclusive', 'recovery_target_lsn', \
    'recovery_target_name', 'recovery_target_time', 'recovery_target_timeline', 'recovery_target_xid'";

/// A parameter of the running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentValue {
    /// With its unit.
    pub text: String,
    /// A change takes effect only when PostgreSQL is started again.
    pub needs_restart: bool,
}

impl Server {
    /// Compares the running server with the files and the settings. Right after a reload the server may not have noticed yet:
    /// ask a second later. Uses a connection of its own.
    pub async fn pending_restart(&self) -> Result<Vec<PendingRestart>, ServerError> {
        let controlled = parameters::command_line(&parameters::controlled(self.settings(), &mut Vec::new()));
        let mut pending: Vec<PendingRestart> = Vec::new();
        for (name, old_value, unit) in self.marked_by_the_server().await? {
            let raw = file_values::value(self.settings(), &controlled, &name).await?;
            let new_value = raw.map_or_else(|| "?".to_owned(), |raw| with_unit(&raw, &unit));
            // The mark outlives a change that was taken back; and settings may be about to change that the files already show.
            if old_value != new_value {
                pending.push(PendingRestart { name, old_value, new_value });
            }
        }
        pending.extend(self.differing_controlled(&controlled).await?);
        pending.sort_by(|a, b| a.name.cmp(&b.name));
        pending.dedup_by(|a, b| a.name == b.name);
        Ok(pending)
    }

    /// The present values of parameters, as SHOW tells them, and whether a change needs a restart. Names that the server does
    /// not know are left out. Uses a connection of its own.
    pub async fn present_values(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, PresentValue>, ServerError> {
        let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
        let quoted: Vec<String> = names
            .into_iter()
            .filter(is_name)
            .map(|name| format!("'{}'", name.to_ascii_lowercase()))
            .collect();
        if quoted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let statement = format!(
            "SELECT lower(name), current_setting(name), context = 'postmaster' FROM pg_settings WHERE lower(name) IN ({})",
            quoted.join(", ")
        );
        let rows = self.ask(&statement).await?;
        let value = |row: &Row| PresentValue { text: row.get(1), needs_restart: row.get(2) };
        Ok(rows.iter().map(|row| (row.get(0), value(row))).collect())
    }

    /// What the server itself reports after reading the files: name, present value, unit.
    async fn marked_by_the_server(&self) -> Result<Vec<(String, String, String)>, ServerError> {
        let statement = format!(
            "SELECT name, current_setting(name), coalesce(unit, '') FROM pg_settings \
             WHERE pending_restart AND name NOT IN ({IGNORED})"
        );
        let rows = self.ask(&statement).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Controlled parameters stand on the command line, which hides a changed file from the server.
    async fn differing_controlled(
        &self,
        controlled: &[(String, String)],
    ) -> Result<Vec<PendingRestart>, ServerError> {
        let rows = self.ask("SELECT name, setting FROM pg_settings WHERE context = 'postmaster'").await?;
        let live: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let differs = |(name, wanted): &&(String, String)| {
            name != "hot_standby" && live.get(name.as_str()).is_some_and(|value| !same_value(value, wanted))
        };
        let pending = controlled.iter().filter(differs).map(|(name, wanted)| PendingRestart {
            name: name.clone(),
            old_value: live.get(name.as_str()).cloned().unwrap_or_default(),
            new_value: wanted.clone(),
        });
        Ok(pending.collect())
    }

    async fn ask(&self, statement: &str) -> Result<Vec<Row>, ServerError> {
        let question = async {
            let session = superuser_session(self.settings(), "Patroni", "-c statement_timeout=2000")
                .await
                .map_err(MonitorError::Connect)?;
            session.client.query(statement, &[]).await.map_err(MonitorError::Query)
        };
        let limit = 2 * CONNECT_TIMEOUT;
        let answer = tokio::time::timeout(limit, question).await;
        answer.unwrap_or(Err(MonitorError::Timeout { limit })).map_err(ServerError::Query)
    }
}

/// Controlled parameters have no units; booleans have several spellings.
fn same_value(live: &str, wanted: &str) -> bool {
    let booleans = parameters::boolean(live).zip(parameters::boolean(wanted));
    live == wanted || (live.parse::<i64>().is_err() && booleans.is_some_and(|(live, wanted)| live == wanted))
}

/// The way SHOW would put a bare number of `unit` (`8kB`, `ms`, ...): in the largest unit that leaves no rest.
fn with_unit(raw: &str, unit: &str) -> String {
    const MEMORY: [(&str, u64); 5] =
        [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)];
    const TIME: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let digits = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(unit.len());
    let (count, base) = (unit[..digits].parse().unwrap_or(1), &unit[digits..]);
    let scale = [MEMORY, TIME].into_iter().find(|scale| scale.iter().any(|(name, _)| *name == base));
    let number = raw.parse::<u64>().ok().filter(|number| *number > 0);
    let (Some(scale), Some(number)) = (scale, number) else { return raw.to_owned() };
    let size = scale.iter().find(|(name, _)| *name == base).map_or(1, |(_, size)| *size);
    let Some(total) = number.checked_mul(size).and_then(|total| total.checked_mul(count)) else {
        return raw.to_owned();
    };
    let fitting = scale.iter().find(|(_, size)| total % size == 0);
    fitting.map_or_else(|| raw.to_owned(), |(name, size)| format!("{}{name}", total / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_get_the_unit_that_fits() {
        for (raw, unit, shown) in [
            ("4096", "8kB", "32MB"),
            ("1", "8kB", "8kB"),
            ("300", "s", "5min"),
            ("1500", "ms", "1500ms"),
            ("100", "", "100"),
            ("-1", "kB", "-1"),
            ("on", "", "on"),
        ] {
            assert_eq!(with_unit(raw, unit), shown, "{raw} {unit}");
        }
    }

    #[test]
    fn values_are_compared_by_meaning() {
        for (live, wanted, same) in [
            ("on", "true", true),
            ("100", "100", true),
            ("100", "1", false),
            ("off", "on", false),
            ("1", "on", false),
        ] {
            assert_eq!(same_value(live, wanted), same, "{live} {wanted}");
        }
    }
}
