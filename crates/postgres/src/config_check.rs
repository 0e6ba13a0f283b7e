//! Asking PostgreSQL whether it would accept the parameters, before they are written.
//!
//! A single unknown name or impossible value keeps a server from starting. No list of ours could follow every version and
//! extension, so the server's own program judges a candidate file, and what it rejects is left out with a warning.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    config::{Effective, render},
    config_files::ConfigFileError,
    conninfo::remove_if_there,
    parameters::is_controlled,
    program::{ProgramError, blocking, run},
    server::ServerError,
    settings::PgSettings,
};

const LIMIT: Duration = Duration::from_secs(10);

/// More bad parameters than this in one configuration, and the rest stays in.
const ROUNDS: usize = 20;

/// Never judged: controlled values were validated, and a change of these must be quick.
const NOT_JUDGED: [&str; 3] = ["synchronous_standby_names", "hba_file", "ident_file"];

/// Takes out of `effective` what PostgreSQL rejects. Values that stand in the present file already are not judged again, so
/// the usual call costs nothing.
pub(crate) async fn drop_rejected(
    settings: &Arc<PgSettings>,
    effective: &mut Effective,
) -> Result<(), ServerError> {
    let path = settings.config_file();
    let present = blocking(move || fs::read_to_string(path)).await.unwrap_or_default();
    let known: BTreeSet<&str> = present.lines().collect();
    let is_new = |(name, value): (&String, &String)| {
        let judged = !is_controlled(name) && !NOT_JUDGED.contains(&name.as_str());
        judged && !known.contains(crate::config::setting(name, value).trim_end())
    };
    if !effective.parameters.iter().any(is_new) {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        let Some(complaint) = judge(settings, effective).await? else { return Ok(()) };
        let rejected: Vec<String> = quoted_words(&complaint)
            .map(str::to_ascii_lowercase)
            .filter(|name| !is_controlled(name) && effective.parameters.contains_key(name))
            .collect();
        if rejected.is_empty() {
            // The fault lies in a file of the user's: the server will say so itself.
            tracing::warn!(
                complaint = complaint.trim(),
                "PostgreSQL does not accept its configuration files"
            );
            return Ok(());
        }
        for name in rejected {
            if let Some(value) = effective.parameters.remove(&name) {
                effective
                    .warnings
                    .push(format!("Removing unexpected parameter={name} value={value} from the config"));
            }
        }
    }
    Ok(())
}

/// What PostgreSQL says against a file with these parameters; `None` if it accepts them.
async fn judge(settings: &Arc<PgSettings>, effective: &Effective) -> Result<Option<String>, ServerError> {
    let candidate = Candidate::write(settings, effective).await?;
    let mut command = settings.tool("postgres");
    command.arg("-D").arg(&settings.data_dir);
    command.arg(format!("--config-file={}", candidate.0.display()));
    command.args(["-C", "data_directory"]).kill_on_drop(true);
    let finished = run(command, Some(LIMIT), &CancellationToken::new()).await;
    let finished = match finished {
        Err(ProgramError::Timeout { .. }) => return Ok(None),
        finished => finished?,
    };
    Ok((!finished.status.success()).then_some(finished.stderr))
}

/// A file beside the real one (so that relative includes work), removed when dropped.
struct Candidate(PathBuf);

impl Candidate {
    async fn write(settings: &Arc<PgSettings>, effective: &Effective) -> Result<Self, ServerError> {
        let path = settings.config_dir.join(format!("{}.candidate.conf", settings.config_base_name));
        let parameters = Effective { parameters: effective.parameters.clone(), ..Effective::default() };
        let include = match &settings.custom_conf {
            Some(custom) => custom.to_string_lossy().into_owned(),
            None if settings.base_config_file().exists() => {
                settings.base_config_file().to_string_lossy().into_owned()
            }
            None => settings.config_file().to_string_lossy().into_owned(),
        };
        let text = render(&parameters, &include, "pg_hba.conf", "pg_ident.conf");
        let file = path.clone();
        let written = blocking(move || fs::write(&file, text)).await;
        written.map_err(|cause| ConfigFileError { path: path.clone(), cause })?;
        Ok(Self(path))
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a candidate configuration could not be removed");
        }
    }
}

/// Words in double quotes after `parameter`: `invalid value for parameter "work_mem": "much"`.
fn quoted_words(text: &str) -> impl Iterator<Item = &str> {
    text.split("parameter \"").skip(1).filter_map(|rest| rest.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_that_postgresql_complains_about_are_found() {
        let complaint = "LOG:  unrecognized configuration parameter \"foo\" in file \"/x/a.conf\" line 3\n\
                         LOG:  invalid value for parameter \"work_mem\": \"much\"\n\
                         LOG:  parameter \"fsync\" requires a Boolean value\n\
                         LOG:  5 is outside the valid range for parameter \"shared_buffers\" (16 .. 1073741823)\n\
                         FATAL:  configuration file \"/x/a.conf\" contains errors\n";
        assert_eq!(
            quoted_words(complaint).collect::<Vec<_>>(),
            ["foo", "work_mem", "fsync", "shared_buffers"]
        );
    }
}
