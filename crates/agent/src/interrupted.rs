//! A mark on disk that a job is changing the data directory: what survives of the job if the machine does not.
//!
//! pg_rewind and pg_basebackup write files in place. A directory on which one of them was interrupted may look whole, and PostgreSQL
//! may even start on it, with blocks of two histories. The mark is durable before the job begins and goes when it has succeeded; what
//! to do about one that is found is decided in `bellwether-ha`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bellwether_ha::view::JobKind;
use serde::{Deserialize, Serialize};

const NAME: &str = "interrupted.json";

/// The mark of one data directory.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    job: Option<JobKind>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    job: JobKind,
}

impl Mark {
    /// Reads what an earlier agent left. A mark that cannot be read is one of a rewind: the kind that is never started and never
    /// removed without permission.
    pub(crate) fn open(runtime_dir: &Path) -> Self {
        let path = runtime_dir.join(NAME);
        let job = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_or(JobKind::Rewind, |Text { job }| job)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(JobKind::Rewind),
        };
        Self { path, job }
    }

    /// The job that began and has not succeeded.
    pub(crate) fn job(&self) -> Option<&JobKind> {
        self.job.as_ref()
    }

    /// `job` is about to change the files. On disk when this returns; without it the job must not begin.
    pub(crate) fn set(&mut self, job: JobKind) -> io::Result<()> {
        let text = serde_json::to_vec(&Text { job: job.clone() })?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.sync_directory()?;
        self.job = Some(job);
        Ok(())
    }

    /// The files are whole again, or gone.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.job.is_none() {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.sync_directory()?,
        }
        self.job = None;
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_outlives_the_agent_that_set_it_until_the_job_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path());
        assert_eq!(mark.job(), None);
        mark.set(JobKind::Clone).unwrap();
        mark.set(JobKind::Rewind).unwrap();

        let mut found = Mark::open(dir.path());
        assert_eq!(found.job(), Some(&JobKind::Rewind));
        found.clear().unwrap();
        assert_eq!(Mark::open(dir.path()).job(), None);
    }

    #[test]
    fn a_mark_that_cannot_be_read_counts_as_a_rewind() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "half a li").unwrap();
        assert_eq!(Mark::open(dir.path()).job(), Some(&JobKind::Rewind), "never started, never wiped");
    }

    #[test]
    fn a_mark_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(&dir.path().join("missing"));
        assert!(mark.set(JobKind::Rewind).is_err());
        assert_eq!(mark.job(), None);
    }
}
