//! What the Raft library sends, over two links per node: one for heartbeats and votes, one for everything big, so
//! that a snapshot never delays a heartbeat.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

use super::{
    Net,
    link::{CallError, Link},
    message::{Request, Response, SnapshotHeader},
};
use crate::{
    command::Blob,
    consensus::{NodeId, Peer, Snapshot, TypeConfig, Vote},
};

/// The two links to one node.
#[derive(Clone)]
struct Links {
    addr: String,
    control: Link,
    bulk: Link,
}

/// Keeps the links to all nodes, so that an election finds them open.
#[derive(Clone)]
pub(crate) struct Network {
    net: Arc<Net>,
    links: Arc<Mutex<BTreeMap<NodeId, Links>>>,
}

impl Network {
    pub(crate) fn new(net: Arc<Net>) -> Self {
        Self { net, links: Arc::default() }
    }

    /// Closes the links to nodes that left.
    pub(crate) fn keep_only(&self, stays: impl Fn(NodeId) -> bool) {
        self.links.lock().expect("no code panics while it holds the links").retain(|node, _| stays(*node));
    }

    fn links(&self, node: NodeId, addr: &str) -> Links {
        let mut links = self.links.lock().expect("no code panics while it holds the links");
        let fresh = || Links {
            addr: addr.to_owned(),
            control: Link::new(self.net.clone(), addr.to_owned(), Some(node)),
            bulk: Link::new(self.net.clone(), addr.to_owned(), Some(node)),
        };
        let known = links.entry(node).or_insert_with(fresh);
        if known.addr != addr {
            *known = fresh();
        }
        known.clone()
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Target;

    async fn new_client(&mut self, target: NodeId, peer: &Peer) -> Target {
        Target { links: self.links(target, &peer.addr) }
    }
}

/// One node, as the Raft library talks to it.
pub(crate) struct Target {
    links: Links,
}

async fn call(link: &Link, request: Request, limit: Duration) -> Result<Response, RPCError<TypeConfig>> {
    match link.call(request, limit).await {
        Ok(Response::Failed(why)) => Err(NetworkError::from_string(why).into()),
        Ok(response) => Ok(response),
        Err(error @ CallError::NotSent(_)) => Err(Unreachable::from_string(error).into()),
        Err(error) => Err(NetworkError::from_string(error).into()),
    }
}

fn odd(response: Response) -> RPCError<TypeConfig> {
    NetworkError::from_string(format!("an answer to another question: {response:?}")).into()
}

impl RaftNetworkV2<TypeConfig> for Target {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let link = if request.entries.is_empty() { &self.links.control } else { &self.links.bulk };
        match call(link, Request::Append(request), option.hard_ttl()).await? {
            Response::Append(response) => Ok(response),
            other => Err(odd(other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match call(&self.links.control, Request::Vote(request), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            other => Err(odd(other)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match call(&self.links.control, Request::PreVote(request), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            other => Err(odd(other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let header = SnapshotHeader {
            last: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
        };
        let request = Request::Snapshot { vote, meta: header, data: Blob(snapshot.snapshot) };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            response = call(&self.links.bulk, request, option.hard_ttl()) => match response? {
                Response::Snapshot(response) => Ok(response),
                other => Err(odd(other).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match call(&self.links.control, Request::Transfer(request), option.hard_ttl()).await? {
            Response::Transfer(response) => Ok(response),
            other => Err(odd(other)),
        }
    }
}
