//! WAL that is in no archive yet: handed to `archive_command` before anything deletes it.

use std::{fs, io, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::RewindError;
use crate::{
    control::{self, ClusterState},
    file_values,
    program::{self, blocking},
    settings::PgSettings,
};

/// For one segment. An `archive_command` that hangs must not hold up what comes next for ever.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(60);

/// Archives the WAL segments of the stopped server that still wait for it, oldest first, and returns how many. A rewind
/// deletes segments that may exist nowhere else.
pub async fn archive_ready_wal(
    settings: &PgSettings,
    cancel: &CancellationToken,
) -> Result<usize, RewindError> {
    let Some(command) = archive_command(settings).await? else { return Ok(0) };
    let wal = settings.data_dir.join("pg_wal");
    let ready = {
        let status = wal.join("archive_status");
        blocking(move || ready_segments(&status))
            .await
            .map_err(RewindError::io("could not list archive_status"))?
    };
    for segment in &ready {
        archive(settings, &command, segment, cancel).await?;
        let marker = |suffix: &str| wal.join("archive_status").join(format!("{segment}.{suffix}"));
        let (ready, done) = (marker("ready"), marker("done"));
        blocking(move || fs::rename(ready, done))
            .await
            .map_err(RewindError::io("could not mark a segment as archived"))?;
    }
    Ok(ready.len())
}

/// Archives the segment that holds the shutdown checkpoint of a stopped primary, if it archives at all: PostgreSQL itself does not, as
/// the segment is not full, and whoever follows the archive alone would never learn that the primary has ended in good order.
///
/// # Errors
/// If the segment is not in the archive.
pub async fn archive_shutdown_checkpoint(
    settings: &PgSettings,
    cancel: &CancellationToken,
) -> Result<(), RewindError> {
    archive_ready_wal(settings, cancel).await?;
    let control = control::read(settings).await?;
    match archive_command(settings).await? {
        Some(command) if control.state == ClusterState::ShutDown => {
            archive(settings, &command, &control.checkpoint_segment(), cancel).await
        }
        _ => Ok(()),
    }
}

/// `None`: WAL is not archived.
async fn archive_command(settings: &PgSettings) -> Result<Option<String>, RewindError> {
    let value = async |name| file_values::value(settings, &[], name).await.map(Option::unwrap_or_default);
    let command = value("archive_command").await?;
    let is_on = ["on", "always"].contains(&value("archive_mode").await?.as_str());
    Ok(Some(command).filter(|command| is_on && !command.is_empty()))
}

async fn archive(
    settings: &PgSettings,
    command: &str,
    segment: &str,
    cancel: &CancellationToken,
) -> Result<(), RewindError> {
    let line = expand(command, &format!("pg_wal/{segment}"), segment);
    let mut shell = settings.command("sh");
    shell.arg("-c").arg(line).current_dir(&settings.data_dir).kill_on_drop(true);
    let finished = program::run(shell, Some(ARCHIVE_LIMIT), cancel).await?;
    if finished.status.success() {
        return Ok(());
    }
    let (status, last_line) = (finished.status.to_string(), finished.last_line());
    Err(RewindError::Archive { segment: segment.to_owned(), status, last_line })
}

/// Names of segments with a `.ready` marker, in order.
fn ready_segments(status: &Path) -> io::Result<Vec<String>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(status)? {
        let name = entry?.file_name();
        if let Some(segment) = name.to_str().and_then(|name| name.strip_suffix(".ready")) {
            segments.push(segment.to_owned());
        }
    }
    segments.sort();
    Ok(segments)
}

/// `%p`, `%f` and `%%` of archive_command.
fn expand(command: &str, path: &str, file: &str) -> String {
    let (mut text, mut characters) = (String::new(), command.chars().peekable());
    while let Some(c) = characters.next() {
        let replacement = match (c, characters.peek()) {
            ('%', Some('p')) => path,
            ('%', Some('f')) => file,
            ('%', Some('%')) => "%",
            _ => {
                text.push(c);
                continue;
            }
        };
        text.push_str(replacement);
        characters.next();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_command_is_expanded_like_the_server_does() {
        for (command, expected) in [
            ("cp %p /a/%f", "cp pg_wal/1 /a/1"),
            ("date +%%Y; x %p%", "date +%Y; x pg_wal/1%"),
            ("x %q %%p", "x %q %p"),
        ] {
            assert_eq!(expand(command, "pg_wal/1", "1"), expected);
        }
    }

    #[test]
    fn only_ready_segments_are_archived_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "000000010000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000001.done",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let ready = ready_segments(dir.path()).unwrap();
        assert_eq!(ready, ["000000010000000000000002", "000000010000000000000003"]);
    }
}
