//! Places in the WAL: where a write ended, how far the primary is, and whether a replica shows it.

use std::{fmt::Write as _, time::Duration};

use bellwether_pgwire::message;
use bellwether_types::{Lsn, TimelineId, Timestamp};

use super::Splitting;
use crate::{
    control::ask::{Ask, What},
    pooling::server::Expect,
    split::{AtLeast, Position, SplitSettings},
    worker::{
        context::Context,
        epoll::Key,
        pooled::{Pooled, client::Stage, server::ServerStage},
    },
};

/// Where the last write ended, at the latest.
const LOCATE: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()";
/// A replica that lacked something is not waited for again within this time.
const LACKS: Duration = Duration::from_secs(1);
/// Where lag is limited in bytes, the primary's position is no older.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);
/// An answer about the primary's position that has not come by then does not count.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How far the primary is, for listeners that limit lag.
#[derive(Debug, Default)]
pub(in crate::worker::pooled) struct Newest {
    /// And when that was asked: the primary was not behind it then.
    known: Option<(Position, Timestamp)>,
    asked_at: Option<Timestamp>,
}

impl Splitting {
    /// What a replica must show at least, by the limits of lag.
    pub(super) fn at_least(&mut self, context: &Context, client: Key, settings: &SplitSettings) -> AtLeast {
        if settings.max_lag.is_none() && settings.max_lag_bytes.is_none() {
            return AtLeast::Anything;
        }
        let age = settings.max_lag.unwrap_or(COUNTED_WITHIN);
        let newest = &mut self.newest;
        let known = newest.known.filter(|(_, asked)| context.now.since(*asked) <= age);
        let is_old = known.is_none_or(|(_, asked)| context.now.since(asked) >= age / 2);
        if is_old && newest.asked_at.is_none_or(|asked| context.now.since(asked) >= ANSWERED_WITHIN) {
            let ask = Ask { worker: context.number, client, what: What::Position(context.now) };
            // If it is too busy, the next time.
            newest.asked_at = context.shared.asks.try_send(ask).is_ok().then_some(context.now);
        }
        // Whom nobody may write to at present is no measure.
        match known.filter(|_| context.routes.primary_at(context.now).is_ok()) {
            Some((Position { timeline, lsn }, _)) => {
                let behind = settings.max_lag_bytes.unwrap_or(0);
                AtLeast::Position(Position { timeline, lsn: Lsn(lsn.0.saturating_sub(behind)) })
            }
            None => AtLeast::Unknown,
        }
    }
}

impl Pooled {
    /// How far the primary was at least when it was asked; `None`: it does not answer.
    pub(crate) fn primary_is_at(&mut self, position: Option<Position>, asked: Timestamp) {
        let newest = &mut self.splitting.newest;
        newest.asked_at = None;
        if let Some(position) = position {
            newest.known = Some((position, asked));
        }
    }

    /// What is asked of a replica together with the client's settings.
    pub(in crate::worker::pooled) fn confirmation(
        &self,
        context: &Context,
        client: Key,
        server: Key,
    ) -> String {
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
        let lacks = server.lacked_at.is_some_and(|at| context.now.since(at) < LACKS);
        let looks = if lacks || on < after.timeline.0 { 0 } else { split.settings.wait.as_millis() / 2 };
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
    pub(in crate::worker::pooled) fn confirmed(&mut self, context: &mut Context, server_key: Key) -> bool {
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
            server.lacked_at = None;
            return true;
        }
        server.lacked_at = Some(context.now);
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
    pub(in crate::worker::pooled) fn locate(
        &mut self,
        context: &mut Context,
        client_key: Key,
        server_key: Key,
    ) -> bool {
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
    pub(in crate::worker::pooled) fn on_to_primary(
        &mut self,
        context: &mut Context,
        server_key: Key,
        client_key: Key,
    ) {
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
    pub(in crate::worker::pooled) fn located(&mut self, context: &mut Context, key: Key) {
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
