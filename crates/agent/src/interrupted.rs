//! A mark on disk that a job is changing the data directory: what survives of the job if the machine does not.
//!
//! pg_rewind and pg_basebackup write files in place. A directory on which one of them was interrupted may look whole, and PostgreSQL
//! may even start on it, with blocks of two histories. The mark is durable before the job begins and goes when it has succeeded; what
//! to do about one that is found is decided in `bellwether-ha`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_ha::view::JobKind;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use crate::rewind_source;

const NAME: &str = "interrupted.json";
/// How long the loop waits for the disk. One that is slower is asked about again by the next decision, so that it holds nothing up.
const PATIENCE: Duration = Duration::from_millis(300);

/// The mark of one data directory.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    text: Option<Text>,
    writing: Option<Writing>,
}

/// A change that the disk has not confirmed yet.
#[derive(Debug)]
struct Writing {
    wanted: Option<Text>,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        Self { path, text, writing: None }
    }

    /// The job that began and has not succeeded, as far as this agent knows: the disk may be slower.
    pub(crate) fn job(&self) -> Option<&JobKind> {
        self.standing().map(|text| &text.job)
    }

    /// Where a rewind writes down whose blocks it takes: for as long as the mark stands.
    pub(crate) fn rewind_source_file(&self) -> PathBuf {
        rewind_source::beside(&self.path)
    }

    /// The bootstrap that began and has not been finished.
    pub(crate) fn founding(&self) -> Option<&str> {
        self.standing()?.founding.as_deref()
    }

    fn standing(&self) -> Option<&Text> {
        let is_being_cleared = self.writing.as_ref().is_some_and(|writing| writing.wanted.is_none());
        self.text.as_ref().filter(|_| !is_being_cleared)
    }

    /// `job` is about to change the files. `true`: that is on disk. Without it the job must not begin; `false`: the disk takes its
    /// time, ask again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) async fn set(&mut self, job: JobKind) -> io::Result<bool> {
        self.write(Text { job, founding: None }).await
    }

    /// As [`Mark::set`], for a bootstrap that bears the name `founding`: unique among all that this cluster ever sees. One that was
    /// asked for before, and is only now on disk, keeps the name that it was given then.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) async fn set_founding(&mut self, founding: String) -> io::Result<bool> {
        self.write(Text { job: JobKind::Bootstrap, founding: Some(founding) }).await
    }

    async fn write(&mut self, text: Text) -> io::Result<bool> {
        let is_asked_again = self.writing.as_ref().is_some_and(|writing| {
            let is_same = |wanted: &Text| {
                wanted.job == text.job && wanted.founding.is_some() == text.founding.is_some()
            };
            writing.wanted.as_ref().is_some_and(is_same)
        });
        if !self.is_written().await? {
            return Ok(false);
        }
        if is_asked_again {
            return Ok(true);
        }
        let (path, bytes) = (self.path.clone(), serde_json::to_vec(&text)?);
        let task = spawn_blocking(move || replace(&path, &bytes));
        self.writing = Some(Writing { wanted: Some(text), task });
        self.is_written().await
    }

    /// The files are whole again, or gone. `true`: that is on disk; until then a crash makes the next agent believe the contrary.
    ///
    /// # Errors
    /// If it cannot be removed: it stands, unless the disk takes longer to say so than anybody asks.
    pub(crate) async fn clear(&mut self) -> io::Result<bool> {
        if !self.is_written().await? {
            return Ok(false);
        }
        if self.text.is_none() {
            return Ok(true);
        }
        let path = self.path.clone();
        self.writing = Some(Writing { wanted: None, task: spawn_blocking(move || remove(&path)) });
        self.is_written().await
    }

    /// Whether the disk has confirmed the last change.
    async fn is_written(&mut self) -> io::Result<bool> {
        let Some(writing) = &mut self.writing else { return Ok(true) };
        let Ok(ended) = tokio::time::timeout(PATIENCE, &mut writing.task).await else {
            warn!(path = %self.path.display(), "the disk is slow to take the mark of a job that changes the data directory");
            return Ok(false);
        };
        let wanted = self.writing.take().and_then(|writing| writing.wanted);
        ended.map_err(io::Error::other)??;
        self.text = wanted;
        Ok(true)
    }
}

/// Atomically, and durably. Blocking.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory_of(path)
}

