//! Asking PostgreSQL whether it would accept the parameters, before they are written.
//!
//! A single unknown name or impossible value keeps a server from starting. No list of ours could follow every version and
//! extension, so the server's own program judges a candidate file. A number out of its range becomes the nearest one that is
//! allowed; whatever else is rejected is left out. Both are warned about.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    complaints::{Described, objections},
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

/// Amends in `effective` what PostgreSQL rejects. Values that stand in the present file already are not judged again, so
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
    let mut known_types = None;
    for _ in 0..ROUNDS {
        let Some(complaint) = judge(settings, effective).await? else { return Ok(()) };
        if known_types.is_none() {
            known_types = Some(described(settings).await);
        }
        if !amend(effective, &complaint, known_types.as_ref().unwrap_or(&Described::default())) {
            // The fault lies in a file of the user's: the server will say so itself.
            tracing::warn!(
                complaint = complaint.trim(),
                "PostgreSQL does not accept its configuration files"
            );
            return Ok(());
        }
    }
    Ok(())
}

/// Takes out, or moves to the nearest value that is allowed, what the complaint is about. False if that is nothing of ours.
fn amend(effective: &mut Effective, complaint: &str, described: &Described) -> bool {
    let mut changed = false;
    for objection in objections(complaint) {
        let name = objection.parameter.to_ascii_lowercase();
        if is_controlled(&name) {
            continue;
        }
        let Some(value) = effective.parameters.remove(&name) else { continue };
        changed = true;
        let verdict = objection.verdict(&name, &value, described);
        effective.warnings.push(verdict.warning);
        if let Some(instead) = verdict.instead {
            effective.parameters.insert(name, instead);
        }
    }
    changed
}

/// The parameters that the program knows; none if it cannot be asked.
async fn described(settings: &Arc<PgSettings>) -> Described {
    let mut command = settings.tool("postgres");
    command.arg("--describe-config").kill_on_drop(true);
    match run(command, Some(LIMIT), &CancellationToken::new()).await {
        Ok(finished) => Described::parse(&finished.stdout_text()),
        Err(error) => {
            tracing::warn!(%error, "PostgreSQL does not tell which parameters it knows");
            Described::default()
        }
    }
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
