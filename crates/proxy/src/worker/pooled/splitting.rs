//! Reads to replicas: which pool a client's next messages go to, and what a replica must have replayed for them.
//!
//! The decisions are those of [`crate::split`]; here they meet pools and servers. A client of a listener that splits has two
//! pools. Before its messages are given a server, all of them must be there and be reads; then a server of a replica is taken
//! and asked, in the same breath as it is given the client's settings, whether it shows the client's last write. After a write
//! the primary's server is asked where that ended, before it goes back to its pool.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use bellwether_pgwire::{
    extended::{Bind, Parse},
    frame::{HEADER, Header, c_string},
    message,
};
use bellwether_sql::{
    Reader,
    catalogue::Catalogue,
    facts::{Because, Class, Facts},
    hint::{self, Command, Role},
    token::{Strings, scan},
};
use bellwether_types::{Lsn, TimelineId, Timestamp};

use super::{
    Pooled,
    client::{Client, Stage},
    pool::{PoolId, Pools},
    server::ServerStage,
};
use crate::{
    control::ask::{Ask, What},
    pooling::server::Expect,
    split::{Consistency, Place, Position, Session, SplitSettings, Statement, Why},
    worker::{context::Context, epoll::Key},
};

/// Bytes of texts, and what they are, that one worker remembers.
const REMEMBERED: usize = 8 << 20;
/// A catalogue is read again after this: a function may have become another.
const CATALOGUE_AGE: Duration = Duration::from_secs(30);
/// Where the last write ended, at the latest.
const LOCATE: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()";

/// What a worker knows about texts and databases.
#[derive(Debug)]
pub(super) struct Splitting {
    reader: Reader,
    catalogues: HashMap<Arc<str>, Known>,
}

#[derive(Debug, Default)]
struct Known {
    catalogue: Option<Arc<Catalogue>>,
    asked_at: Option<Timestamp>,
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
        Self { reader: Reader::new(REMEMBERED), catalogues: HashMap::new() }
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

impl Splitting {
    /// What the messages are, and the wish in them.
    fn class(
        &mut self,
        client: &Client,
        bytes: &[u8],
        catalogue: Option<&Catalogue>,
    ) -> (Class, Option<Role>) {
        let Some(all) = self.statements(client, bytes) else {
            return (Class::Primary(Because::NotUnderstood), None);
        };
        let hint = all.iter().rev().find_map(|facts| facts.hint);
        let mut classes = all.iter().map(|facts| facts.class(catalogue));
        let Some(first) = classes.next() else { return (Class::Primary(Because::Empty), hint) };
        match classes.all(|class| class == first) {
            true => (first, hint),
            false => (Class::Primary(Because::SeveralStatements), hint),
        }
    }

    /// Of each statement that the messages bring or name. `None`: they are not all there, or more than statements.
    fn statements(&mut self, client: &Client, bytes: &[u8]) -> Option<Vec<Arc<Facts>>> {
        let mut all = Vec::new();
        let mut brought: Vec<(&[u8], Arc<Facts>)> = Vec::new();
        let mut rest = bytes;
        let mut is_complete = false;
        while !rest.is_empty() {
            let header = Header::of(rest).ok()??;
            let message = rest.get(..header.size)?;
            let body = &message[HEADER..];
            rest = &rest[header.size..];
            is_complete = matches!(header.tag, b'Q' | b'S');
            match header.tag {
                b'Q' => all.push(self.reader.facts(body.strip_suffix(b"\0")?, Strings::Standard)),
                b'P' => {
                    let parse = Parse::read(body)?;
                    let facts = self.reader.facts(parse.sql(), Strings::Standard);
                    brought.push((parse.name, Arc::clone(&facts)));
                    all.push(facts);
                }
                b'B' => {
                    let name = Bind::read(body)?.statement;
                    let here = brought.iter().rev().find(|(brought, _)| *brought == name);
                    let facts = match here {
                        Some((_, facts)) => Arc::clone(facts),
                        None => {
                            let (sql, _) = c_string(&client.side.statement(name)?.definition)?;
                            self.reader.facts(sql, Strings::Standard)
                        }
                    };
                    all.push(facts);
                }
                b'D' | b'E' | b'C' | b'S' => {}
                _ => return None,
            }
        }
        is_complete.then_some(all)
    }

