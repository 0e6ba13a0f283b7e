//! From a client's first byte to its first transaction: who it is, and what it must know.

mod welcome;

use bellwether_pgwire::{
    auth::{
        Random, hba,
        login::Login,
        secret::Secret,
        verify::{Step, Verification},
    },
    frame::{HEADER, Header},
    message,
    startup::{First, Protocol, Startup, TLS_HANDSHAKE},
};

use super::{
    Pooled,
    admission::{Place, check_certificate, check_for, check_peer, exchange, login_without_password},
    client::{Client, Stage},
    console::DATABASE,
    pool::{PoolKey, Settled},
    splitting::Split,
};
use crate::{
    control::ask::{Answer, Ask, What},
    refusal::Refusal,
    routes::Target,
    settings::Mode,
    worker::{context::Context, epoll::Key, stream::Read},
};

/// An answer to a password request is short.
const LONGEST_ANSWER: usize = 65_536;

impl Pooled {
    /// Reads what a client says before it is let in.
    pub(super) fn at_the_door(&mut self, context: &mut Context, key: Key) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            let Some(entry) = &mut client.entry else { return };
            if !matches!(client.stage, Stage::Greeting | Stage::Verifying) {
                return;
            }
            if client.stream.readable {
                match client.stream.read(&mut context.buffer) {
                    Ok(Read::Bytes(count)) => entry.bytes.extend_from_slice(&context.buffer[..count]),
                    Ok(Read::Nothing) => {}
                    Ok(Read::End) | Err(_) => return self.close_client(context, key),
                }
            }
            let goes_on = if client.stage == Stage::Greeting {
                self.greet(context, key)
            } else {
                self.hear_answer(context, key)
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Whether there may be more to hear.
    fn greet(&mut self, context: &mut Context, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(entry) = &mut client.entry else { return false };
        match client.stream.introduce(&client.listener, &mut entry.bytes) {
            Ok(true) => {}
            Ok(false) => return client.stream.readable,
            Err(refusal) => {
                let listener = &*client.listener.name;
                tracing::info!(
                    listener,
                    reason = refusal.sentence(),
                    "a client of the proxy was turned away"
                );
                self.refuse(context, key, &refusal);
                return false;
            }
        }
        if entry.bytes.first() == Some(&TLS_HANDSHAKE) && !client.stream.is_encrypted() {
            // PostgreSQL 17 and later begin without asking.
            let early = std::mem::take(&mut entry.bytes);
            return self.encrypt(context, key, &early);
        }
        let (first, size) = match First::parse(&entry.bytes) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return client.stream.readable,
            Err(problem) => {
                self.refuse(context, key, &Refusal::Protocol { problem: problem.to_string() });
                return false;
            }
        };
        entry.bytes.drain(..size);
        match first {
            First::Ssl if context.settings.pooler.tls.clients.is_some() && !client.stream.is_encrypted() => {
                let _ = client.stream.write(&context.epoll, b"S");
                let early = std::mem::take(&mut entry.bytes);
                // Plain bytes behind the request could be somebody else's (CVE-2021-23214): they are read as a handshake.
                self.encrypt(context, key, &early)
            }
            First::Ssl | First::Gssenc => {
                let _ = client.stream.write(&context.epoll, b"N");
                true
            }
            First::Cancel { process, secret } => {
                self.ask_to_cancel(context, key, process, secret);
                false
            }
            First::Startup(startup) => {
                self.introduce(context, key, startup);
                true
            }
        }
    }

