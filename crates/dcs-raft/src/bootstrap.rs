//! How a node comes to belong to a store: founds it, is founded by another, or joins.
//!
//! An empty directory may be a new cluster or a lost disk, and only the others know which. So a store is founded only
//! if *every* listed partner answers that it is empty too; the one with the lowest address does it for all. If anybody
//! has a log, this node joins as a learner under its new random id, and the leader promotes it in one change that
//! removes the id which had the address before. If somebody does not answer, everybody waits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_dcs::Deadline;
use futures::future::join_all;
use tokio::time::sleep;

use crate::{
    clock::now,
    consensus::{NodeId, Peer},
    net::message::{Answer, Ask, Probed},
    node::Node,
    router::Unanswered,
    storage::{StorageError, identity::random_id},
};

const PAUSE: Duration = Duration::from_millis(150);
/// Nodes that are started together find each other within this time; who waits longer needs a person.
const ORDINARY: Duration = Duration::from_secs(10);
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Runs until this node has a vote.
pub(crate) async fn take_part(node: Arc<Node>) {
    let began = now();
    loop {
        let metrics = node.metrics();
        let votes = metrics.membership_config.voter_ids().any(|id| id == node.id);
        if votes {
            node.set_waiting(None);
            return;
        }
        let empty = node.is_empty();
        let step =
            if empty { found_or_join(&node).await } else { join(&node, &node.config.partners()).await };
        if let Err(reason) = step {
            let is_ordinary = now().since(began) < ORDINARY;
            match node.net.may_complain(&format!("{is_ordinary} {reason}")) {
                true if is_ordinary => {
                    tracing::info!(reason = %reason, "this node does not belong to a store yet")
                }
                true => tracing::warn!(reason = %reason, "this node still does not belong to a store"),
                false => {}
            }
            node.set_waiting(Some(reason));
        }
        sleep(PAUSE).await;
    }
}

async fn found_or_join(node: &Node) -> Result<(), String> {
    let partners = node.config.partners();
    let answers = join_all(partners.iter().map(|partner| node.probe(partner))).await;
    let mut empty: BTreeMap<String, Probed> = BTreeMap::new();
    let mut silent = Vec::new();
    let mut with_log = Vec::new();
    for (partner, answer) in partners.iter().zip(answers) {
        match answer {
            Ok(probed) if probed.empty => drop(empty.insert(partner.clone(), probed)),
            Ok(_) => with_log.push(partner.clone()),
            Err(error) => silent.push(format!("{partner}: {error}")),
        }
    }
    if !with_log.is_empty() {
        return join(node, &with_log).await;
    }
    if !silent.is_empty() {
        return Err(format!(
            "a store is founded only when all its nodes answer, and these do not: {}",
            silent.join(", ")
        ));
    }
    if let Some((partner, probed)) = empty.iter().find(|(partner, probed)| **partner != probed.addr) {
        return Err(format!(
            "the node at {partner} calls itself {}: its `self_addr` and the `partner_addrs` here must agree",
            probed.addr
        ));
    }
    let lowest = empty.keys().all(|partner| node.config.self_addr < *partner);
    if !lowest {
        return Err("the node with the lowest address founds the store".to_owned());
    }
    let members = empty
        .into_values()
        .map(|probed| (probed.node, Peer { addr: probed.addr, witness: probed.witness }))
        .chain([(node.id, node.peer())])
        .collect();
    found(node, members).await
}

async fn found(node: &Node, members: BTreeMap<NodeId, Peer>) -> Result<(), String> {
    let store = random_id();
    node.adopt_store(store).await.map_err(|error| error.to_string())?;
    let count = members.len();
    node.raft.initialize(members).await.map_err(|error| format!("could not found the store: {error}"))?;
    tracing::info!(store = format_args!("{store:x}"), nodes = count, "founded a store");
    Ok(())
}

/// Asks those who have a log to take this node in.
async fn join(node: &Node, members: &[String]) -> Result<(), String> {
    let by = Deadline::after(JOIN_LIMIT);
    let ask = Ask::Join { node: node.id, peer: node.peer() };
    let mut last = "nobody has a log".to_owned();
    let mut candidates: Vec<String> = members.to_vec();
    while let Some(member) = candidates.pop() {
        match node.router.once(None, &member, &ask, by).await {
            Ok(Answer::Done) => {
                tracing::info!(through = %member, "joined the store");
                return Ok(());
            }
            Ok(Answer::Refused(why)) => return Err(why),
            Ok(other) => last = format!("{member}: {other:?}"),
            Err(Unanswered::WithoutEffect(error) | Unanswered::Unknown(error)) => {
                last = format!("{member}: {error}");
            }
        }
    }
    Err(format!("waiting to join the store ({last})"))
}

impl Node {
    /// Writes down which store this node belongs to, before it takes part.
    pub(crate) async fn adopt_store(&self, store: u64) -> Result<(), StorageError> {
        let mut identity = self.identity.lock().await;
        if identity.store == Some(store) {
            return Ok(());
        }
        let mut changed = identity.clone();
        changed.store = Some(store);
        let (directory, written) = (self.config.data_dir.clone(), changed.clone());
        tokio::task::spawn_blocking(move || written.save(&directory)).await.map_err(|error| {
            StorageError::io("write", &self.config.data_dir)(std::io::Error::other(error))
        })??;
        *identity = changed;
        self.net.set_store(store);
        Ok(())
    }
}
