//! The unit of systemd, and the links by which the program is Patroni's.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// As it is packaged.
const UNIT: &str = include_str!("../../../../packaging/systemd/bellwether.service");
const LINKS: [&str; 2] = ["patroni", "patronictl"];

/// Where things go.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// `None`: the settings come from the environment, and the unit must be given it by hand.
    pub(super) configuration: Option<PathBuf>,
    pub(super) unit_dir: PathBuf,
    pub(super) bin_dir: PathBuf,
    pub(super) user: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error("{} exists and is something else: move it away first, nothing was written", .0.display())]
    Occupied(PathBuf),
    #[error("a unit needs a configuration file: name it")]
    NoConfiguration,
    #[error("{} could not be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Writes what is not there yet, and returns what was written. If something else is in a place, nothing is written at all.
pub(super) fn install(places: &Places) -> Result<Vec<PathBuf>, InstallError> {
    let configuration = places.configuration.as_ref().ok_or(InstallError::NoConfiguration)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| InstallError::Write { path, cause }
    };
    let program = std::env::current_exe().map_err(failed(Path::new("/proc/self/exe")))?;
    let configuration = std::path::absolute(configuration).map_err(failed(configuration))?;
    let unit_path = places.unit_dir.join("bellwether.service");
    let unit = unit(&program, &configuration, &places.user);
    let links: Vec<PathBuf> = LINKS.iter().map(|name| places.bin_dir.join(name)).collect();

    let mut written = Vec::new();
    let is_new = is_missing(&unit_path, |path| fs::read_to_string(path).is_ok_and(|text| text == unit))?;
    let mut missing = Vec::new();
    for link in links {
        if is_missing(&link, |path| fs::read_link(path).is_ok_and(|target| target == program))? {
            missing.push(link);
        }
    }
    if is_new {
        fs::write(&unit_path, unit).map_err(failed(&unit_path))?;
        written.push(unit_path);
    }
    for link in missing {
        symlink(&program, &link).map_err(failed(&link))?;
        written.push(link);
    }
    Ok(written)
}

fn is_missing(path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<bool, InstallError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(true);
    }
    if is_ours(path) { Ok(false) } else { Err(InstallError::Occupied(path.to_owned())) }
}

fn unit(program: &Path, configuration: &Path, user: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("ExecStart", _)) => format!("ExecStart={} run {}", program.display(), configuration.display()),
        Some(("User", _)) => format!("User={user}"),
        // That of the user.
        Some(("Group", _)) => String::new(),
        _ => line.to_owned(),
    };
    UNIT.lines().map(line).filter(|line| !line.is_empty()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places {
            configuration: Some("/etc/patroni.yml".into()),
            unit_dir: dir.to_owned(),
            bin_dir: dir.to_owned(),
            user: "pg".into(),
        }
    }

    #[test]
    fn the_unit_runs_this_program_with_that_file_and_a_second_time_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let written = install(&places(dir.path())).unwrap();
        assert_eq!(written.len(), 3, "{written:?}");
        let unit = fs::read_to_string(dir.path().join("bellwether.service")).unwrap();
        let program = std::env::current_exe().unwrap();
        assert!(unit.contains(&format!("ExecStart={} run /etc/patroni.yml\n", program.display())), "{unit}");
        assert!(unit.contains("\nUser=pg\n") && !unit.contains("Group="), "{unit}");
        assert!(unit.contains("\n[Service]\n") && unit.contains("KillMode=process"), "{unit}");
        assert_eq!(fs::read_link(dir.path().join("patronictl")).unwrap(), program);
        assert_eq!(install(&places(dir.path())).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_somebody_else_has_put_there_stays_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("patronictl"), "the real one").unwrap();
        let error = install(&places(dir.path())).unwrap_err();
        assert!(matches!(error, InstallError::Occupied(path) if path.ends_with("patronictl")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
