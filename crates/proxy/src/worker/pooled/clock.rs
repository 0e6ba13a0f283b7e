//! What time does to pools.

use std::time::Duration;

use super::{Pooled, client::Stage, server::ServerStage};
use crate::{
    refusal::Refusal,
    routes::Target,
    worker::{context::Context, epoll::Key},
};

/// For a client that was dismissed to go.
const LEAVING: Duration = Duration::from_secs(2);

impl Pooled {
    /// Time has passed.
    pub(crate) fn tick(&mut self, context: &mut Context) {
        self.tick_clients(context);
        self.tick_servers(context);
        self.bring_readers_home(context);
        for id in self.pools.ids() {
            self.serve(context, id);
        }
    }

    fn tick_clients(&mut self, context: &mut Context) {
        let settings = context.settings.pooler.clone();
        let (mut late, mut waited_long, mut arriving, mut leaving) = (Vec::new(), Vec::new(), 0, false);
        for (key, client) in self.clients.iter() {
            let age = context.now.since(client.since);
            match client.stage {
                Stage::Greeting | Stage::Verifying | Stage::AwaitingSecret => {
                    arriving += 1;
                    if age >= settings.client_login_timeout {
                        late.push(key);
                    }
                }
                Stage::Leaving => {
                    leaving = true;
                    if age >= LEAVING {
                        late.push(key);
                    }
                }
                Stage::Waiting | Stage::Newcomer if age >= settings.query_wait_timeout => {
                    waited_long.push(key)
                }
                _ => {}
            }
        }
        self.pools.arriving = arriving;
        self.pools.leaving = leaving;
        for key in late {
            self.close_client(context, key);
        }
        for key in waited_long {
            let refusal = self.why_waiting(context, key);
            self.refuse(context, key, &refusal);
        }
    }

    fn why_waiting(&self, context: &Context, key: Key) -> Refusal {
        let Some(client) = self.clients.get(key) else { return Refusal::Stopping };
        let waited = context.now.since(client.since);
        let Some(pool) = client.pool.map(|id| self.pools.get(id)) else { return Refusal::Stopping };
        if context.routes.candidates(pool.target, context.now).is_empty() {
            return match (pool.target, context.routes.primary_at(context.now)) {
                (Target::Primary, Err(why)) => Refusal::NoPrimary { why, waited },
                (target, _) => Refusal::NoReplica { target, waited },
            };
        }
        Refusal::NoServer {
            waited,
            size: context.settings.pooler.size_of(&pool.database, &pool.user),
            error: pool.last_error.clone().filter(|_| pool.open == 0),
        }
    }

    fn tick_servers(&mut self, context: &mut Context) {
        let settings = context.settings.pooler.clone();
        let (mut slow, mut old) = (Vec::new(), Vec::new());
        for (key, server) in self.servers.iter() {
            let age = context.now.since(server.since);
            match server.stage {
                ServerStage::Connecting
                | ServerStage::Asking
                | ServerStage::LoggingIn
                | ServerStage::Checking
                | ServerStage::Resetting
                | ServerStage::Locating => {
                    if age >= settings.server_connect_timeout {
                        slow.push(key);
                    }
                }
                ServerStage::Idle => {
                    let is_idle =
                        !settings.server_idle_timeout.is_zero() && age >= settings.server_idle_timeout;
                    let lifetime = settings.server_lifetime;
                    if is_idle || (!lifetime.is_zero() && context.now.since(server.born) >= lifetime) {
                        old.push(key);
                    }
                }
                // The request's own clock ends that.
                ServerStage::BeingCancelled | ServerStage::Busy | ServerStage::Syncing => {}
            }
        }
        for key in slow {
            self.lose_server(context, key, "it did not answer in time");
        }
        for key in old {
            self.remove_server(context, key);
        }
    }
}
