//! The console: who types there, and what it does to this worker's pools.

use bellwether_pgwire::{
    frame::{HEADER, Header},
    message::{self, Report},
};

use super::{Pooled, client::Stage, pool::PoolId, server::ServerStage};
use crate::{
    control::{
        ask::{Ask, What},
        console::PoolCommand,
    },
    refusal::Refusal,
    worker::{context::Context, epoll::Key, stream::Read},
};

/// The database that is none.
pub(super) const DATABASE: &str = "pgbouncer";
/// Nobody types more than this at once.
const LONGEST: usize = 16 * 1024;

impl Pooled {
    /// Lets somebody in who has shown who it is.
    pub(super) fn open_console(&mut self, context: &mut Context, key: Key, user: &str) {
        let pooler = &context.settings.pooler;
        let may_change = pooler.admin_users.iter().any(|known| known == user);
        if !may_change && !pooler.stats_users.iter().any(|known| known == user) {
            let what =
                format!("user \"{user}\" may not use the console (pooler.admin_users, pooler.stats_users)");
            let hint = "Add the user to one of these lists, and reload.";
            return self.refuse(context, key, &Refusal::NotAllowed { sqlstate: "42501", what, hint });
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        client.stage = Stage::Console { may_change, is_busy: false };
        client.side.input = client.entry.take().map(|entry| entry.bytes).unwrap_or_default();
        let mut welcome = Vec::new();
        for (name, value) in [
            ("server_version", "1.24.0/bellwether"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "on"),
        ] {
            message::parameter_status(&mut welcome, name.as_bytes(), value.as_bytes());
        }
        message::backend_key(&mut welcome, client.process, &[0; 4]);
        message::ready(&mut welcome, b'I');
        let _ = client.stream.write(&context.epoll, &welcome);
        self.hear_console(context, key);
    }

    /// Reads what is typed; one command is done after the other.
    pub(super) fn hear_console(&mut self, context: &mut Context, key: Key) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            let Stage::Console { may_change, is_busy } = client.stage else { return };
            if is_busy {
                if client.stream.is_gone() {
                    self.close_client(context, key);
                }
                return;
            }
            if let Ok(Some(header)) = Header::of(&client.side.input)
                && header.size <= client.side.input.len()
            {
                let message: Vec<u8> = client.side.input.drain(..header.size).collect();
                if !self.take_typed(context, key, may_change, header.tag, &message[HEADER..]) {
                    return;
                }
                continue;
            }
            if client.side.input.len() > LONGEST {
                return self.close_client(context, key);
            }
            match client.stream.read(&mut context.buffer) {
                Ok(Read::Bytes(count)) => client.side.input.extend_from_slice(&context.buffer[..count]),
                Ok(Read::Nothing) => return,
                Ok(Read::End) | Err(_) => return self.close_client(context, key),
            }
        }
    }

    /// Whether there may be more.
    fn take_typed(
        &mut self,
        context: &mut Context,
        key: Key,
        may_change: bool,
        tag: u8,
        body: &[u8],
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let mut out = Vec::new();
        match tag {
            b'Q' => {
                let text = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
                client.stage = Stage::Console { may_change, is_busy: true };
                let ask =
                    Ask { worker: context.number, client: key, what: What::Console { text, may_change } };
                if context.shared.asks.try_send(ask).is_err() {
                    self.refuse(context, key, &Refusal::Busy);
                }
                return false;
            }
            b'X' => {
                self.close_client(context, key);
                return false;
            }
            b'S' => message::ready(&mut out, b'I'),
            b'P' => {
                let message = "extended query protocol not supported by admin console";
                let hint = "Use simple queries: psql, or the driver's mode for them.";
                Report { severity: "ERROR", sqlstate: "0A000", message, detail: "", hint }.write(&mut out);
            }
            _ => {}
        }
        let _ = client.stream.write(&context.epoll, &out);
        true
    }

    /// A command has been done.
    pub(crate) fn console_answered(&mut self, context: &mut Context, key: Key, answer: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Stage::Console { may_change, .. } = client.stage else { return };
        client.stage = Stage::Console { may_change, is_busy: false };
        if client.stream.write(&context.epoll, answer).is_err() {
            return self.close_client(context, key);
        }
        self.hear_console(context, key);
    }

    /// Does what the console says to the pools of this worker.
    pub(crate) fn obey(&mut self, context: &mut Context, command: PoolCommand) {
        match command {
            PoolCommand::Pause(database) => self.pause(database),
            PoolCommand::Resume(database) => {
                match database {
                    Some(database) => drop(self.pools.paused.remove(&database)),
                    None => {
                        self.pools.is_paused = false;
                        self.pools.paused.clear();
                    }
                }
                self.serve_waiting(context);
            }
            PoolCommand::Reconnect(database) => self.reconnect(context, database.as_deref()),
            PoolCommand::Kill(database) => {
                self.pause(database.clone());
                let pools = self.pools_of(database.as_deref());
                let clients: Vec<Key> = self
                    .clients
                    .iter()
                    .filter(|(_, client)| client.pool.is_some_and(|id| pools.contains(&id)))
                    .map(|(key, _)| key)
                    .collect();
                for key in clients {
                    self.refuse(context, key, &Refusal::Killed);
                }
                self.reconnect(context, database.as_deref());
            }
            PoolCommand::Disable(database) => drop(self.pools.disabled.insert(database)),
            PoolCommand::Enable(database) => drop(self.pools.disabled.remove(&database)),
            PoolCommand::KillClient(id) => {
                let found = self.clients.iter().find(|(_, client)| u64::from(client.process) == id);
                if let Some(key) = found.map(|(key, _)| key) {
                    self.refuse(context, key, &Refusal::Killed);
                }
            }
        }
    }

    fn pause(&mut self, database: Option<String>) {
        match database {
            Some(database) => drop(self.pools.paused.insert(database)),
            None => self.pools.is_paused = true,
        }
    }

    fn pools_of(&self, database: Option<&str>) -> Vec<PoolId> {
        let is_meant =
            |id: &PoolId| database.is_none_or(|database| *self.pools.get(*id).database == *database);
        self.pools.ids().into_iter().filter(is_meant).collect()
    }

    /// Servers that nobody has are closed now, the others when they come back.
    fn reconnect(&mut self, context: &mut Context, database: Option<&str>) {
        let pools = self.pools_of(database);
        let servers: Vec<Key> = self
            .servers
            .iter()
            .filter(|(_, server)| pools.contains(&server.pool))
            .map(|(key, _)| key)
            .collect();
        for key in servers {
            let Some(server) = self.servers.get_mut(key) else { continue };
            server.is_condemned = true;
            if server.stage == ServerStage::Idle {
                self.remove_server(context, key);
            }
        }
        for id in pools {
            self.serve(context, id);
        }
    }
}
