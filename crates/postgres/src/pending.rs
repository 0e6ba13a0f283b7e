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

impl Server {
    /// Compares the running server with the files and the settings. Right after a reload the server may not have noticed yet:
    /// ask a second later. Uses a connection of its own.
    pub async fn pending_restart(&self) -> Result<Vec<PendingRestart>, ServerError> {
        let controlled = parameters::command_line(&parameters::controlled(self.settings(), &mut Vec::new()));
        let mut pending: Vec<PendingRestart> = Vec::new();
        for (name, old_value) in self.marked_by_the_server().await? {
            let new_value = file_values::value(self.settings(), &controlled, &name).await?;
            let new_value = new_value.unwrap_or_else(|| "?".to_owned());
            pending.push(PendingRestart { name, old_value, new_value });
        }
        pending.extend(self.differing_controlled(&controlled).await?);
        pending.sort_by(|a, b| a.name.cmp(&b.name));
        pending.dedup_by(|a, b| a.name == b.name);
        Ok(pending)
    }

    /// What the server itself reports after reading the files.
    async fn marked_by_the_server(&self) -> Result<Vec<(String, String)>, ServerError> {
        let statement = format!(
            "SELECT name, current_setting(name) FROM pg_settings WHERE pending_restart AND name NOT IN ({IGNORED})"
        );
        let rows = self.ask(&statement).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

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
