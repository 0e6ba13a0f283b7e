//! How many servers there may be: what this thread asks of the table that all threads share, and does for others.

use std::time::Duration;

use bellwether_types::Timestamp;

use super::{
    Pooled,
    pool::PoolId,
    server::{Server, ServerStage},
};
use crate::{
    quota::{Full, Holder},
    worker::{context::Context, epoll::Key},
};

/// A server is kept for so long before it is closed for others who wait, and for so many times as long as it took to open it:
/// else nothing would be done but to connect.
const TURN: Duration = Duration::from_millis(100);
const TURN_OF_OPENING: u32 = 4;
/// A server that has not been used for so long is not needed as much as elsewhere.
const UNUSED: Duration = Duration::from_millis(250);
/// A request for a server is repeated for as long as somebody waits.
const OWED: Duration = Duration::from_millis(500);

impl Server {
    pub(super) fn has_had_its_turn(&self, now: Timestamp) -> bool {
        let opening = self.ready_at.since(self.born);
        now.since(self.ready_at) >= TURN.max(opening * TURN_OF_OPENING)
    }
}

fn holder(context: &Context, id: PoolId) -> Holder {
    Holder { worker: context.number, pool: id.number() }
}

impl Pooled {
    /// Whether the pool may have one more server; it is counted then. If not, the pool is told when it may.
    pub(super) fn take_place(&mut self, context: &Context, id: PoolId) -> bool {
        let pool = self.pools.get(id);
        let limits = &context.settings.pooler.limits;
        let after = limits.reserve_pool_timeout;
        let longest = pool.waiting.front().and_then(|client| self.clients.get(*client));
        let with_reserve =
            !after.is_zero() && longest.is_some_and(|client| context.now.since(client.since) >= after);
        let limits = limits.of(&pool.database, &pool.user).servers(with_reserve);
        let taken = context.shared.quota.take(holder(context, id), &pool.names(), limits, context.now);
        let pool = self.pools.get_mut(id);
        match taken {
            Ok(()) => {
                pool.full = None;
                true
            }
            Err(refused) => {
                pool.full = Some(refused.full);
                if refused.is_new {
                    let which = match refused.full {
                        Full::Pool(_) => 0,
                        Full::Database(_) => 1,
                        Full::User(_) => 2,
                    };
                    context.shared.metrics.full[which].add(1);
                }
                context.shared.tell(refused.notices);
                false
            }
        }
    }

    /// A server has gone: somebody else may have one.
    pub(super) fn give_place(&self, context: &Context, id: PoolId) {
        context.shared.tell(context.shared.quota.give(holder(context, id), context.now));
    }

    /// Nobody waits here who could be served by one more server.
    pub(super) fn claim_no_more(&mut self, context: &Context, id: PoolId) {
        if self.pools.get_mut(id).full.take().is_some() {
            context.shared.tell(context.shared.quota.withdraw(holder(context, id), context.now));
        }
    }

    /// A server may be opened now.
    pub(crate) fn has_room(&mut self, context: &mut Context, pool: usize) {
        let Some(id) = self.pools.id_of(pool) else { return };
        self.serve(context, id);
    }

    /// Others wait for a server that this pool may have to spare.
    pub(crate) fn spare(&mut self, context: &mut Context, pool: usize, must: bool) {
        let Some(id) = self.pools.id_of(pool) else { return };
        // The one that was used last is taken first, so the first is the one that is needed least.
        let pool = self.pools.get(id);
        let unused = pool.idle.first().copied().filter(|_| pool.waiting.is_empty());
        let unused = unused.filter(|key| must || self.is_unused(context, *key));
        match unused {
            Some(key) => self.remove_server(context, key),
            None if must => self.pools.get_mut(id).owes_until = context.now + OWED,
            None => {}
        }
    }

    fn is_unused(&self, context: &Context, key: Key) -> bool {
        self.servers.get(key).is_some_and(|server| {
            server.stage == ServerStage::Idle && context.now.since(server.since) >= UNUSED
        })
    }

    /// Closes what is more than may be, because a limit has become lower, and opens what should be there.
    pub(super) fn keep_within(&mut self, context: &mut Context, id: PoolId, has_clients: bool) {
        let pool = self.pools.get(id);
        let limit = context.settings.pooler.limits.of(&pool.database, &pool.user);
        let over = limit.servers(true);
        while let Some(key) = self.pools.get(id).idle.first().copied()
            && context.shared.quota.is_over(holder(context, id), over)
        {
            self.remove_server(context, key);
        }
        let pool = self.pools.get(id);
        let may_try = pool.coming == 0 && context.now >= pool.retry_at;
        if has_clients && may_try && limit.min > 0 && context.shared.quota.used(&pool.names()) < limit.min {
            self.open_server(context, id);
            if !self.pools.get(id).wants_more(context.now) {
                self.claim_no_more(context, id);
            }
        }
    }
}