fn remove(path: &Path) -> io::Result<()> {
    // Whose blocks a rewind has taken is told for as long as the mark stands, not for the next one.
    match fs::remove_file(rewind_source::beside(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory_of(path),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked until the disk has confirmed it, however slow it is: longer than [`PATIENCE`] on a busy machine.
    macro_rules! confirmed {
        ($change:expr) => {
            assert!(answered!($change).unwrap())
        };
    }

    macro_rules! answered {
        ($change:expr) => {
            tokio::time::timeout(Duration::from_secs(60), async {
                loop {
                    match $change.await {
                        Ok(false) => {}
                        answer => break answer,
                    }
                }
            })
            .await
            .expect("the disk answers within a minute")
        };
    }

    #[tokio::test]
    async fn a_mark_outlives_the_agent_that_set_it_until_the_job_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path());
        assert_eq!(mark.job(), None);
        confirmed!(mark.set(JobKind::Clone));
        confirmed!(mark.set(JobKind::Rewind));

        let mut found = Mark::open(dir.path());
        assert_eq!(found.job(), Some(&JobKind::Rewind));
        let source = found.rewind_source_file();
        fs::write(&source, "{}").unwrap();
        confirmed!(found.clear());
        assert_eq!(Mark::open(dir.path()).job(), None);
        assert!(!source.exists(), "it was for this rewind alone");
    }

    #[tokio::test]
    async fn a_bootstrap_keeps_its_name_until_another_job_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path());
        confirmed!(mark.set_founding("a-1".to_owned()));
        let mut found = Mark::open(dir.path());
        assert_eq!((found.job(), found.founding()), (Some(&JobKind::Bootstrap), Some("a-1")));
        confirmed!(found.set(JobKind::Clone));
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

    #[tokio::test]
    async fn a_mark_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(&dir.path().join("missing"));
        assert!(mark.set(JobKind::Rewind).await.is_err());
        assert_eq!(mark.job(), None);
    }

    /// A pipe that nobody reads takes as long to be opened as a disk that hangs.
    fn hang(file: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
    }

    fn go_on(file: &Path) {
        let reader = fs::OpenOptions::new().read(true).open(file).unwrap();
        fs::remove_file(file).unwrap();
        drop(reader);
    }

    #[tokio::test]
    async fn a_slow_disk_is_asked_again_and_nothing_counts_before_it_has_answered() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join(NAME).with_extension("new");
        hang(&new);
        let mut mark = Mark::open(dir.path());
        let began = std::time::Instant::now();
        for _ in 0..2 {
            assert!(!mark.set_founding("a-1".to_owned()).await.unwrap());
            assert!(!mark.clear().await.unwrap(), "one after the other");
        }
        assert!(began.elapsed() >= 4 * PATIENCE, "each waited for the disk");
        assert_eq!((mark.job(), mark.founding()), (None, None), "nothing may begin on the strength of it");
        go_on(&new);
        // A pipe cannot be synced: this one has failed.
        assert!(answered!(mark.set_founding("a-2".to_owned())).is_err());
        assert_eq!(mark.job(), None);
        confirmed!(mark.set_founding("a-3".to_owned()));
        assert_eq!(Mark::open(dir.path()).founding(), Some("a-3"));
    }

    #[tokio::test]
    async fn a_job_that_has_succeeded_is_not_done_again_because_the_disk_is_slow() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path());
        confirmed!(mark.set(JobKind::Clone));
        let (go_on, waiting) = std::sync::mpsc::channel::<()>();
        let path = mark.path.clone();
        let task = spawn_blocking(move || {
            let _ = waiting.recv();
            remove(&path)
        });
        mark.writing = Some(Writing { wanted: None, task });
        assert!(!mark.clear().await.unwrap());
        assert_eq!(mark.job(), None);
        drop(go_on);
        confirmed!(mark.clear());
        assert_eq!(Mark::open(dir.path()).job(), None);
    }

    #[tokio::test]
    async fn a_bootstrap_that_is_asked_for_again_keeps_the_name_that_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path());
        let text = Text { job: JobKind::Bootstrap, founding: Some("a-1".to_owned()) };
        let (path, bytes) = (mark.path.clone(), serde_json::to_vec(&text).unwrap());
        let task = spawn_blocking(move || replace(&path, &bytes));
        mark.writing = Some(Writing { wanted: Some(text), task });
        confirmed!(mark.set_founding("a-2".to_owned()));
        assert_eq!((mark.founding(), Mark::open(dir.path()).founding()), (Some("a-1"), Some("a-1")));
    }
}
