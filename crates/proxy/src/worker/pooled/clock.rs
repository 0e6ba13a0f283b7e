//! What time does to pools.

use std::{collections::HashSet, time::Duration};

use super::{Pooled, client::Stage, pool::PoolId, server::ServerStage};
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
        let populated: HashSet<PoolId> = self.clients.iter().filter_map(|(_, client)| client.pool).collect();
        for id in self.pools.ids() {
            self.serve(context, id);
            self.keep_within(context, id, populated.contains(&id));
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
            full: pool.full,
            is_paused: self.pools.is_paused(&pool.database),
            error: pool.last_error.clone().filter(|_| pool.open == 0),
        }
    }

    fn tick_servers(&mut self, context: &mut Context) {
        let settings = context.settings.pooler.clone();
        let (mut slow, mut old, mut unused) = (Vec::new(), Vec::new(), Vec::new());
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
                    let pool = self.pools.get(server.pool);
                    let own = settings.limits.server_lifetime_in(&pool.database);
                    let lifetime = own.unwrap_or(settings.server_lifetime);
                    let idle_timeout = settings.server_idle_timeout;
                    if !lifetime.is_zero() && context.now.since(server.born) >= lifetime {
                        old.push(key);
                    } else if !idle_timeout.is_zero() && age >= idle_timeout {
                        unused.push(key);
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
        for key in unused {
            let Some(server) = self.servers.get(key) else { continue };
            let pool = self.pools.get(server.pool);
            let least = settings.limits.of(&pool.database, &pool.user).min;
            let has_clients = || self.clients.iter().any(|(_, client)| client.pool == Some(server.pool));
            if least == 0 || context.shared.quota.used(&pool.names()) > least || !has_clients() {
                self.remove_server(context, key);
            }
        }
    }
}
