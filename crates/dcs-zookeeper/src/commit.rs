//! Sends transactions: read, plan, `multi`; from the start if somebody else wrote in between.

use bellwether_dcs::{Check, CommitOutcome, StoreError, Write};
use zookeeper_client::{Client, CreateMode, Error, MultiWriteError, MultiWriteResult};

use crate::{
    error::unavailable,
    plan::{self, Impossible, Lifetime, Operation, Plan},
    servers::Servers,
    tree,
};

/// Whether the lease that the writes hang on is alive, and so whether they can be made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// None is needed, or `client` is its session.
    Fine,
    Gone,
}

/// One transaction. An error is an unknown end.
pub(crate) async fn commit(
    client: &Client,
    servers: &Servers,
    checks: &[Check],
    writes: &[Write],
    lease: Lease,
) -> Result<CommitOutcome, StoreError> {
    let concerned = plan::concerned(checks, writes);
    loop {
        let nodes = tree::read_some(client, servers, &concerned).await.map_err(unavailable)?;
        let (operations, revision_at) = match plan::plan(&nodes, checks, writes) {
            Ok(Plan::Multi { operations, revision_at }) => (operations, revision_at),
            Ok(Plan::Refused { found }) => return Ok(CommitOutcome::Refused { found }),
            Err(impossible) => return Err(cannot(&impossible)),
        };
        if lease == Lease::Gone {
            return Ok(CommitOutcome::Refused { found: None });
        }
        if !nodes.contains_key("") {
            make_parents(client, servers).await.map_err(unavailable)?;
        }
        match send(client, servers, operations).await {
            Ok(results) => match results.get(revision_at) {
                Some(MultiWriteResult::SetData { stat }) => {
                    return Ok(CommitOutcome::Applied(tree::revision(stat.mzxid)));
                }
                other => return Err(StoreError::Protocol(format!("a multi was answered with {other:?}"))),
            },
            // The whole of it was refused, because something is not as it was read: look again.
            Err(MultiWriteError::OperationFailed {
                source: Error::BadVersion | Error::NodeExists | Error::NoNode | Error::NotEmpty,
                ..
            }) => {}
            Err(error) => return Err(unavailable(error.into())),
        }
    }
}

pub(crate) fn cannot(impossible: &Impossible) -> StoreError {
    StoreError::Protocol(format!("not written: {impossible}"))
}

/// The directories above the cluster's own znode.
async fn make_parents(client: &Client, servers: &Servers) -> Result<(), Error> {
    match servers.base().rsplit_once('/') {
        None | Some(("", _)) => Ok(()),
        Some((parent, _)) => client.mkdir(parent, &CreateMode::Persistent.with_acls(servers.acls())).await,
    }
}

fn send<'a>(
    client: &'a Client,
    servers: &Servers,
    operations: Vec<Operation>,
) -> impl Future<Output = Result<Vec<MultiWriteResult>, MultiWriteError>> + Send + use<'a> {
    let mut writer = client.new_multi_writer();
    let mut added = Ok(());
    for operation in operations {
        added = added.and_then(|()| match operation {
            Operation::Check { path, version } => writer.add_check_version(&servers.path(&path), version),
            Operation::Create { path, value, lifetime } => {
                let mode = match lifetime {
                    Lifetime::Persistent => CreateMode::Persistent,
                    Lifetime::Session => CreateMode::Ephemeral,
                };
                writer.add_create(&servers.path(&path), &value, &mode.with_acls(servers.acls()))
            }
            Operation::Set { path, value, version } => {
                writer.add_set_data(&servers.path(&path), &value, version)
            }
            Operation::Delete { path, version } => writer.add_delete(&servers.path(&path), version),
        });
    }
    if added.is_err() {
        writer.abort();
    }
    let committed = writer.commit();
    async move {
        added?;
        committed.await
    }
}
