//! The comparison at the end: every acknowledged row has to be on every member.

use std::time::Duration;

use bellwether_types::Lsn;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use super::{
    client::connection_to,
    layout::{Layout, Node},
    ledger::Rows,
};

/// For one member to be asked and, if it is a replica, to have caught up.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EACH: Duration = Duration::from_millis(50);

/// What a member holds of what was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) rows: u64,
    /// Acknowledged, but not there.
    pub(super) lost: Vec<i64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error("{member} could not be asked for its rows")]
    Query {
        member: String,
        #[source]
        cause: tokio_postgres::Error,
    },
    #[error("{member} did not answer, or did not catch up with the primary, within {WITHIN:?}")]
    TimedOut { member: String },
    #[error("{member} reports a WAL position that is none: {text}")]
    Position { member: String, text: String },
}

/// Asks the leader and then every other member, each replica after it has replayed what the leader had written by now.
pub(super) async fn compare(
    layout: &Layout,
    leader: &str,
    acknowledged: &Rows,
) -> Vec<(String, Result<Held, VerifyError>)> {
    let mut results = Vec::new();
    let mut nodes: Vec<&Node> = layout.nodes.iter().collect();
    nodes.sort_by_key(|node| node.name != leader);
    let mut end = Lsn(0);
    for node in nodes {
        let asked = timeout(WITHIN, ask(layout, node, node.name == leader, &mut end, acknowledged)).await;
        let result = asked.unwrap_or_else(|_| Err(VerifyError::TimedOut { member: node.name.clone() }));
        results.push((node.name.clone(), result));
    }
    results
}

/// `end` is set by the leader, and awaited by the others.
async fn ask(
    layout: &Layout,
    node: &Node,
    leads: bool,
    end: &mut Lsn,
    acknowledged: &Rows,
) -> Result<Held, VerifyError> {
    let query = |cause| VerifyError::Query { member: node.name.clone(), cause };
    let (client, connection) = connection_to(layout, node).connect(NoTls).await.map_err(query)?;
    let connection = tokio::spawn(connection);
    let position = if leads { "pg_current_wal_lsn()" } else { "pg_last_wal_replay_lsn()" };
    loop {
        let row = client.query_one(&format!("SELECT {position}::text"), &[]).await.map_err(query)?;
        let text: String = row.get::<_, Option<String>>(0).unwrap_or_default();
        let reached: Lsn = text
            .parse()
            .map_err(|_| VerifyError::Position { member: node.name.clone(), text: text.clone() })?;
        if leads {
            *end = reached;
        }
        if reached >= *end {
            break;
        }
        sleep(LOOK_EACH).await;
    }
    let rows = client.query("SELECT id FROM demo_rows ORDER BY id", &[]).await.map_err(query)?;
    connection.abort();
    let present: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    Ok(Held { rows: present.len() as u64, lost: acknowledged.missing_from(&present) })
}

/// Waits until `condition` holds; `false` when it did not within the limit.
pub(super) async fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let by = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= by {
            return false;
        }
        sleep(LOOK_EACH).await;
    }
    true
}
