//! Writing the configuration files: only when their content changes, and each by rename, so that no reader sees half a file.
//!
//! Everything here blocks on the file system; [`crate::server::Server`] has the async forms.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    config::{
        ConfigPlan, Effective, RaisedParameter, Recovery, is_generated, render, render_lines,
        without_recovery_settings,
    },
    conninfo::{passfile_lines, remove_if_there, write_passfile},
    settings::PgSettings,
};

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Names of the files that now have another content.
    pub changed_files: Vec<String>,
    /// Parameters raised to the control file's value on a standby: raise the pending-restart flag for them.
    pub raised: Vec<RaisedParameter>,
    /// For the command line of the postmaster: the controlled parameters.
    pub command_line: Vec<(String, String)>,
    /// For people: what was dropped or corrected.
    pub warnings: Vec<String>,
}

impl Applied {
    pub fn changed(&self) -> bool {
        !self.changed_files.is_empty()
    }

    fn note(&mut self, file: &Path, changed: bool) {
        if changed {
            let name = file.file_name().unwrap_or(file.as_os_str());
            self.changed_files.push(name.to_string_lossy().into_owned());
        }
    }
}

/// A file of the configuration could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("could not write `{}`", path.display())]
pub struct ConfigFileError {
    pub path: PathBuf,
    #[source]
    pub cause: io::Error,
}

