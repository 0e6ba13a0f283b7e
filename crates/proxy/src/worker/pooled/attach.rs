//! Bringing clients and servers together, and parting them.

use std::time::Duration;

use bellwether_pgwire::message;
use bellwether_types::{MemberName, Timestamp};

use super::{Pooled, client::Stage, pool::PoolId, server::ServerStage, traffic::micros};
use crate::{
    pooling::{server::Expect, settings},
    refusal::Refusal,
    settings::Mode,
    worker::{context::Context, epoll::Key},
};

/// How often members without a server of a pool are looked for.
const SPREADS: Duration = Duration::from_secs(1);

impl Pooled {
    /// Gives a client a server, if one is free. What the client has said so far stays in its input.
    pub(super) fn acquire(&mut self, context: &mut Context, client: Key, id: PoolId) -> bool {
        let may_begin = self.may_begin(context, id);
        let pool = self.pools.get_mut(id);
        // Nobody overtakes those who wait.
        if may_begin
            && pool.waiting.is_empty()
            && let Some(server) = self.take_idle(context, client, id)
        {
            self.attach(context, client, server);
            self.spread(context, id);
            return true;
        }
        if let Some(client_state) = self.clients.get_mut(client) {
            client_state.stage = Stage::Waiting;
            client_state.since = context.now;
            client_state.was_notified = false;
            client_state.listener.counts.waiting.add(1);
            self.pools.get_mut(id).waiting.push_back(client);
        }
        self.serve(context, id);
        false
    }

    /// A server that nobody has. Where several members serve, it is the one whose turn it is.
    fn take_idle(&mut self, context: &mut Context, client: Key, id: PoolId) -> Option<Key> {
        let Self { clients, servers, pools, .. } = self;
        let pool = pools.get_mut(id);
        if pool.idle.len() < 2 || context.routes.candidates(pool.target, context.now).len() < 2 {
            return pool.idle.pop();
        }
        let is_at = |key: &Key, member: &MemberName| {
            servers.get(*key).is_some_and(|server| server.route.member == *member)
        };
        let after = clients.get(client).and_then(|client| client.split.as_ref()?.after);
        let busy = |member: &MemberName| {
            let idle = pool.idle.iter().filter(|key| is_at(key, member)).count();
            let open = pool.open_at.get(member).copied().unwrap_or(0);
            (idle > 0).then(|| open.saturating_sub(idle))
        };
        let chosen = context.share(pool.target, after, busy);
        // The one used last is taken first, as it knows most.
        let at = chosen.and_then(|member| pool.idle.iter().rposition(|key| is_at(key, &member)));
        Some(pool.idle.remove(at.unwrap_or(pool.idle.len() - 1)))
    }

    /// Opens a server at a member that has none though its turn would come: few clients would go on with those that are there.
    fn spread(&mut self, context: &mut Context, id: PoolId) {
        let pool = self.pools.get_mut(id);
        let members = context.routes.candidates(pool.target, context.now).len();
        if members <= pool.open_at.len() || pool.coming > 0 || context.now.since(pool.spread_at) < SPREADS {
            return;
        }
        pool.spread_at = context.now;
        let pool = self.pools.get(id);
        let open = |member: &MemberName| pool.open_at.get(member).copied().unwrap_or(0);
        let empty = context.emptiest(pool.target, open).filter(|route| open(&route.member) == 0);
        let limits = context.settings.pooler.limits.of(&pool.database, &pool.user).servers(false);
        if let Some(route) = empty
            && context.shared.quota.used(&pool.names()) < limits.pool
        {
            self.open_server_at(context, id, route);
            // Nobody waits for it.
            self.claim_no_more(context, id);
        }
    }

    /// Whether a transaction may begin: a server that is there already may belong to a leader that hands over, or of which nothing
    /// has been heard for too long.
    fn may_begin(&self, context: &Context, id: PoolId) -> bool {
        let pool = self.pools.get(id);
        !context.routes.candidates(pool.target, context.now).is_empty()
            && !self.pools.is_paused(&pool.database)
    }

    /// Gives servers to those who wait, and opens more where that is allowed.
    pub(super) fn serve(&mut self, context: &mut Context, id: PoolId) {
        if !self.may_begin(context, id) {
            return self.claim_no_more(context, id);
        }
        loop {
            let pool = self.pools.get_mut(id);
            if pool.waiting.is_empty() || pool.idle.is_empty() {
                break;
            }
            let (Some(client), Some(server)) = (pool.waiting.pop_front(), pool.idle.pop()) else { break };
            if let Some(client) = self.clients.get_mut(client) {
                client.listener.counts.waiting.sub(1);
                pool.totals.wait_micros += micros(context.now.since(client.since));
            }
            self.attach(context, client, server);
        }
        while self.pools.get(id).wants_more(context.now) && self.open_server(context, id) {}
        if !self.pools.get(id).wants_more(context.now) {
            self.claim_no_more(context, id);
        }
    }

