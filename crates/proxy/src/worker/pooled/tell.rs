//! What is told of the pools.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Pooled,
    client::{Client, Stage},
    pool::PoolId,
    server::{Server, ServerStage},
};
use crate::{
    admin,
    report::{PoolReport, WorkerReport},
    worker::context::Context,
};

fn place_of(of: Option<SocketAddr>) -> (String, u16) {
    of.map_or_else(Default::default, |address| (address.ip().to_string(), address.port()))
}

impl Pooled {
    /// All that there is to tell.
    pub(crate) fn report(&self, context: &Context) -> WorkerReport {
        WorkerReport {
            pools: self.pools_now(context),
            clients: self.clients.iter().filter_map(|(_, client)| self.client_now(context, client)).collect(),
            servers: self.servers.iter().map(|(_, server)| self.server_now(server)).collect(),
            is_paused: self.pools.is_paused,
            paused: self.pools.paused.clone(),
            disabled: self.pools.disabled.clone(),
        }
    }

    fn client_now(&self, context: &Context, client: &Client) -> Option<admin::Client> {
        let pool = self.pools.get(client.pool?);
        // PgBouncer's word for a Unix socket.
        let unix = || client.stream.is_unix().then(|| ("unix".to_owned(), 0));
        let (address, port) = match client.stream.peer() {
            None => unix().unwrap_or_default(),
            peer => place_of(peer),
        };
        let (local_address, local_port) = place_of(client.stream.local());
        let is_waiting = matches!(client.stage, Stage::Waiting | Stage::Newcomer);
        Some(admin::Client {
            id: u64::from(client.process),
            user: pool.user.to_string(),
            database: pool.database.to_string(),
            state: match client.stage {
                Stage::Waiting | Stage::Newcomer => "waiting",
                Stage::Attached | Stage::Syncing => "active",
                _ => "idle",
            },
            address,
            port,
            local_address,
            local_port,
            wait: if is_waiting { context.now.since(client.since) } else { std::time::Duration::ZERO },
            server: client
                .server
                .and_then(|key| self.servers.get(key))
                .map(|server| u64::from(server.process)),
            tls: if client.stream.is_encrypted() { "TLS".into() } else { String::new() },
            prepared_statements: client.side.names.as_ref().map_or(0, |names| names.len()),
            ..admin::Client::default()
        })
    }

    fn server_now(&self, server: &Server) -> admin::Server {
        let pool = self.pools.get(server.pool);
        let (address, port) = place_of(server.stream.peer());
        let (local_address, local_port) = place_of(server.stream.local());
        admin::Server {
            id: u64::from(server.process),
            user: pool.user.to_string(),
            database: pool.database.to_string(),
            state: match server.stage {
                ServerStage::Busy | ServerStage::Syncing => "active",
                ServerStage::BeingCancelled => "being_canceled",
                ServerStage::Idle => "idle",
                ServerStage::Resetting | ServerStage::Locating => "tested",
                _ => "new",
            },
            address,
            port,
            local_address,
            local_port,
            is_closing: server.is_condemned,
            client: server
                .client
                .and_then(|key| self.clients.get(key))
                .map(|client| u64::from(client.process)),
            pid: server.process,
            tls: if server.stream.is_encrypted() { "TLS".into() } else { String::new() },
            prepared_statements: server.side.prepared.len(),
            ..admin::Server::default()
        }
    }

    /// Every pool, as it is now.
    fn pools_now(&self, context: &Context) -> Vec<PoolReport> {
        let mut reports: HashMap<PoolId, PoolReport> = self
            .pools
            .ids()
            .into_iter()
            .map(|id| {
                let pool = self.pools.get(id);
                let oldest = pool.waiting.front().and_then(|key| self.clients.get(*key));
                let waited = oldest.map_or(0, |client| context.now.since(client.since).as_micros());
                let report = PoolReport {
                    database: pool.database.clone(),
                    user: pool.user.clone(),
                    target: pool.target,
                    mode: pool.mode,
                    clients_active: 0,
                    clients_waiting: pool.waiting.len() + pool.newcomers.len(),
                    servers_active: 0,
                    servers_idle: pool.idle.len(),
                    servers_login: 0,
                    servers_reset: 0,
                    servers_being_cancelled: 0,
                    pinned: 0,
                    longest_wait_micros: u64::try_from(waited).unwrap_or(u64::MAX),
                    totals: pool.totals,
                    last_error: pool.last_error.clone(),
                };
                (id, report)
            })
            .collect();
        for (_, client) in self.clients.iter() {
            let Some(report) = client.pool.and_then(|id| reports.get_mut(&id)) else { continue };
            report.clients_active +=
                usize::from(matches!(client.stage, Stage::Ready | Stage::Attached | Stage::Syncing));
            report.pinned += usize::from(client.side.pin.is_some());
        }
        for (_, server) in self.servers.iter() {
            let Some(report) = reports.get_mut(&server.pool) else { continue };
            match server.stage {
                ServerStage::Busy | ServerStage::Syncing => report.servers_active += 1,
                ServerStage::BeingCancelled => report.servers_being_cancelled += 1,
                ServerStage::Idle => {}
                ServerStage::Resetting | ServerStage::Locating => report.servers_reset += 1,
                ServerStage::Connecting
                | ServerStage::Asking
                | ServerStage::LoggingIn
                | ServerStage::Checking => {
                    report.servers_login += 1;
                }
            }
        }
        self.pools.ids().into_iter().filter_map(|id| reports.remove(&id)).collect()
    }
}
