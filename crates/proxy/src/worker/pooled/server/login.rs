//! A server that was connected to: whether it encrypts, lets the pool in, and is what it is taken for.

use std::sync::Arc;

use bellwether_pgwire::{
    auth::{
        Random,
        login::{Answer, LoggingIn, Wire},
    },
    frame::{HEADER, Header},
    message,
    startup::{Protocol, Startup},
};
use bellwether_types::Timestamp;

use super::ServerStage;
use crate::{
    metrics::Counted,
    pooling::{down::parameter, server::Expect},
    refusal::Refusal,
    routes::Target,
    worker::{context::Context, epoll::Key, pooled::Pooled, stream::Read},
};

/// Asked of each new server: whether it is what it is taken for.
const CHECK: &str = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN 0 \
     ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END";

impl Pooled {
    /// The server's byte: whether it encrypts.
    pub(in crate::worker::pooled) fn hear_whether(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        if !server.stream.readable {
            return;
        }
        match server.stream.read(&mut context.buffer[..1]) {
            Ok(Read::Bytes(_)) => {}
            Ok(Read::Nothing) => return,
            Ok(Read::End) | Err(_) => {
                return self.lose_server(context, key, "the server closed the connection");
            }
        }
        let tls = context.settings.pooler.tls.clone();
        match (context.buffer[0], tls.servers) {
            (b'S', Some(config)) => {
                let name = server.route.host.clone();
                let begun = rustls_pki_types::ServerName::try_from(name)
                    .map_err(std::io::Error::other)
                    .and_then(|name| {
                        rustls::ClientConnection::new(config, name).map_err(std::io::Error::other)
                    })
                    .and_then(|connection| server.stream.encrypt(&context.epoll, connection.into(), &[]));
                if let Err(error) = begun {
                    return self.lose_server(context, key, &error.to_string());
                }
            }
            _ if tls.servers_must => {
                return self.lose_server(
                    context,
                    key,
                    "the server does not encrypt, and server_tls_sslmode asks for it",
                );
            }
            _ => {}
        }
        self.introduce_pool(context, key);
    }

    pub(in crate::worker::pooled) fn introduce_pool(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let pool = self.pools.get(server.pool);
        let mut parameters =
            vec![("user".into(), pool.user.to_string()), ("database".into(), pool.database.to_string())];
        parameters.extend(pool.startup.iter().cloned());
        let startup = Startup { protocol: Protocol::V3_0, parameters };
        let random = Random(rand::random());
        let wire = if server.stream.is_encrypted() { Wire::Private } else { Wire::Plain };
        server.login = Some(Box::new(LoggingIn::new(&pool.user, pool.login.clone(), wire, random)));
        server.stage = ServerStage::LoggingIn;
        let mut packet = Vec::new();
        startup.write(&mut packet);
        if server.stream.write(&context.epoll, &packet).is_err() {
            return self.lose_server(context, key, "the connection was closed");
        }
        self.server_ready(context, key);
    }

    /// Reads what a server says before it can be used.
    pub(in crate::worker::pooled) fn log_in(&mut self, context: &mut Context, key: Key) {
        loop {
            let Some(server) = self.servers.get_mut(key) else { return };
            if server.stage != ServerStage::LoggingIn || !server.stream.readable {
                break;
            }
            match server.stream.read(&mut context.buffer) {
                Ok(Read::Bytes(count)) => server.side.input.extend_from_slice(&context.buffer[..count]),
                Ok(Read::Nothing) => break,
                Ok(Read::End) => return self.lose_server(context, key, "the server closed the connection"),
                Err(error) => return self.lose_server(context, key, &error.to_string()),
            }
            if !self.hear_login(context, key) {
                return;
            }
        }
        self.server_ready_in_stage(context, key);
    }

