//! What time does to pools.

use std::{collections::HashSet, time::Duration};

use bellwether_pgwire::message::Report;
use bellwether_types::Timestamp;

use super::{
    Pooled,
    client::{Client, Stage},
    pool::PoolId,
    server::{Server, ServerStage},
};
use crate::{
    refusal::{Late, Refusal},
    routes::Target,
    settings::{PoolerSettings, Timeouts},
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
        let of_pools = self.timeouts_of_pools(&settings);
        let (mut arriving, mut leaving, mut due) = (0, false, Vec::new());
        for (key, client) in self.clients.iter() {
            match client.stage {
                Stage::Greeting | Stage::Verifying | Stage::AwaitingSecret => arriving += 1,
                Stage::Leaving => leaving = true,
                _ => {}
            }
            let idle = client.pool.map_or(Duration::ZERO, |id| of_pools[id.number()].client_idle);
            due.extend(due_of(client, &settings, idle, context.now).map(|due| (key, due)));
        }
        self.pools.arriving = arriving;
        self.pools.leaving = leaving;
        for (key, due) in due {
            match due {
                Due::Gone => self.close_client(context, key),
                Due::Late(what, limit) => self.refuse(context, key, &Refusal::TookTooLong(what, limit)),
                Due::WaitedLong => {
                    let refusal = self.why_waiting(context, key);
                    self.refuse(context, key, &refusal);
                }
                Due::Notice => self.notify(context, key),
                Due::Stuck(server) => {
                    self.lose_server(context, server, "it did not take a client's settings in time");
                }
            }
        }
    }

    /// By the number of the pool.
    fn timeouts_of_pools(&self, settings: &PoolerSettings) -> Vec<Timeouts> {
        self.pools.ids().into_iter().map(|id| settings.limits.timeouts_of(&self.pools.get(id).user)).collect()
    }

    /// Tells a client that it waits, as whoever sits before it cannot know.
    fn notify(&mut self, context: &mut Context, key: Key) {
        let what = match self.why_waiting(context, key) {
            Refusal::NoPrimary { .. } => "there is no primary",
            Refusal::NoReplica { .. } => "no replica can be read from",
            _ => "no server has come free",
        };
        let Some(client) = self.clients.get_mut(key) else { return };
        client.was_notified = true;
        let waited = context.now.since(client.since).as_secs_f64();
        let message = format!("{what} for {waited:.1} s: the query waits");
        let hint = "It ends with an error after pooler.query_wait_timeout.";
        let mut notice = Vec::new();
        Report { severity: "NOTICE", sqlstate: "00000", message: &message, detail: "", hint }
            .write_notice(&mut notice);
        if client.stream.write(&context.epoll, &notice).is_err() {
            self.close_client(context, key);
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
        let of_pools = self.timeouts_of_pools(&settings);
        let mut late = Vec::new();
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
                    if is_over(age, settings.server_connect_timeout) {
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
                ServerStage::Busy => {
                    let timeouts = of_pools[server.pool.number()];
                    if let (Some(client), Some((what, limit))) =
                        (server.client, took_too_long(server, timeouts, context.now))
                    {
                        late.push((key, client, what, limit));
                    }
                }
                // The request's own clock ends that, and the client's the other.
                ServerStage::BeingCancelled | ServerStage::Syncing => {}
            }
        }
        for (server, client, what, limit) in late {
            // It would go on with nobody to answer to, and count for nothing.
            self.cancel_work(server, None);
            self.refuse(context, client, &Refusal::TookTooLong(what, limit));
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

/// What has to be done about a client.
enum Due {
    /// It has had its last words.
    Gone,
    Late(Late, Duration),
    /// For a server.
    WaitedLong,
    /// It does not know that it waits.
    Notice,
    /// This server does not take its settings.
    Stuck(Key),
}

fn due_of(client: &Client, settings: &PoolerSettings, idle: Duration, now: Timestamp) -> Option<Due> {
    let age = now.since(client.since);
    let login = settings.client_login_timeout;
    match client.stage {
        Stage::Greeting | Stage::Verifying | Stage::AwaitingSecret if is_over(age, login) => {
            Some(Due::Late(Late::Login, login))
        }
        Stage::Leaving if age >= LEAVING => Some(Due::Gone),
        Stage::Waiting | Stage::Newcomer if is_over(age, settings.query_wait_timeout) => {
            Some(Due::WaitedLong)
        }
        Stage::Waiting | Stage::Newcomer
            if is_over(age, settings.query_wait_notify) && !client.was_notified =>
        {
            Some(Due::Notice)
        }
        Stage::Ready if is_over(age, idle) => Some(Due::Late(Late::IdleClient, idle)),
        Stage::Syncing if is_over(age, settings.server_connect_timeout) => client.server.map(Due::Stuck),
        _ => None,
    }
}

/// Whether a limit that may be none was reached.
fn is_over(age: Duration, limit: Duration) -> bool {
    !limit.is_zero() && age >= limit
}

/// Which of its timeouts a server that a client has has reached, and how long that is.
fn took_too_long(server: &Server, timeouts: Timeouts, now: Timestamp) -> Option<(Late, Duration)> {
    if server.side.is_at_rest() {
        return None;
    }
    let of_transaction = (Late::Transaction, timeouts.transaction);
    let of_step = if server.side.has_answered_all() {
        (Late::IdleTransaction, timeouts.idle_transaction)
    } else {
        (Late::Query, timeouts.query)
    };
    let ages = [(now.since(server.asked_at), of_step), (now.since(server.begun_at), of_transaction)];
    ages.into_iter().find(|(age, (_, limit))| is_over(*age, *limit)).map(|(_, late)| late)
}