impl ConfigFileError {
    /// Whether trying again without human help can succeed: a full disk may have room later, a missing right stays missing.
    pub fn is_retryable(&self) -> bool {
        self.cause.kind() != io::ErrorKind::PermissionDenied
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ConfigFileError {
    let path = path.to_owned();
    move |cause| ConfigFileError { path, cause }
}

/// Writes everything that `effective` says, and the signal files.
pub(crate) fn write(
    settings: &PgSettings,
    plan: &ConfigPlan,
    effective: &Effective,
) -> Result<Applied, ConfigFileError> {
    let mut applied = Applied {
        raised: effective.raised.clone(),
        command_line: effective.command_line.clone(),
        warnings: effective.warnings.clone(),
        ..Applied::default()
    };
    write_upstream_passfile(settings, plan, &mut applied)?;
    let include = include_target(settings)?;
    let (hba, ident) = (settings.config_dir.join("pg_hba.conf"), settings.config_dir.join("pg_ident.conf"));
    let text = render(effective, &include, &hba.to_string_lossy(), &ident.to_string_lossy());
    let main = settings.config_file();
    applied.note(&main, replace(settings, &main, &text)?);

    write_access_files(settings, plan, effective, &mut applied)?;
    strip_auto_file(settings, plan, &mut applied)?;
    write_signal_files(settings, plan, &mut applied)?;
    Ok(applied)
}

/// The password file must be there before the server may want to use it.
fn write_upstream_passfile(
    settings: &PgSettings,
    plan: &ConfigPlan,
    applied: &mut Applied,
) -> Result<(), ConfigFileError> {
    let Recovery::Standby { upstream: Some(upstream) } = &plan.recovery else { return Ok(()) };
    let credentials = upstream.credentials(settings);
    let lines = upstream
        .addresses()
        .flat_map(|address| passfile_lines(address, credentials))
        .collect::<BTreeSet<_>>();
    if !lines.is_empty() {
        let changed = write_passfile(&settings.pgpass, &lines).map_err(at(&settings.pgpass))?;
        applied.note(&settings.pgpass, changed);
    }
    Ok(())
}

/// The file with the user's own settings: `custom_conf`, or what was postgresql.conf before we came.
fn include_target(settings: &PgSettings) -> Result<String, ConfigFileError> {
    if let Some(custom) = &settings.custom_conf {
        return Ok(custom.to_string_lossy().into_owned());
    }
    let (main, base) = (settings.config_file(), settings.base_config_file());
    if !base.exists() {
        match fs::read_to_string(&main) {
            // The original, moved away once and never edited again.
            Ok(text) if !is_generated(&text) => fs::rename(&main, &base).map_err(at(&base))?,
            // The original is lost (a clone that left it out): an include of nothing would keep the server from starting.
            Ok(_) => drop(replace(settings, &base, "")?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => drop(replace(settings, &base, "")?),
            Err(error) => return Err(at(&main)(error)),
        }
    }
    Ok(base.file_name().unwrap_or(base.as_os_str()).to_string_lossy().into_owned())
}

/// pg_hba.conf and pg_ident.conf, where the settings have lines for them and they are not kept elsewhere.
fn write_access_files(
    settings: &PgSettings,
    plan: &ConfigPlan,
    effective: &Effective,
    applied: &mut Applied,
) -> Result<(), ConfigFileError> {
    let hba = settings.role_pg_hba.get(&plan.role).or(settings.pg_hba.as_ref());
    let ident = settings.role_pg_ident.get(&plan.role).or(settings.pg_ident.as_ref());
    for (lines, parameter, file) in [(hba, "hba_file", "pg_hba.conf"), (ident, "ident_file", "pg_ident.conf")]
    {
        let path = settings.config_dir.join(file);
        let elsewhere = effective.parameters.get(parameter).is_some_and(|other| Path::new(other) != path);
        if let Some(lines) = lines.filter(|lines| !lines.is_empty() && !elsewhere) {
            applied.note(&path, replace(settings, &path, &render_lines(lines))?);
        }
    }
    Ok(())
}

/// ALTER SYSTEM and `pg_basebackup -R` leave recovery settings that would win over ours.
fn strip_auto_file(
    settings: &PgSettings,
    plan: &ConfigPlan,
    applied: &mut Applied,
) -> Result<(), ConfigFileError> {
    if matches!(plan.recovery, Recovery::AsFound) {
        return Ok(());
    }
    let path = settings.data_dir.join("postgresql.auto.conf");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(&path)(error)),
    };
    applied.note(&path, replace(settings, &path, &without_recovery_settings(&text))?);
    Ok(())
}

/// The signal files decide how the server starts; a running one looks at them only then.
fn write_signal_files(
    settings: &PgSettings,
    plan: &ConfigPlan,
    applied: &mut Applied,
) -> Result<(), ConfigFileError> {
    let wanted = match plan.recovery {
        Recovery::AsFound => return Ok(()),
        Recovery::None => None,
        Recovery::Standby { .. } => Some("standby.signal"),
        Recovery::Targeted { .. } => Some("recovery.signal"),
    };
    for name in ["standby.signal", "recovery.signal"] {
        let path = settings.data_dir.join(name);
        if wanted == Some(name) {
            applied.note(&path, replace(settings, &path, "")?);
        } else if path.exists() {
            remove_if_there(&path).map_err(at(&path))?;
            applied.note(&path, true);
        }
    }
    Ok(())
}

/// Gives `path` this content by a rename; `false` if it had it already.
fn replace(settings: &PgSettings, path: &Path, text: &str) -> Result<bool, ConfigFileError> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let write = || -> io::Result<()> {
        remove_if_there(&fresh)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file_mode(settings, path))
            .open(&fresh)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(at(path))?;
    Ok(true)
}

/// Makes sure that the files in force, as they are, survive a loss of power: their content is on disk already, their names may not be.
pub(crate) fn sync_directories(settings: &PgSettings) -> Result<(), ConfigFileError> {
    for dir in [&settings.config_dir, &settings.data_dir] {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    }
    Ok(())
}

/// Inside the data directory like the directory itself: readable for the group or not. Elsewhere the umask decides.
fn file_mode(settings: &PgSettings, path: &Path) -> u32 {
    if !path.starts_with(&settings.data_dir) {
        return 0o666;
    }
    let group =
        fs::metadata(&settings.data_dir).is_ok_and(|found| found.permissions().mode() & 0o050 == 0o050);
    if group { 0o640 } else { 0o600 }
}

