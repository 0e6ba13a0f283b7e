//! A disk that hangs, for tests of what must not wait for it.

use std::{fs, io::Read as _, path::Path, sync::mpsc, thread::JoinHandle, time::Duration};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Long enough for everything but whoever waits for the file.
const PATIENCE: Duration = Duration::from_secs(30);

/// A named pipe in the place of a file: whoever opens it waits until the test opens the other end, which it does at last in any case, so
/// that a test fails instead of hanging.
#[derive(Debug)]
pub(crate) struct SlowFile {
    go_on: mpsc::Sender<()>,
    other_end: JoinHandle<(String, bool)>,
}

impl SlowFile {
    /// One that somebody wants to write.
    pub(crate) fn to_write(path: &Path) -> Self {
        Self::with(path, |path| {
            let mut text = String::new();
            fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        })
    }

    /// One that somebody wants to read, and that says `text`.
    pub(crate) fn to_read(path: &Path, text: &'static str) -> Self {
        Self::with(path, move |path| {
            fs::write(path, text).unwrap();
            text.to_owned()
        })
    }

    fn with(path: &Path, other_end: impl FnOnce(&Path) -> String + Send + 'static) -> Self {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let (go_on, wait) = mpsc::channel();
        let path = path.to_owned();
        let other_end = std::thread::spawn(move || {
            let in_time = wait.recv_timeout(PATIENCE).is_ok();
            (other_end(&path), in_time)
        });
        Self { go_on, other_end }
    }

    /// # Panics
    /// If somebody waited for it on this thread.
    pub(crate) fn still_hangs(&self) {
        assert!(!self.other_end.is_finished(), "somebody waited for the file on this thread");
    }

    /// What was written or read in the end.
    ///
    /// # Panics
    /// If somebody waited for it on this thread.
    pub(crate) fn goes_on(self) -> String {
        let _ = self.go_on.send(());
        let (text, in_time) = self.other_end.join().unwrap();
        assert!(in_time, "somebody waited for the file on this thread");
        text
    }
}
