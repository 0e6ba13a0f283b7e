//! `remove`: forget a cluster. Deliberately without `--force`.

use bellwether_dcs::{Check, CommitOutcome, Snapshot, Write, codec};

use crate::{
    command::RemoveArgs,
    error::CliError,
    groups::{Groups, Part},
    manner::{Manner, Outcome},
    render::members::{Named, View, render},
    session::{Session, Target, deadline},
};

pub(crate) async fn remove(session: &mut Session, args: &RemoveArgs) -> Result<Outcome, CliError> {
    if args.cluster.is_none() && session.manner == Manner::Patronictl {
        return Err(CliError::Usage("Missing argument 'CLUSTER_NAME'.".to_owned()));
    }
    let target = session.target(args.cluster.as_deref()).await?;
    let shown_as = match target.part {
        Part::EveryGroup => {
            return Err(CliError::refused("For Citus clusters the --group must me specified"));
        }
        // The one group is shown as if it were all of the cluster.
        Part::Group(_) if session.manner == Manner::Patronictl => Part::EveryGroup,
        part => part,
    };
    let snapshot = target.snapshot().await?;
    let cluster = codec::decode(&snapshot);
    let groups = Groups::of(shown_as, cluster.clone());
    let view = View::List { format: args.format, extended: false };
    session.talk.note_block(&render(Named { name: target.name.as_str(), groups: &groups }, view));

    let name = session.talk.ask("Please confirm the cluster name to remove", None)?;
    if name != target.name.as_str() {
        return Err(CliError::refused("Cluster names specified do not match"));
    }
    let question = format!(
        "You are about to remove all information in DCS for {}, please type: \"Yes I am aware\"",
        target.name
    );
    if session.talk.ask(&question, None)? != "Yes I am aware" {
        return Err(CliError::refused("You did not exactly type \"Yes I am aware\""));
    }
    if let Some(leader) = cluster.leader_name() {
        let question = "This cluster currently is healthy. Please specify the leader name to continue";
        if session.talk.ask(question, None)? != leader.as_str() {
            return Err(CliError::refused("You did not specify the current leader of the cluster"));
        }
    }
    delete_all(&target, snapshot).await?;
    if session.manner == Manner::Bellwether {
        session.talk.note(format!("Removed: the store knows nothing about {} any more", target.name));
    }
    Ok(Outcome::Done)
}

/// Every key in one transaction, leader lock included, and only if the leader is the one that was shown.
async fn delete_all(target: &Target, mut snapshot: Snapshot) -> Result<(), CliError> {
    let shown_leader = leader_of(&snapshot);
    // Members keep writing; a new key between reading and deleting needs another round.
    for _ in 0..10 {
        if leader_of(&snapshot) != shown_leader {
            return Err(CliError::refused(
                "the leader changed in the meantime; nothing more was removed, look again",
            ));
        }
        let writes: Vec<Write> = snapshot.entries.keys().map(|key| Write::delete(key.clone())).collect();
        if writes.is_empty() {
            return Ok(());
        }
        let check = match &shown_leader {
            Some(value) => Check::has_value(codec::keys::LEADER, value.clone()),
            None => Check::absent(codec::keys::LEADER),
        };
        match target.store.commit(&[check], &writes, deadline()).await {
            CommitOutcome::Applied(_) => return Ok(()),
            CommitOutcome::Refused { .. } => snapshot = target.snapshot().await?,
            CommitOutcome::Unknown(error) => return Err(error.into()),
        }
    }
    Err(CliError::refused("the store keeps changing; stop the agents first"))
}

fn leader_of(snapshot: &Snapshot) -> Option<Vec<u8>> {
    snapshot.entries.get(&codec::keys::LEADER.into()).map(|entry| entry.value.clone())
}