    fn attach(&mut self, context: &mut Context, client_key: Key, server_key: Key) {
        let confirmation = self.confirmation(context, client_key, server_key);
        let (Some(client), Some(server)) =
            (self.clients.get_mut(client_key), self.servers.get_mut(server_key))
        else {
            // One of them has gone this instant; the other is as it was.
            if self.servers.get(server_key).is_some() {
                self.put_back(context, server_key);
            }
            return;
        };
        self.pools.get_mut(server.pool).totals.server_assignments += 1;
        client.server = Some(server_key);
        server.client = Some(client_key);
        server.side.gives_way = client.split.as_ref().is_some_and(|split| split.gives_way);
        server.side.is_own = client.split.is_none() && self.pools.get(server.pool).mode == Mode::Session;
        let mut statements = settings::difference(&server.side.settings, client.side.session.current());
        if !confirmation.is_empty() {
            if !statements.is_empty() {
                statements.push(';');
            }
            statements.push_str(&confirmation);
        }
        if statements.is_empty() {
            client.stage = Stage::Attached;
            server.stage = ServerStage::Busy;
            if !client.side.input.is_empty() {
                self.carry_up(context, client_key);
            }
            return;
        }
        client.stage = Stage::Syncing;
        client.since = context.now;
        server.stage = ServerStage::Syncing;
        server.side.expected.push_back(Expect::Ours);
        let mut query = Vec::new();
        message::query(&mut query, &statements);
        if server.stream.write(&context.epoll, &query).is_err() {
            self.lose_server(context, server_key, "the connection was closed");
        }
    }

    /// The server has, or has not, taken the client's settings.
    pub(super) fn synced(&mut self, context: &mut Context, server_key: Key) {
        if !self.confirmed(context, server_key) {
            return;
        }
        let Some(server) = self.servers.get_mut(server_key) else { return };
        let Some(client_key) = server.client else { return };
        let Some(client) = self.clients.get_mut(client_key) else { return };
        if let Some(what) = server.side.failure.take() {
            // Without its role or its search path a statement would do something else than was meant.
            let refusal = Refusal::SettingsFailed { what };
            return self.refuse(context, client_key, &refusal);
        }
        server.side.settings = client.side.session.current().clone();
        server.stage = ServerStage::Busy;
        client.stage = Stage::Attached;
        self.carry_up(context, client_key);
    }

    /// The client's transaction is over: others may have its server.
    #[inline]
    pub(super) fn release(&mut self, context: &mut Context, client_key: Key, server_key: Key) {
        if let Some(client) = self.clients.get_mut(client_key) {
            client.server = None;
            client.stage = Stage::Ready;
            client.since = context.now;
            if client.stream.readable {
                Self::again(context, client_key);
            }
        }
        if let Some(server) = self.servers.get_mut(server_key) {
            server.client = None;
        }
        self.put_back(context, server_key);
    }

    /// A client has gone; its server is used again if nothing of it is left.
    pub(super) fn part_with(&mut self, context: &mut Context, key: Key, is_marked: bool) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.client = None;
        let id = server.pool;
        let is_clean =
            server.side.is_at_rest() && !server.stream.is_blocked() && server.stage == ServerStage::Busy;
        if !is_clean {
            self.remove_server(context, key);
            return self.serve(context, id);
        }
        let mode = self.pools.get(id).mode;
        if is_marked || mode == Mode::Session {
            return self.reset(context, key);
        }
        self.put_back(context, key);
    }

    fn reset(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.stage = ServerStage::Resetting;
        server.since = context.now;
        server.side.expected.push_back(Expect::Ours);
        let id = server.pool;
        let mut query = Vec::new();
        message::query(&mut query, &context.settings.pooler.reset_query);
        let written = server.stream.write(&context.epoll, &query);
        self.pools.get_mut(id).coming += 1;
        if written.is_err() {
            self.lose_server(context, key, "the connection was closed");
        }
    }

    /// The server is as new.
    pub(super) fn was_reset(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let id = server.pool;
        if server.side.failure.take().is_some() {
            return self.lose_server(context, key, "a session could not be reset");
        }
        server.side.prepared.clear();
        server.side.unnamed = None;
        server.side.settings = settings::Set::default();
        self.pools.get_mut(id).coming -= 1;
        server.stage = ServerStage::Idle;
        self.put_back(context, key);
    }

    /// Back to the pool, and on to whoever waits.
    #[inline]
    pub(super) fn put_back(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let id = server.pool;
        server.since = context.now;
        let owes = self.pools.get(id).owes_until > context.now && server.has_had_its_turn(context.now);
        if server.is_condemned || server.side.is_ending || owes {
            if owes {
                self.pools.get_mut(id).owes_until = Timestamp::ZERO;
            }
            self.remove_server(context, key);
        } else if server.cancels > 0 {
            server.stage = ServerStage::BeingCancelled;
            self.pools.get_mut(id).coming += 1;
        } else {
            server.stage = ServerStage::Idle;
            self.pools.get_mut(id).idle.push(key);
        }
        if !self.pools.get(id).waiting.is_empty() {
            self.serve(context, id);
        }
    }

    /// The client goes back to the front of the queue: nothing of it has been done.
    pub(super) fn wait_again(&mut self, context: &mut Context, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(id) = client.pool else { return };
        client.server = None;
        client.stage = Stage::Waiting;
        client.since = context.now;
        client.listener.counts.waiting.add(1);
        self.pools.get_mut(id).waiting.push_front(key);
    }

    /// The client's server has gone.
    pub(super) fn orphan(&mut self, context: &mut Context, key: Key, member: &MemberName) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.server = None;
        match client.stage {
            Stage::Syncing => self.wait_again(context, key),
            // Its last words have been passed on.
            Stage::Attached if client.told => self.dismiss(context, key, &[]),
            Stage::Attached => {
                let in_transaction = client.side.is_busy;
                self.refuse(context, key, &Refusal::ServerLost { member: member.clone(), in_transaction });
            }
            _ => {}
        }
    }
}
