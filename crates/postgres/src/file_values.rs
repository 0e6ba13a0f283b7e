//! What the configuration files say, asked from PostgreSQL itself (`postgres -C`), whether the server runs or not.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    program::{ProgramError, run},
    settings::PgSettings,
};

const LIMIT: Duration = Duration::from_secs(10);

/// The value a parameter would have after a start now; `None` if PostgreSQL can't tell (an unknown name, a broken file).
pub(crate) async fn value(
    settings: &PgSettings,
    command_line: &[(String, String)],
    name: &str,
) -> Result<Option<String>, ProgramError> {
    let mut command = settings.tool("postgres");
    command.arg("-D").arg(&settings.data_dir);
    command.arg(format!("--config-file={}", settings.config_file().display()));
    command.args(command_line.iter().map(|(name, value)| format!("--{name}={value}")));
    command.args(["-C", name]).kill_on_drop(true);
    let finished = run(command, Some(LIMIT), &CancellationToken::new()).await?;
    Ok(finished.status.success().then(|| finished.stdout_text().trim_end_matches('\n').to_owned()))
}
