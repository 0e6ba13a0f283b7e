//! RELOAD on the console: whoever reads the file is asked to read it again.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// For the file to be read and taken into use.
const DONE_WITHIN: Duration = Duration::from_secs(10);

/// An administrator wants the file read again.
#[derive(Debug)]
pub struct ReloadWish {
    done: oneshot::Sender<Result<(), String>>,
}

impl ReloadWish {
    /// It was read, or why it cannot be used.
    pub fn answer(self, outcome: Result<(), String>) {
        // Who asked may have gone.
        let _ = self.done.send(outcome);
    }
}

/// Where wishes go; without a reader none can be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes(Option<mpsc::Sender<ReloadWish>>);

/// Why nothing was read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nobody reads a file here.
    Nobody,
    Failed(String),
}

impl Wishes {
    pub(super) fn open(&mut self) -> mpsc::Receiver<ReloadWish> {
        let (to, wishes) = mpsc::channel(1);
        self.0 = Some(to);
        wishes
    }

    pub(super) async fn make(&self) -> Result<(), Unread> {
        let to = self.0.as_ref().ok_or(Unread::Nobody)?;
        let (done, outcome) = oneshot::channel();
        let late = || Unread::Failed("the file was not read in time".to_owned());
        let read = async {
            to.send(ReloadWish { done }).await.map_err(|_| Unread::Nobody)?;
            outcome.await.map_err(|_| late())?.map_err(Unread::Failed)
        };
        tokio::time::timeout(DONE_WITHIN, read).await.unwrap_or_else(|_| Err(late()))
    }
}
