//! Where PostgreSQL's programs are.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The versions that we run.
const VERSIONS: std::ops::RangeInclusive<u32> = 13..=18;
const DEBIAN: &str = "/usr/lib/postgresql";
/// What a node cannot do without.
const NEEDED: [&str; 5] = ["postgres", "initdb", "pg_basebackup", "pg_controldata", "pg_rewind"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum BinariesError {
    #[error(
        "no PostgreSQL of version 13 to 18 in {DEBIAN}/*/bin or in PATH; install one (on Debian: `apt install postgresql`) or give its directory with --bin-dir"
    )]
    NotFound,
    #[error("there is no `{program}` in `{}`; give the directory with the server's programs", directory.display())]
    Incomplete { directory: PathBuf, program: &'static str },
    #[error("`{} --version` failed", program.display())]
    Version {
        program: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` says it is `{said}`; versions 13 to 18 are supported", program.display())]
    Unsupported { program: PathBuf, said: String },
}

/// The directory asked for, or that of the newest version found.
pub(super) fn find(asked: Option<&Path>) -> Result<PathBuf, BinariesError> {
    if let Some(directory) = asked {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        if let Some(program) = missing(&directory) {
            return Err(BinariesError::Incomplete { directory, program });
        }
        let program = directory.join("postgres");
        let said =
            said_by(&program).map_err(|cause| BinariesError::Version { program: program.clone(), cause })?;
        return match major(&said) {
            Some(version) if VERSIONS.contains(&version) => Ok(directory),
            _ => Err(BinariesError::Unsupported { program, said }),
        };
    }
    candidates()
        .into_iter()
        .filter(|directory| missing(directory).is_none())
        .filter_map(|directory| {
            let version = major(&said_by(&directory.join("postgres")).ok()?)?;
            VERSIONS.contains(&version).then_some((version, directory))
        })
        // The first of equals: what Debian installed, before what happens to be in PATH.
        .rev()
        .max_by_key(|&(version, _)| version)
        .map(|(_, directory)| directory)
        .ok_or(BinariesError::NotFound)
}

fn candidates() -> Vec<PathBuf> {
    let installed =
        fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = installed.collect();
    found.sort();
    found.extend(env::split_paths(&path).filter(|directory| directory.is_absolute()));
    found
}

fn missing(directory: &Path) -> Option<&'static str> {
    NEEDED.into_iter().find(|program| !directory.join(program).is_file())
}

fn said_by(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `... 18beta1`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_the_program_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("mysqld Ver 8.0"), None);
    }
}