/// initdb writes into the data directory only: brings what is missing in a separate configuration directory there.
pub(crate) fn adopt_from_initdb(settings: &PgSettings) -> Result<(), ConfigFileError> {
    for file in [
        settings.config_file(),
        settings.config_dir.join("pg_hba.conf"),
        settings.config_dir.join("pg_ident.conf"),
    ] {
        let name = if file == settings.config_file() {
            "postgresql.conf".into()
        } else {
            file.file_name().unwrap_or_default().to_owned()
        };
        let made = settings.data_dir.join(name);
        if !file.exists() && made.exists() {
            let text = fs::read_to_string(&made).map_err(at(&made))?;
            replace(settings, &file, &text)?;
        }
    }
    Ok(())
}

/// A file of ours beside the data.
pub(crate) fn write_private(settings: &PgSettings, path: &Path, text: &str) -> Result<(), ConfigFileError> {
    replace(settings, path, text).map(drop)
}

/// Appends lines to the pg_hba.conf that a bootstrap made.
pub(crate) fn append_hba(settings: &PgSettings, lines: &[String]) -> Result<(), ConfigFileError> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = settings.config_dir.join("pg_hba.conf");
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(&path)(error)),
    };
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    text.push('\n');
    replace(settings, &path, &text).map(drop)
}

fn backed_up_files(settings: &PgSettings) -> [PathBuf; 4] {
    let dir = &settings.config_dir;
    [settings.config_file(), settings.base_config_file(), dir.join("pg_hba.conf"), dir.join("pg_ident.conf")]
}

fn backup_name(settings: &PgSettings, file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or(file.as_os_str()).to_owned();
    name.push(".backup");
    settings.data_dir.join(name)
}

/// Copies the configuration files into the data directory, so that clones get them even if they live elsewhere.
pub(crate) fn back_up(settings: &PgSettings) -> Result<(), ConfigFileError> {
    for file in backed_up_files(settings) {
        match fs::read_to_string(&file) {
            Ok(text) => drop(replace(settings, &backup_name(settings, &file), &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&file)(error)),
        }
    }
    Ok(())
}

/// After cloning: brings back the files that are missing. A missing pg_ident.conf is created empty.
pub(crate) fn restore(settings: &PgSettings) -> Result<(), ConfigFileError> {
    for file in backed_up_files(settings) {
        if file.exists() {
            continue;
        }
        match fs::read_to_string(backup_name(settings, &file)) {
            Ok(text) => drop(replace(settings, &file, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if file.ends_with("pg_ident.conf") {
                    replace(settings, &file, "")?;
                }
            }
            Err(error) => return Err(at(&file)(error)),
        }
    }
    Ok(())
}

/// Files with their content, kept over a rewind.
pub(crate) type KeptFiles = Vec<(PathBuf, String)>;

/// The present configuration files, to be brought back after pg_rewind has copied the source's over them.
pub(crate) fn keep(settings: &PgSettings) -> Result<KeptFiles, ConfigFileError> {
    let mut kept = KeptFiles::new();
    for file in backed_up_files(settings) {
        match fs::read_to_string(&file) {
            Ok(text) => kept.push((file, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&file)(error)),
        }
    }
    Ok(kept)
}

pub(crate) fn bring_back(settings: &PgSettings, kept: &KeptFiles) -> Result<(), ConfigFileError> {
    kept.iter().try_for_each(|(file, text)| replace(settings, file, text).map(drop))
}

/// What could promote a fresh clone by accident.
pub(crate) fn remove_triggers(settings: &PgSettings) -> Result<(), ConfigFileError> {
    for name in ["promote", "fallback_promote"] {
        let path = settings.data_dir.join(name);
        remove_if_there(&path).map_err(at(&path))?;
    }
    if let Some(file) =
        settings.recovery_conf.get("promote_trigger_file").or(settings.recovery_conf.get("trigger_file"))
    {
        let path = settings.data_dir.join(file);
        remove_if_there(&path).map_err(at(&path))?;
    }
    Ok(())
}