    /// Whether there may be more to hear.
    fn encrypt(&mut self, context: &mut Context, key: Key, early: &[u8]) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(config) = context.settings.pooler.tls.clients.clone() else {
            client.listener.counts.refused("tls");
            self.close_client(context, key);
            return false;
        };
        let begun = rustls::ServerConnection::new(config)
            .map_err(std::io::Error::other)
            .and_then(|connection| client.stream.encrypt(&context.epoll, connection.into(), early));
        if let Err(error) = begun {
            client.listener.counts.refused("tls");
            tracing::info!(
                listener = &*client.listener.name,
                %error,
                "a client of the proxy could not be encrypted: compare its sslmode, sslrootcert and TLS versions with pooler.client_tls_*"
            );
            self.close_client(context, key);
            return false;
        }
        true
    }

    fn introduce(&mut self, context: &mut Context, key: Key, startup: Startup) {
        if startup.user().is_empty() {
            let what = "no PostgreSQL user name specified in startup packet".to_owned();
            let hint = "Name one in the connection string.";
            return self.refuse(context, key, &Refusal::NotAllowed { sqlstate: "28000", what, hint });
        }
        let must = context.settings.pooler.tls.clients_must;
        let is_open = |client: &Client| !client.stream.is_encrypted() && !client.stream.is_unix();
        if must && self.clients.get(key).is_some_and(is_open) {
            let what = "SSL required".to_owned();
            let hint = "Connect with sslmode=require (pooler.client_tls_sslmode asks for it).";
            return self.refuse(context, key, &Refusal::NotAllowed { sqlstate: "28000", what, hint });
        }
        let limit = context.settings.pooler.max_clients;
        if context.shared.metrics.pooled.get() > limit as u64 && startup.database() != DATABASE {
            return self.refuse(context, key, &Refusal::TooManyConnections { limit });
        }
        if self.pools.disabled.contains(startup.database()) {
            let what = format!("database \"{}\" is disabled", startup.database());
            let hint = "An administrator says ENABLE on the console.";
            return self.refuse(context, key, &Refusal::NotAllowed { sqlstate: "57P03", what, hint });
        }
        if startup.is_replication() {
            return self.refuse(context, key, &Refusal::NoReplication);
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        let stream = &client.stream;
        let place =
            Place { peer: stream.peer(), is_unix: stream.is_unix(), is_encrypted: stream.is_encrypted() };
        let settings = &context.settings.pooler;
        let maps = settings.rules.as_ref().map(|rules| &rules.maps);
        let certificate = client.stream.peer_certificate();
        let checked = check_for(settings, place, &startup)
            .and_then(|check| check_certificate(&check, maps, certificate, startup.user()).map(|()| check));
        let check = match checked {
            Ok(check) => check,
            Err(refusal) => return self.refuse(context, key, &refusal),
        };
        let unknown: Vec<&str> = startup
            .parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("_pq_."))
            .collect();
        if startup.protocol > Protocol::V3_2 || startup.protocol.minor == 1 || !unknown.is_empty() {
            let offered = if startup.protocol.minor == 1 {
                Protocol::V3_0
            } else {
                startup.protocol.min(Protocol::V3_2)
            };
            let mut answer = Vec::new();
            message::negotiate_version(&mut answer, offered.code(), &unknown);
            let _ = client.stream.write(&context.epoll, &answer);
        }
        let (user, method) = (startup.user().to_owned(), check.method);
        if let Some(entry) = &mut client.entry {
            entry.startup = Some(startup);
            entry.check = Some(check);
        }
        if method == hba::Method::Trust {
            let mut send = Vec::new();
            message::authenticated(&mut send);
            return self.accepted(context, key, &send, Login::Nothing);
        }
        client.stage = Stage::AwaitingSecret;
        let what = match (method, client.stream.peer_user()) {
            (hba::Method::Peer, Ok(id)) => What::SystemUser(id),
            // The kernel does not say: no name fits.
            (hba::Method::Peer, Err(error)) => {
                return self.system_user_found(context, key, Err(error.to_string()));
            }
            _ => What::Secret(user),
        };
        let ask = Ask { worker: context.number, client: key, what };
        if context.shared.asks.try_send(ask).is_err() {
            self.refuse(context, key, &Refusal::Busy);
        }
    }

    /// Who a client is in the operating system has been found out.
    pub(crate) fn system_user_found(
        &mut self,
        context: &mut Context,
        key: Key,
        name: Result<String, String>,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(entry) = client.entry.as_ref().filter(|_| client.stage == Stage::AwaitingSecret) else {
            return;
        };
        let user = entry.startup.as_ref().map(|startup| startup.user().to_owned()).unwrap_or_default();
        let map = entry.check.as_ref().and_then(|check| check.map.as_deref());
        let maps = context.settings.pooler.rules.as_ref().map(|rules| &rules.maps);
        if let Err(refusal) = check_peer(map, maps, name, &user) {
            return self.refuse(context, key, &refusal);
        }
        // It has shown no password, and the servers want one.
        let ask = Ask { worker: context.number, client: key, what: What::Secret(user) };
        if context.shared.asks.try_send(ask).is_err() {
            self.refuse(context, key, &Refusal::Busy);
        }
    }

    /// What is known of a client's password has been found out.
    pub(crate) fn secret_found(&mut self, context: &mut Context, key: Key, answer: Answer) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stage != Stage::AwaitingSecret {
            return;
        }
        let secret: Option<Secret> = match answer {
            Ok(secret) => secret,
            Err(what) => return self.refuse(context, key, &Refusal::NoLookup { what }),
        };
        let Some(entry) = &mut client.entry else { return };
        let user = entry.startup.as_ref().map(|startup| startup.user().to_owned()).unwrap_or_default();
        let Some(method) = entry.check.as_ref().and_then(|check| exchange(check.method)) else {
            let mut send = Vec::new();
            message::authenticated(&mut send);
            return self.accepted(context, key, &send, login_without_password(secret));
        };
        let random = Random(rand::random());
        let (verification, first) = Verification::begin(method, &user, secret, &context.shared.seed, &random);
        entry.verification = Some(verification);
        client.stage = Stage::Verifying;
        let _ = client.stream.write(&context.epoll, &first);
        self.at_the_door(context, key);
    }

    /// Whether there may be more to hear.
    fn hear_answer(&mut self, context: &mut Context, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(entry) = &mut client.entry else { return false };
        let header = match Header::of(&entry.bytes) {
            Ok(Some(header)) if header.size <= LONGEST_ANSWER && header.tag == b'p' => header,
            Ok(None) => return client.stream.readable,
            _ => {
                let problem = "expected an answer to the authentication request".to_owned();
                self.refuse(context, key, &Refusal::Protocol { problem });
                return false;
            }
        };
        if entry.bytes.len() < header.size {
            return client.stream.readable;
        }
        let message: Vec<u8> = entry.bytes.drain(..header.size).collect();
        let Some(verification) = &mut entry.verification else { return false };
        match verification.answer(&message[HEADER..]) {
            Step::Send(send) => {
                let _ = client.stream.write(&context.epoll, &send);
                true
            }
            Step::Accepted { send, login } => {
                self.accepted(context, key, &send, login);
                false
            }
            Step::Refused(refused) => {
                let from = client.stream.peer().map_or_else(|| "[local]".to_owned(), |peer| peer.to_string());
                tracing::info!(reason = %refused, from, "a client of the proxy was turned away");
                let user =
                    entry.startup.as_ref().map(|startup| startup.user().to_owned()).unwrap_or_default();
                // The password may have been changed a moment ago: the next attempt looks anew.
                let what = What::Forget(user);
                let _ = context.shared.asks.try_send(Ask { worker: context.number, client: key, what });
                let (what, hint) = (refused.message(), refused.hint());
                self.refuse(context, key, &Refusal::NotAllowed { sqlstate: refused.sqlstate(), what, hint });
                false
            }
        }
    }

    /// The client is who it says.
    fn accepted(&mut self, context: &mut Context, key: Key, send: &[u8], login: Login) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(startup) = client.entry.as_ref().and_then(|entry| entry.startup.clone()) else { return };
        let _ = client.stream.write(&context.epoll, send);
        if startup.database() == DATABASE {
            return self.open_console(context, key, startup.user());
        }
        let login = context.shared.logins.after(startup.user(), login);
        let limits = &context.settings.pooler.limits;
        let own_mode = limits.mode_of(startup.database(), startup.user());
        let mode = own_mode.unwrap_or(client.listener.mode);
        let pool_key = PoolKey {
            database: startup.database().into(),
            user: startup.user().into(),
            target: client.listener.target,
            mode,
            startup: match mode {
                Mode::Session => welcome::settled(&startup),
                _ => Settled::default(),
            },
        };
        let limit = limits.of(startup.database(), startup.user());
        // Who keeps a server for all of its session has one at the primary.
        let splits = own_mode != Some(Mode::Session) && limits.splits(startup.database(), startup.user());
        let admitted = context
            .shared
            .quota
            .admit((&pool_key.database, limit.max_db_clients), (&pool_key.user, limit.max_user_clients));
        if let Err(too_many) = admitted {
            return self.refuse(context, key, &Refusal::TooManyClients(too_many));
        }
        let split = client.listener.split.clone().filter(|_| splits);
        let readers = split.as_ref().map(|_| {
            let key = PoolKey { target: Target::Replicas, ..pool_key.clone() };
            self.pools.for_key(key, login.clone())
        });
        let database = pool_key.database.clone();
        let id = self.pools.for_key(pool_key, login);
        client.pool = Some(id);
        client.split = split
            .zip(readers)
            .map(|(settings, readers)| Box::new(Split::new(settings, id, readers, database)));
        // Since 3.2 the key may be longer, so that nobody guesses it.
        let length = if startup.protocol >= Protocol::V3_2 { 32 } else { 4 };
        let random: [u8; 32] = rand::random();
        client.secret = random[..length].into();
        client.stage = Stage::Newcomer;
        client.since = context.now;
        let pool = self.pool_mut(id);
        pool.newcomers.push(key);
        if pool.parameters.is_some() {
            self.let_in(context, id);
        } else {
            self.serve(context, id);
        }
    }
}