    fn catalogue(&mut self, context: &Context, client: Key, database: &Arc<str>) -> Option<Arc<Catalogue>> {
        let known = self.catalogues.entry(Arc::clone(database)).or_default();
        let is_old = known.asked_at.is_none_or(|asked| context.now.since(asked) >= CATALOGUE_AGE);
        if is_old {
            known.asked_at = Some(context.now);
            let ask = Ask { worker: context.number, client, what: What::Catalogue(Arc::clone(database)) };
            // If it is too busy, the next time.
            if context.shared.asks.try_send(ask).is_err() {
                known.asked_at = None;
            }
        }
        known.catalogue.clone()
    }
}

impl Pooled {
    /// What a database says of itself was read.
    pub(crate) fn catalogue_read(&mut self, database: &Arc<str>, catalogue: Option<Arc<Catalogue>>) {
        let known = self.splitting.catalogues.entry(Arc::clone(database)).or_default();
        // What cannot be read any more may have changed since.
        known.catalogue = catalogue;
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
        if let Some(answer) = command(&mut split.session, bytes) {
            client.split = Some(split);
            client.side.input.clear();
            client.has_work = false;
            if client.stream.write(&context.epoll, &answer).is_err() {
                self.close_client(context, key);
            }
            return true;
        }
        let catalogue = self.splitting.catalogue(context, key, &split.database);
        let (class, hint) = self.splitting.class(client, bytes, catalogue.as_deref());
        let statement = Statement { class: &class, hint, pinned: client.side.pin.is_some(), newest: None };
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
                    split.writes = class != Class::Read;
                }
            }
            Place::Primary | Place::This(_) | Place::HoldBegin => {
                split.writes = class != Class::Read;
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

    /// What is asked of a replica together with the client's settings.
    pub(super) fn confirmation(&self, context: &Context, client: Key, server: Key) -> String {
        let mut query = String::new();
        let Some(split) = self.clients.get(client).and_then(|client| client.split.as_ref()) else {
            return query;
        };
        let (Some(after), Some(server)) = (split.after, self.servers.get(server)) else { return query };
        if server.replayed.is_some_and(|replayed| replayed.shows(after)) {
            return query;
        }
        let on = context.routes.timelines.get(&server.route.member).copied().unwrap_or(0);
        let lsn = after.lsn;
        // It looks every two milliseconds. Each look sees the present: the function is volatile.
        let looks = if on < after.timeline.0 { 0 } else { split.settings.wait.as_millis() / 2 };
        let shown = match on < after.timeline.0 {
            // What it has is a history of its own.
            true => "false".to_owned(),
            false => format!("pg_catalog.pg_last_wal_replay_lsn() >= '{lsn}'::pg_catalog.pg_lsn"),
        };
        let _ = write!(
            query,
            "WITH RECURSIVE look(turn, shown) AS (SELECT 0, {shown} UNION ALL SELECT turn + 1, {shown} FROM look \
             WHERE NOT shown AND turn < {looks} AND pg_catalog.pg_sleep(0.002) IS NOT NULL) \
             SELECT pg_catalog.bool_or(shown) FROM look"
        );
        query
    }

    /// Whether the replica shows what it was asked for. If not, the client goes on to the primary.
    pub(super) fn confirmed(&mut self, context: &mut Context, server_key: Key) -> bool {
        let Some(server) = self.servers.get_mut(server_key) else { return true };
        let Some(client_key) = server.client else { return true };
        let Some(client) = self.clients.get_mut(client_key) else { return true };
        let Some(split) = client.split.as_mut() else { return true };
        let Some(after) = split.after.take() else { return true };
        let answer = std::mem::take(&mut server.side.answer);
        let known = server.replayed.is_some_and(|replayed| replayed.shows(after));
        let failed = server.side.failure.is_some();
        if !failed && (known || answer.first().and_then(Option::as_deref) == Some("t")) {
            server.replayed = Some(after);
            return true;
        }
        (split.holds, split.gives_way) = (false, false);
        let primary = split.primary;
        client.pool = Some(primary);
        client.server = None;
        client.stage = Stage::Ready;
        server.client = None;
        if server.side.failure.take().is_none() {
            server.side.settings = client.side.session.current().clone();
        }
        self.put_back(context, server_key);
        self.acquire(context, client_key, primary);
        false
    }

    /// The client's transaction on the primary is over. `true`: its server is asked where the write ended, and goes back to its
    /// pool by itself.
    pub(super) fn locate(&mut self, context: &mut Context, client_key: Key, server_key: Key) -> bool {
        let Some(client) = self.clients.get_mut(client_key) else { return false };
        let Some(split) = client.split.as_mut() else { return false };
        split.holds = false;
        if !std::mem::take(&mut split.writes) {
            return false;
        }
        split.session.wrote(context.now);
        split.written += 1;
        if !split.keeps_positions() {
            return false;
        }
        let written = split.written;
        let Some(server) = self.servers.get_mut(server_key) else { return false };
        if server.is_condemned || server.side.is_ending {
            return false;
        }
        client.server = None;
        client.stage = Stage::Ready;
        if client.stream.readable {
            Self::again(context, client_key);
        }
        server.client = None;
        server.locates = Some((client_key, written));
        server.stage = ServerStage::Locating;
        server.since = context.now;
        server.side.expected.push_back(Expect::Ours);
        self.pools.get_mut(server.pool).coming += 1;
        let mut query = Vec::new();
        message::query(&mut query, LOCATE);
        if server.stream.write(&context.epoll, &query).is_err() {
            self.lose_server(context, server_key, "the connection was closed");
        }
        true
    }

    /// The replica cannot do what the client wants (it would write, or is in the way of the replay): the primary is told the same.
    pub(super) fn on_to_primary(&mut self, context: &mut Context, server_key: Key, client_key: Key) {
        if let Some(server) = self.servers.get_mut(server_key) {
            server.client = None;
            if server.side.is_at_rest() {
                self.put_back(context, server_key);
            } else {
                // What is left of its answer would meet the next client.
                let id = server.pool;
                self.remove_server(context, server_key);
                self.serve(context, id);
            }
        }
        let Some(client) = self.clients.get_mut(client_key) else { return };
        let mut input = client.side.take_repeat();
        input.extend_from_slice(&client.side.input);
        client.side.input = input;
        client.side.at_rest();
        client.has_work = true;
        (client.server, client.stage) = (None, Stage::Ready);
        client.listener.counts.repeated.add(1);
        let Some(split) = client.split.as_mut() else { return };
        // It may write after all.
        (split.after, split.holds, split.gives_way, split.writes) = (None, false, false, true);
        let primary = split.primary;
        client.pool = Some(primary);
        self.acquire(context, client_key, primary);
    }

    /// The primary has told where the write ended.
    pub(super) fn located(&mut self, context: &mut Context, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let answer = std::mem::take(&mut server.side.answer);
        server.side.failure = None;
        let lsn = answer.first().cloned().flatten().and_then(|text| text.parse::<Lsn>().ok());
        let timeline = TimelineId(server.timeline);
        if let (Some((client, written)), Some(lsn)) = (server.locates.take(), lsn)
            && let Some(split) = self.clients.get_mut(client).and_then(|client| client.split.as_mut())
            && split.written == written
        {
            split.session.write_ended_at(Position { timeline, lsn });
        }
        self.pools.get_mut(server.pool).coming -= 1;
        server.stage = ServerStage::Idle;
        self.put_back(context, key);
    }
}

/// Whether no replica answers at present.
fn nobody_reads(pools: &Pools, context: &Context, replicas: PoolId) -> bool {
    let pool = pools.get(replicas);
    let nobody = context.routes.candidates(pool.target, context.now).is_empty();
    // Also if those who are there do not answer: the next attempt has not come yet.
    nobody || (pool.open == 0 && pool.failures > 0 && context.now < pool.retry_at)
}

/// Answers a command that is meant for us. It comes alone, as a simple query.
fn command(session: &mut Session, bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::of(bytes).ok()??;
    if header.tag != b'Q' || header.size != bytes.len() {
        return None;
    }
    let sql = std::str::from_utf8(bytes[HEADER..].strip_suffix(b"\0")?).ok()?;
    // Nearly all texts are something else.
    let verb = sql.trim_start().get(..4)?;
    if !["set ", "rese", "show"].iter().any(|known| known.eq_ignore_ascii_case(verb)) {
        return None;
    }
    let mut out = Vec::new();
    match hint::command(&scan(sql, Strings::Standard).ok()?)? {
        Command::Set { role, span } => {
            session.set_role(role, span);
            message::complete(&mut out, if verb.eq_ignore_ascii_case("rese") { "RESET" } else { "SET" });
        }
        Command::Show => {
            message::row_description(&mut out, &["bellwether.role"]);
            message::data_row(&mut out, &[Some(session.role().as_str())]);
            message::complete(&mut out, "SHOW");
        }
        Command::Unknown => message::Report {
            severity: "ERROR",
            sqlstate: "22023",
            message: "invalid value for parameter \"bellwether.role\"",
            detail: "",
            hint: "Available values: leader, replica, auto, default.",
        }
        .write(&mut out),
    }
    message::ready(&mut out, b'I');
    Some(out)
}
