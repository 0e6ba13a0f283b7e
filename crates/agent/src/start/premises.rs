//! What must be so before an agent begins: the store answers, nobody else has its name, and nothing of an earlier one is left running.

use std::{path::Path, sync::Arc, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_config::Config;
use bellwether_dcs::{Deadline, mirror::Mirror};
use bellwether_postgres::leftover::{kill_commands, kill_leftovers};
use bellwether_types::cluster::Cluster;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::StartError;
use crate::{clock, journal::Journal};

/// How long one attempt to read the store takes before it is said that we wait.
const STORE_ATTEMPT: Duration = Duration::from_secs(5);
/// How long a member of our name has to answer.
const NAME_GUARD: Duration = Duration::from_secs(3);

/// A rewind or copy that outlived its agent would go on writing under the next one's feet.
pub(super) async fn end_leftovers(config: &Config, is_interrupted: bool) -> Result<(), StartError> {
    let data_dir = config.postgresql.data_dir.clone();
    let looked_at = data_dir.clone();
    let work = move || {
        let mut killed = kill_leftovers(&looked_at)?;
        if is_interrupted {
            killed.extend(kill_commands(&looked_at)?);
        }
        Ok(killed)
    };
    let killed = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|cause| StartError::Leftover { data_dir, cause })?;
    if !killed.is_empty() {
        warn!(?killed, "programs that an earlier agent left running on the data directory were killed");
    }
    Ok(())
}

pub(super) async fn wait_for_store(
    mirror: &Mirror,
    word: &'static str,
    stop: &CancellationToken,
) -> Result<Arc<Cluster>, StartError> {
    let mut told_at = None;
    loop {
        let attempt = mirror.refresh(Deadline::after(STORE_ATTEMPT));
        let Some(read) = stop.run_until_cancelled(attempt).await else { return Err(StartError::Stopped) };
        match read {
            Ok(cluster) => return Ok(cluster),
            // The embedded store needs a moment to find itself.
            Err(error) if told_at.is_none_or(|at| clock::now().since(at) >= STORE_ATTEMPT) => {
                told_at = Some(clock::now());
                info!(%error, "waiting on {word}");
            }
            Err(_) => {}
        }
        let pause = tokio::time::sleep(Duration::from_millis(200));
        if stop.run_until_cancelled(pause).await.is_none() {
            return Err(StartError::Stopped);
        }
    }
}

/// A member key alone proves nothing: it outlives its agent. Only a real HTTP answer does.
pub(super) async fn refuse_duplicate(
    config: &Config,
    cluster: &Cluster,
    client: &ApiClient,
) -> Result<(), StartError> {
    let Some(url) = cluster.member(&config.name).and_then(|member| member.api_url.as_deref()) else {
        return Ok(());
    };
    if client.call(Method::GET, url, "liveness", None, NAME_GUARD).await.is_ok() {
        return Err(StartError::DuplicateName { name: config.name.to_string() });
    }
    Ok(())
}

/// A guardian that killed PostgreSQL could tell nobody but its own file.
pub(super) fn tell_earlier_firing(runtime_dir: &Path, journal: &Journal) {
    match bellwether_guardian::last_firing(runtime_dir) {
        Ok(Some(firing)) => {
            let record = format!("{firing:?}");
            warn!(record, "a guardian has fired here before");
            journal.record("guardian_fired", serde_json::json!({"record": record}));
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "the record of an earlier guardian could not be read"),
    }
}

pub(super) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