    /// Whether the server is still there.
    fn hear_login(&mut self, context: &mut Context, key: Key) -> bool {
        loop {
            let Some(server) = self.servers.get_mut(key) else { return false };
            let header = match Header::of(&server.side.input) {
                Ok(Some(header)) if header.size <= server.side.input.len() => header,
                Ok(_) => return true,
                Err(problem) => {
                    self.lose_server(context, key, &problem.to_string());
                    return false;
                }
            };
            let message: Vec<u8> = server.side.input.drain(..header.size).collect();
            let body = &message[HEADER..];
            match header.tag {
                b'R' => {
                    let answer = server.login.as_mut().map(|login| login.answer(body));
                    let step = match answer {
                        Some(Ok(Answer::Send(bytes))) => server.stream.write(&context.epoll, &bytes).is_ok(),
                        Some(Ok(Answer::Wait | Answer::Done)) | None => true,
                        Some(Err(error)) => {
                            self.login_failed(context, key, "28000", &error.to_string());
                            return false;
                        }
                    };
                    if !step {
                        self.lose_server(context, key, "the connection was closed");
                        return false;
                    }
                }
                b'S' => {
                    if let Some((name, value)) = parameter(body) {
                        server.parameters.push((name.to_vec(), value.to_vec()));
                    }
                }
                b'K' if body.len() > 4 => {
                    server.process = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                    server.secret = body[4..].to_vec();
                }
                b'E' => {
                    let text = |kind| {
                        String::from_utf8_lossy(message::report_field(body, kind).unwrap_or_default())
                            .into_owned()
                    };
                    let (sqlstate, what) = (text(b'C'), text(b'M'));
                    self.login_failed(context, key, &sqlstate, &what);
                    return false;
                }
                b'Z' => {
                    server.login = None;
                    server.stage = ServerStage::Checking;
                    server.side.expected.push_back(Expect::Ours);
                    let mut query = Vec::new();
                    message::query(&mut query, CHECK);
                    if server.stream.write(&context.epoll, &query).is_err() {
                        self.lose_server(context, key, "the connection was closed");
                        return false;
                    }
                    return true;
                }
                _ => {}
            }
        }
    }

    /// The server has said what it is.
    pub(in crate::worker::pooled) fn judge(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let answer = std::mem::take(&mut server.side.answer);
        let column = |at: usize| answer.get(at).cloned().flatten().unwrap_or_default();
        let (in_recovery, timeline) = (column(0) != "f", column(1).parse::<u32>().unwrap_or(0));
        let (id, member) = (server.pool, server.route.member.clone());
        if self.pools.get(id).target == Target::Primary {
            if let Some(failure) = server.side.failure.take() {
                return self.lose_server(context, key, &failure);
            }
            if in_recovery {
                return self.lose_server(context, key, "the member is in recovery");
            }
            if timeline < server.route.timeline {
                tracing::warn!(member = %member, timeline, known = server.route.timeline,
                    "a server is left alone: it is on an older timeline than the cluster");
                return self.lose_server(context, key, "the member is on an older timeline than the cluster");
            }
        }
        server.side.failure = None;
        server.timeline = timeline;
        server.ready_at = context.now;
        context.lift_ban(&member);
        let parameters = std::mem::take(&mut server.parameters);
        let name = format!("pools to {}", self.pools.get(id).target);
        let counts = context.shared.metrics.listener(&name.into());
        server.stream.counted = Some(Counted::begin(counts.member(&member)));
        let pool = self.pools.get_mut(id);
        pool.coming -= 1;
        pool.failures = 0;
        pool.retry_at = Timestamp::ZERO;
        pool.last_error = None;
        server.stage = ServerStage::Idle;
        // A successor may be of another version.
        pool.parameters = Some(Arc::new(parameters));
        self.put_back(context, key);
        self.let_in(context, id);
    }

    /// The server does not take us: waiting changes nothing, unless it is only not ready.
    fn login_failed(&mut self, context: &mut Context, key: Key, sqlstate: &str, what: &str) {
        let Some(server) = self.servers.get(key) else { return };
        let id = server.pool;
        let is_temporary =
            sqlstate.starts_with("57P") || sqlstate.starts_with("53") || sqlstate.starts_with("08");
        if is_temporary {
            let member = server.route.member.clone();
            self.lose_server(context, key, what);
            if sqlstate.starts_with("53") {
                // It has no room for more, and those that are there work.
                context.lift_ban(&member);
            }
            return;
        }
        tracing::warn!(member = %server.route.member, user = &*self.pools.get(id).user, sqlstate, error = what, "a server refuses the login of a pool");
        self.remove_server(context, key);
        let pool = self.pools.get_mut(id);
        pool.put_off(context.now, what.to_owned());
        let clients: Vec<Key> = pool.waiting.drain(..).chain(pool.newcomers.drain(..)).collect();
        for client in clients {
            let refusal = Refusal::LoginFailed { sqlstate: sqlstate.to_owned(), what: what.to_owned() };
            self.refuse(context, client, &refusal);
        }
    }
}
