//! Reads to replicas: which pool a client's next messages go to, and what a replica must have replayed for them.
//!
//! The decisions are those of [`crate::split`]; here they meet pools and servers. A client of a listener that splits has two
//! pools. Before its messages are given a server, all of them must be there and be reads; then a server of a replica is taken
//! and asked, in the same breath as it is given the client's settings, whether it shows the client's last write. After a write
//! the primary's server is asked where that ended, before it goes back to its pool.

mod positions;
mod reading;

use std::{collections::HashMap, sync::Arc};

use bellwether_sql::{Judge, Reader, catalogue::Catalogue, facts::Class};
use bellwether_types::Timestamp;

use super::{
    Pooled,
    client::Stage,
    pool::{PoolId, Pools},
};
use crate::{
    split::{AtLeast, Consistency, Place, Position, Session, SplitSettings, Statement, Why},
    worker::{context::Context, epoll::Key},
};

/// Bytes of texts, and what they are, that one worker remembers.
const REMEMBERED: usize = 8 << 20;
/// And for each database besides.
const REMEMBERED_OF_ONE: usize = 4 << 20;

/// What a worker knows about texts and databases.
#[derive(Debug)]
pub(super) struct Splitting {
    reader: Reader,
    known: HashMap<Arc<str>, Known>,
    newest: positions::Newest,
}

/// Of a database.
#[derive(Debug)]
struct Known {
    judge: Judge,
    /// When its catalogue was asked for.
    asked_at: Option<Timestamp>,
}

impl Default for Known {
    fn default() -> Self {
        Self { judge: Judge::new(REMEMBERED_OF_ONE), asked_at: None }
    }
}

/// Of a client of a listener that splits.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) settings: Arc<SplitSettings>,
    pub(super) session: Session,
    pub(super) primary: PoolId,
    pub(super) replicas: PoolId,
    pub(super) database: Arc<str>,
    /// What the replica must show before it is given the messages.
    pub(super) after: Option<Position>,
    /// What was passed on may write.
    pub(super) writes: bool,
    /// A replica works on a read: what the client says before the answer may be something else, and waits.
    pub(super) holds: bool,
    /// What a replica cannot do for it is said to the primary again: the client has not asked for a replica by name.
    pub(super) gives_way: bool,
    /// Counts the client's writes: an answer about an earlier one says nothing about the last.
    written: u64,
}

impl Default for Splitting {
    fn default() -> Self {
        Self { reader: Reader::new(REMEMBERED), known: HashMap::new(), newest: positions::Newest::default() }
    }
}

impl Split {
    pub(super) fn new(
        settings: Arc<SplitSettings>,
        primary: PoolId,
        replicas: PoolId,
        database: Arc<str>,
    ) -> Self {
        Self {
            settings,
            session: Session::default(),
            primary,
            replicas,
            database,
            after: None,
            writes: false,
            holds: false,
            gives_way: false,
            written: 0,
        }
    }

    fn keeps_positions(&self) -> bool {
        matches!(self.settings.consistency, Consistency::Session | Consistency::Global)
    }
}

impl Pooled {
    /// What a database says of itself was read.
    pub(crate) fn catalogue_read(&mut self, database: &Arc<str>, catalogue: Option<Arc<Catalogue>>) {
        // What cannot be read any more may have changed since.
        self.splitting.known.entry(Arc::clone(database)).or_default().judge.learn(catalogue);
    }

    /// The pool for what a client without a server says. `None`: it was a command to us, and is answered.
    pub(super) fn pool_for(
        &mut self,
        context: &mut Context,
        key: Key,
        fresh: usize,
        usual: PoolId,
    ) -> Option<PoolId> {
        if self.clients.get(key)?.split.is_none() {
            return Some(usual);
        }
        if self.split(context, key, fresh) {
            return None;
        }
        self.clients.get(key)?.pool
    }

    /// Chooses the pool for what a client without a server says. `true`: it was a command to us, and is answered.
    fn split(&mut self, context: &mut Context, key: Key, fresh: usize) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(mut split) = client.split.take() else { return false };
        let joined;
        let bytes = if client.side.input.is_empty() {
            &context.buffer[..fresh]
        } else {
            joined = [&client.side.input[..], &context.buffer[..fresh]].concat();
            &joined[..]
        };
        if let Some(answer) = reading::command(&mut split.session, bytes) {
            client.split = Some(split);
            client.side.input.clear();
            client.has_work = false;
            if client.stream.write(&context.epoll, &answer).is_err() {
                self.close_client(context, key);
            }
            return true;
        }
        self.splitting.refresh(context, key, &split.database);
        let reading::Batch { class, hint, may_write } =
            self.splitting.batch(&client.side, bytes, &split.database);
        let at_least = match class {
            Class::Primary(_) => AtLeast::Unknown,
            _ => self.splitting.at_least(context, key, &split.settings),
        };
        let pinned = client.side.pin.is_some();
        let statement = Statement { class: &class, hint, pinned, newest: None, at_least };
        let decision = split.session.decide(&statement, &split.settings, context.now);
        tracing::trace!(place = ?decision.place, why = decision.why.code(), "a statement was placed");
        (split.after, split.holds, split.gives_way) = (None, false, false);
        match decision.place {
            Place::Replica { after } => {
                split.after = after;
                split.gives_way = decision.why != Why::Hint;
                split.writes = false;
                split.holds = !matches!(class, Class::Begin(_));
                client.pool = Some(split.replicas);
                if nobody_reads(&self.pools, context, split.replicas) {
                    client.pool = Some(split.primary);
                    (split.after, split.holds, split.gives_way) = (None, false, false);
                    split.writes = may_write;
                }
            }
            Place::Primary | Place::This(_) | Place::HoldBegin => {
                split.writes = may_write;
                client.pool = Some(split.primary);
            }
        }
        client.split = Some(split);
        false
    }

    /// Clients that wait for a replica while none answers go to the primary.
    pub(super) fn bring_readers_home(&mut self, context: &mut Context) {
        let stranded: Vec<(Key, PoolId, PoolId)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.stage == Stage::Waiting)
            .filter_map(|(key, client)| {
                client.split.as_ref().map(|split| (key, split.replicas, split.primary))
            })
            .filter(|(key, replicas, _)| {
                let waits_there = self.clients.get(*key).is_some_and(|client| client.pool == Some(*replicas));
                waits_there && nobody_reads(&self.pools, context, *replicas)
            })
            .collect();
        for (key, replicas, primary) in stranded {
            self.pools.get_mut(replicas).leave(key);
            let Some(client) = self.clients.get_mut(key) else { continue };
            client.listener.counts.waiting.sub(1);
            client.stage = Stage::Ready;
            client.pool = Some(primary);
            if let Some(split) = client.split.as_mut() {
                (split.after, split.holds, split.gives_way) = (None, false, false);
            }
            self.acquire(context, key, primary);
        }
    }
}

/// Whether no replica answers at present.
fn nobody_reads(pools: &Pools, context: &Context, replicas: PoolId) -> bool {
    let pool = pools.get(replicas);
    let nobody = context.routes.candidates(pool.target, context.now).is_empty();
    // Also if those who are there do not answer: the next attempt has not come yet.
    nobody || (pool.open == 0 && pool.failures > 0 && context.now < pool.retry_at)
}
