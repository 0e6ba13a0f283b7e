//! Applies the log to the [`State`] and keeps its snapshot.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{StorageError, record, snapshot_file::SnapshotFile};
use crate::{
    command::Outcome,
    consensus::{LeaderTag, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
    state::State,
};

/// How far a node has applied the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The next log index to apply, so that nothing applied is zero.
    pub(crate) next: u64,
    pub(crate) revision: u64,
}

struct Applied {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot, as sent to others.
    snapshot: Option<(SnapshotMeta, Vec<u8>)>,
}

/// The state of one node, read by many and changed by the Raft library alone. Clones share it.
#[derive(Clone)]
pub(crate) struct Machine {
    applied: Arc<Mutex<Applied>>,
    progress: Arc<watch::Sender<Progress>>,
    directory: Arc<PathBuf>,
}

impl Machine {
    /// The state as of the snapshot on disk; the log after it is applied once it is known to be committed.
    pub(crate) fn load(directory: &Path) -> Result<Self, StorageError> {
        let mut applied = Applied {
            state: State::default(),
            last: None,
            membership: StoredMembership::default(),
            snapshot: None,
        };
        if let Some(mut file) = SnapshotFile::load(directory)? {
            applied.snapshot = Some((file.meta(), record::seal(&file.state)));
            file.state.begin_history();
            applied.state = file.state;
            applied.last = file.last;
            applied.membership = file.membership;
        }
        let progress = progress(&applied);
        Ok(Self {
            applied: Arc::new(Mutex::new(applied)),
            progress: Arc::new(watch::Sender::new(progress)),
            directory: Arc::new(directory.to_owned()),
        })
    }

    /// Reads the state as applied so far. Linearizable only after a confirmed read index was waited for.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    pub(crate) fn last_applied(&self) -> Option<LogId> {
        self.lock().last
    }

    /// Wakes with everything that is applied.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().expect("no code panics while it holds the state")
    }

    fn announce(&self) {
        let progress = progress(&self.lock());
        self.progress.send_replace(progress);
    }

    async fn save(&self, file: SnapshotFile) -> io::Result<()> {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || file.save(&directory))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }
}

fn progress(applied: &Applied) -> Progress {
    Progress { next: applied.last.map_or(0, |last| last.index + 1), revision: applied.state.revision() }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.lock();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = {
                let mut applied = self.lock();
                let log_id = entry.log_id;
                applied.last = Some(log_id);
                match entry.payload {
                    EntryPayload::Blank => Outcome::Nothing,
                    EntryPayload::Membership(membership) => {
                        applied.membership = StoredMembership::new(Some(log_id), membership);
                        Outcome::Nothing
                    }
                    EntryPayload::Normal(command) => {
                        applied.state.apply(LeaderTag::of(&log_id.leader_id), command)
                    }
                }
            };
            // Readers that wait for this entry must find it before its writer is told.
            self.announce();
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Vec<u8>) -> Result<(), io::Error> {
        let mut state: State =
            record::open(&data).map_err(|bad| io::Error::other(format!("a snapshot from a peer: {bad}")))?;
        let known = self.lock().snapshot.as_ref().is_some_and(|(known, _)| known == meta);
        if !known {
            self.save(SnapshotFile {
                last: meta.last_log_id,
                membership: meta.last_membership.clone(),
                state: state.clone(),
            })
            .await?;
        }
        state.begin_history();
        {
            let mut applied = self.lock();
            applied.state = state;
            applied.last = meta.last_log_id;
            applied.membership = meta.last_membership.clone();
            applied.snapshot = Some((meta.clone(), data));
        }
        self.announce();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let applied = self.lock();
        Ok(applied
            .snapshot
            .as_ref()
            .map(|(meta, data)| Snapshot { meta: meta.clone(), snapshot: data.clone() }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (file, meta, data) = {
            let applied = self.lock();
            let file = SnapshotFile {
                last: applied.last,
                membership: applied.membership.clone(),
                state: applied.state.clone(),
            };
            let (meta, data) = (file.meta(), record::seal(&file.state));
            (file, meta, data)
        };
        self.save(file).await?;
        self.lock().snapshot = Some((meta.clone(), data.clone()));
        Ok(Snapshot { meta, snapshot: data })
    }
}
