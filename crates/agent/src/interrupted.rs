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
    text: Option<Text>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    job: JobKind,
    /// Names a bootstrap, so that the store can tell whether it was this one that founded the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founding: Option<String>,
}

impl Mark {
    /// Reads what an earlier agent left. A mark that cannot be read is one of a rewind: the kind that is never started and never
    /// removed without permission.
    pub(crate) fn open(runtime_dir: &Path) -> Self {
        let path = runtime_dir.join(NAME);
        let unreadable = || Text { job: JobKind::Rewind, founding: None };
        let text = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| unreadable())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(unreadable()),
        };
        Self { path, text }
    }

    /// The job that began and has not succeeded.
    pub(crate) fn job(&self) -> Option<&JobKind> {
        self.text.as_ref().map(|text| &text.job)
    }

    /// The bootstrap that began and has not been finished.
    pub(crate) fn founding(&self) -> Option<&str> {
        self.text.as_ref()?.founding.as_deref()
    }

    /// `job` is about to change the files. On disk when this returns; without it the job must not begin.
    pub(crate) fn set(&mut self, job: JobKind) -> io::Result<()> {
        self.write(Text { job, founding: None })
    }

    /// As [`Mark::set`], for a bootstrap that bears the name `founding`: unique among all that this cluster ever sees.
    pub(crate) fn set_founding(&mut self, founding: String) -> io::Result<()> {
        self.write(Text { job: JobKind::Bootstrap, founding: Some(founding) })
    }

    fn write(&mut self, text: Text) -> io::Result<()> {
        let bytes = serde_json::to_vec(&text)?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.sync_directory()?;
        self.text = Some(text);
        Ok(())
    }

    /// The files are whole again, or gone.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.text.is_none() {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.sync_directory()?,
        }
        self.text = None;
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
    fn a_bootstrap_keeps_its_name_until_another_job_begins() {
        let dir = tempfile::tempdir().unwrap();
        Mark::open(dir.path()).set_founding("a-1".to_owned()).unwrap();
        let mut found = Mark::open(dir.path());
        assert_eq!((found.job(), found.founding()), (Some(&JobKind::Bootstrap), Some("a-1")));
        found.set(JobKind::Clone).unwrap();
        assert_eq!(Mark::open(dir.path()).founding(), None);

        fs::write(dir.path().join(NAME), r#"{"job":"Bootstrap"}"#).unwrap();
        let nameless = Mark::open(dir.path());
        assert_eq!((nameless.job(), nameless.founding()), (Some(&JobKind::Bootstrap), None));
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
