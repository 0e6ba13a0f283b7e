//! Crash recovery in single-user mode.

use std::{fs, io, path::Path};

use tokio_util::sync::CancellationToken;

use super::RewindError;
use crate::{
    conninfo::remove_if_there,
    control, parameters,
    postmaster::Postmaster,
    program::{self, blocking},
    settings::PgSettings,
};

/// Runs crash recovery in single-user mode, so that pg_rewind finds a cleanly stopped server. Archiving is off and stdin
/// closed meanwhile; signal files are removed. Archive what is ready before. Cancel by the token, not by dropping the future.
pub async fn crash_recover(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), RewindError> {
    let dir = settings.data_dir.clone();
    let prepared = blocking(move || prepare_single_user(&dir)).await;
    let options = match prepared.map_err(RewindError::io("could not prepare crash recovery"))? {
        Prepared::Running(pid) => return Err(RewindError::Running { pid }),
        Prepared::BackupLabel => return Err(RewindError::BackupLabel),
        Prepared::Options(options) => options,
    };
    let mut command = settings.tool("postgres");
    command.arg("--single").arg("-D").arg(&settings.data_dir);
    if options.is_empty() {
        command.arg(format!("--config-file={}", settings.config_file().display()));
        let controlled = parameters::controlled(settings, &mut Vec::new());
        command.args(
            parameters::command_line(&controlled).iter().map(|(name, value)| format!("--{name}={value}")),
        );
    }
    command.args(options).args(["-c", "archive_mode=on", "-c", "archive_command=false", "template1"]);
    let finished = program::run(command, None, cancel).await?;
    let control = control::read(settings).await?;
    if finished.status.success() && control.state.is_clean() {
        return Ok(());
    }
    Err(RewindError::CrashRecovery { status: finished.status.to_string(), last_line: finished.last_line() })
}

enum Prepared {
    Running(i32),
    BackupLabel,
    /// With which the postmaster ran, without the data directory and archiving.
    Options(Vec<String>),
}

fn prepare_single_user(data_dir: &Path) -> io::Result<Prepared> {
    if let Some(running) = Postmaster::find(data_dir)? {
        return Ok(Prepared::Running(running.id().pid));
    }
    if data_dir.join("backup_label").exists() {
        return Ok(Prepared::BackupLabel);
    }
    for name in ["standby.signal", "recovery.signal"] {
        remove_if_there(&data_dir.join(name))?;
    }
    // Without markers every segment counts as not archived, so none is recycled.
    for entry in fs::read_dir(data_dir.join("pg_wal/archive_status")).into_iter().flatten() {
        remove_if_there(&entry?.path())?;
    }
    let text = fs::read_to_string(data_dir.join("postmaster.opts")).unwrap_or_default();
    Ok(Prepared::Options(postmaster_options(&text)))
}

/// The `--name=value` options in `postmaster.opts`: `/path/postgres "-D" "/data" "--port=5432"`.
fn postmaster_options(text: &str) -> Vec<String> {
    let words = shlex::split(text.trim()).unwrap_or_default();
    let is_ours =
        |word: &String| word.starts_with("--") && word.contains('=') && !word.starts_with("--archive_");
    words.into_iter().skip(1).filter(is_ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_user_mode_takes_the_postmasters_options_but_not_its_archiving() {
        let text = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/my data\" \"--config-file=/my data/postgresql.conf\" \
                    \"--port=5432\" \"--archive_mode=on\"\n";
        assert_eq!(postmaster_options(text), ["--config-file=/my data/postgresql.conf", "--port=5432"]);
        assert!(postmaster_options("").is_empty());
    }
}
