//! What one look at the running server yields, and the statement that asks for all of it.

use bellwether_types::{Lsn, TimelineId};
use serde::Deserialize;

/// One look at the running server.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// For example 150018.
    pub server_version: u32,
    /// `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
    pub postmaster_start_time: String,
    pub postmaster_start_unix: f64,
    pub in_recovery: bool,
    /// The timeline being written; `None` in recovery.
    pub timeline: Option<TimelineId>,
    /// The timeline of the latest checkpoint (or restart point).
    pub control_timeline: TimelineId,
    pub wal: WalPositions,
    /// A standby has come to the end of the WAL that it has, or has all that was streamed to it since: its position is all that it has. While
    /// one that was restarted replays WAL of its own, it has more than its position says. True for a primary.
    pub has_read_own_wal: bool,
    /// The startup process of a standby that nothing was streamed to: what one process has read stays read.
    pub startup_pid: Option<i32>,
    /// The WAL receiver process, if there is one.
    pub receiver: Option<WalReceiver>,
    pub synchronous_standby_names: String,
    pub synchronous_commit: String,
    /// Empty if there is none.
    pub restore_command: String,
    pub primary_conninfo: String,
    pub primary_slot_name: String,
    pub walsenders: Vec<WalSenderRow>,
    pub slots: Vec<SlotRow>,
    pub hot_standby_feedback: bool,
    pub wal_level: String,
    pub max_replication_slots: u32,
    /// Bytes of WAL that stay without any slot (`wal_keep_size`).
    pub kept_wal: u64,
    /// A primary only.
    pub activity: Option<Activity>,
}

/// What the sessions of a primary do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Activity {
    pub clients: u32,
    /// How many sessions there may be, and how many of them are kept for superusers and the like.
    pub max_connections: u32,
    pub reserved: u32,
    /// Sessions that wait for WAL to be written or flushed.
    pub flushing: u32,
    /// Sessions whose commit waits for synchronous standbys.
    pub waiting_for_standbys: u32,
    /// The session of [`crate::commit_probe`] is one of these.
    pub probe_waits_for_standbys: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WalPositions {
    Primary {
        /// End of the WAL that is safely on disk.
        flushed: Lsn,
    },
    Standby {
        /// The end of what was streamed: written by the WAL receiver or received before; `None` if nothing was.
        received: Option<Lsn>,
        replayed: Lsn,
        paused: bool,
        /// Commit time of the last replayed transaction, `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
        replayed_timestamp: Option<String>,
        replayed_unix: Option<f64>,
    },
}

/// `pg_stat_wal_receiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalReceiver {
    pub pid: i32,
    /// `streaming`, `waiting`, ...
    pub status: String,
    /// May be ahead of what is replayed: never take it for the server's own timeline.
    pub received_timeline: Option<TimelineId>,
    pub written: Option<Lsn>,
    pub flushed: Option<Lsn>,
    /// The end of WAL that the upstream last announced.
    pub latest_end: Option<Lsn>,
    /// How long ago the last message came from the upstream, by the local clock.
    pub last_message_age_millis: Option<i64>,
    pub slot_name: Option<String>,
    pub sender_host: Option<String>,
    pub sender_port: Option<u16>,
    /// Passwords are obscured by PostgreSQL.
    pub conninfo: String,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalSenderRow {
    pub pid: i32,
    /// Microseconds since 1970: with the pid, the identity of the connection.
    pub backend_start_unix_micros: i64,
    pub usename: String,
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: String,
    pub sync_state: String,
    pub sync_priority: i32,
    pub sent: Option<Lsn>,
    pub write: Option<Lsn>,
    pub flush: Option<Lsn>,
    pub replay: Option<Lsn>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    pub name: String,
    /// `None` for a physical slot.
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub active: bool,
    pub temporary: bool,
    pub restart_lsn: Option<Lsn>,
    pub confirmed_flush_lsn: Option<Lsn>,
    pub has_xmin: bool,
    pub catalog_xmin: Option<u32>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// PostgreSQL 17 and later.
    pub failover: bool,
    pub synced: bool,
}

impl SlotRow {
    pub fn is_physical(&self) -> bool {
        self.plugin.is_none()
    }
}

/// The one statement. Its answer is one JSON document, so that views which grow columns from version to version need no variants.
pub(crate) const STATEMENT: &str = "\
SELECT json_build_object(
  'server_version', current_setting('server_version_num')::int,
  'postmaster_start_time', to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00',
  'postmaster_start_unix', extract(epoch FROM pg_postmaster_start_time())::float8,
  'in_recovery', r.in_recovery,
  'timeline', CASE WHEN NOT r.in_recovery
     THEN ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int END,
  'control_timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
  'flushed', CASE WHEN NOT r.in_recovery THEN pg_current_wal_flush_lsn() END,
  'received', CASE WHEN r.in_recovery THEN pg_last_wal_receive_lsn() END,
  'replayed', CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() END,
  'startup', CASE WHEN r.in_recovery AND pg_last_wal_receive_lsn() IS NULL THEN
     (SELECT json_build_object('pid', pid, 'waits', coalesce(wait_event, '')) FROM pg_stat_activity WHERE backend_type = 'startup') END,
  'paused', CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() ELSE false END,
  'replayed_timestamp', to_char(r.replayed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00',
  'replayed_unix', extract(epoch FROM r.replayed_at)::float8,
  'synchronous_standby_names', current_setting('synchronous_standby_names'),
  'synchronous_commit', current_setting('synchronous_commit'),
  'restore_command', current_setting('restore_command'),
  'hot_standby_feedback', current_setting('hot_standby_feedback')::bool,
  'wal_level', current_setting('wal_level'),
  'max_replication_slots', current_setting('max_replication_slots')::int,
  'kept_wal', pg_size_bytes(current_setting('wal_keep_size')),
  'primary_conninfo', current_setting('primary_conninfo'),
  'primary_slot_name', current_setting('primary_slot_name'),
  'receiver', (SELECT row_to_json(w) FROM (
     SELECT pid, status, received_tli, written_lsn, flushed_lsn, latest_end_lsn, slot_name, sender_host, sender_port, conninfo,
       (extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint AS last_message_age_millis
     FROM pg_stat_get_wal_receiver() WHERE pid IS NOT NULL) w),
  'walsenders', (SELECT coalesce(json_agg(s), '[]') FROM (
     SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS backend_start_unix_micros,
       usename, application_name, host(client_addr) AS client_addr, state, sync_state, sync_priority,
       sent_lsn, write_lsn, flush_lsn, replay_lsn
     FROM pg_stat_replication) s),
  'slots', (SELECT coalesce(json_agg(l), '[]') FROM pg_replication_slots l),
  'activity', CASE WHEN NOT r.in_recovery THEN (SELECT json_build_object(
     'clients', count(*) FILTER (WHERE backend_type = 'client backend'),
     'max_connections', current_setting('max_connections')::int,
     'reserved', current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true), '0')::int,
     'flushing', count(*) FILTER (WHERE lower(wait_event) IN ('walsync', 'walwrite')),
     'waiting_for_standbys', count(*) FILTER (WHERE wait_event = 'SyncRep'),
     'probe_waits_for_standbys', count(*) FILTER (WHERE wait_event = 'SyncRep' AND application_name = 'Bellwether commit probe') > 0)
     FROM pg_stat_get_activity(NULL)) END
)::text
FROM (SELECT pg_is_in_recovery() AS in_recovery, pg_last_xact_replay_timestamp() AS replayed_at) r";

/// The document as it comes.
#[derive(Debug, Deserialize)]
struct Answer {
    server_version: u32,
    postmaster_start_time: String,
    postmaster_start_unix: f64,
    in_recovery: bool,
    timeline: Option<u32>,
    control_timeline: u32,
    flushed: Option<String>,
    received: Option<String>,
    replayed: Option<String>,
    /// Of a standby that was sent nothing since it was started.
    startup: Option<StartupAnswer>,
    paused: bool,
    replayed_timestamp: Option<String>,
    replayed_unix: Option<f64>,
    synchronous_standby_names: String,
    synchronous_commit: String,
    restore_command: String,
    primary_conninfo: String,
    primary_slot_name: String,
    receiver: Option<ReceiverAnswer>,
    walsenders: Vec<SenderAnswer>,
    slots: Vec<SlotAnswer>,
    hot_standby_feedback: bool,
    wal_level: String,
    max_replication_slots: u32,
    kept_wal: u64,
    activity: Option<Activity>,
}

#[derive(Debug, Deserialize)]
struct StartupAnswer {
    pid: i32,
    waits: String,
}

#[derive(Debug, Deserialize)]
struct ReceiverAnswer {
    pid: i32,
    status: Option<String>,
    received_tli: Option<u32>,
    written_lsn: Option<String>,
    flushed_lsn: Option<String>,
    latest_end_lsn: Option<String>,
    slot_name: Option<String>,
    sender_host: Option<String>,
    sender_port: Option<u16>,
    conninfo: Option<String>,
    last_message_age_millis: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct SenderAnswer {
    pid: i32,
    backend_start_unix_micros: Option<i64>,
    usename: Option<String>,
    application_name: Option<String>,
    client_addr: Option<String>,
    state: Option<String>,
    sync_state: Option<String>,
    sync_priority: Option<i32>,
    sent_lsn: Option<String>,
    write_lsn: Option<String>,
    flush_lsn: Option<String>,
    replay_lsn: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SlotAnswer {
    slot_name: String,
    plugin: Option<String>,
    database: Option<String>,
    active: bool,
    temporary: bool,
    restart_lsn: Option<String>,
    confirmed_flush_lsn: Option<String>,
    xmin: Option<String>,
    catalog_xmin: Option<String>,
    wal_status: Option<String>,
    #[serde(default)]
    failover: bool,
    #[serde(default)]
    synced: bool,
}

/// Understands the answer to [`STATEMENT`].
pub(crate) fn parse(text: &str) -> Result<Observation, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let receiver = answer.receiver.map(receiver);
    let has_read_own_wal = !answer.in_recovery
        || position(answer.received.clone()).is_some()
        || answer.startup.as_ref().is_some_and(|startup| is_at_end(&startup.waits));
    let startup_pid = answer.startup.map(|startup| startup.pid);
    let wal = if answer.in_recovery {
        let streamed = receiver.as_ref().and_then(|receiver| receiver.written).max(position(answer.received));
        WalPositions::Standby {
            received: streamed,
            replayed: position(answer.replayed).unwrap_or(Lsn::ZERO),
            paused: answer.paused,
            replayed_timestamp: answer.replayed_timestamp,
            replayed_unix: answer.replayed_unix,
        }
    } else {
        WalPositions::Primary { flushed: position(answer.flushed).ok_or("a primary without a WAL position")? }
    };
    Ok(Observation {
        server_version: answer.server_version,
        postmaster_start_time: answer.postmaster_start_time,
        postmaster_start_unix: answer.postmaster_start_unix,
        in_recovery: answer.in_recovery,
        timeline: answer.timeline.map(TimelineId),
        control_timeline: TimelineId(answer.control_timeline),
        wal,
        has_read_own_wal,
        startup_pid,
        receiver,
        synchronous_standby_names: answer.synchronous_standby_names,
        synchronous_commit: answer.synchronous_commit,
        restore_command: answer.restore_command,
        primary_conninfo: answer.primary_conninfo,
        primary_slot_name: answer.primary_slot_name,
        walsenders: answer.walsenders.into_iter().map(walsender).collect(),
        slots: answer.slots.into_iter().map(slot).collect(),
        hot_standby_feedback: answer.hot_standby_feedback,
        wal_level: answer.wal_level,
        max_replication_slots: answer.max_replication_slots,
        kept_wal: answer.kept_wal,
        activity: answer.activity,
    })
}

/// What the startup process waits for once it has found the end of the WAL that is there. (It asks for a WAL receiver only then, too: a standby
/// that something is streamed to has read all that it had before.)
pub(crate) fn is_at_end(wait_event: &str) -> bool {
    matches!(wait_event, "RecoveryWalStream" | "RecoveryRetrieveRetryInterval")
}

/// `0/0` means nothing.
fn position(text: Option<String>) -> Option<Lsn> {
    text?.parse().ok().filter(|lsn| *lsn != Lsn::ZERO)
}

fn receiver(answer: ReceiverAnswer) -> WalReceiver {
    WalReceiver {
        pid: answer.pid,
        status: answer.status.unwrap_or_default(),
        received_timeline: answer.received_tli.filter(|timeline| *timeline != 0).map(TimelineId),
        written: position(answer.written_lsn),
        flushed: position(answer.flushed_lsn),
        latest_end: position(answer.latest_end_lsn),
        last_message_age_millis: answer.last_message_age_millis,
        slot_name: answer.slot_name.filter(|name| !name.is_empty()),
        sender_host: answer.sender_host,
        sender_port: answer.sender_port,
        conninfo: answer.conninfo.unwrap_or_default(),
    }
}

fn walsender(answer: SenderAnswer) -> WalSenderRow {
    WalSenderRow {
        pid: answer.pid,
        backend_start_unix_micros: answer.backend_start_unix_micros.unwrap_or_default(),
        usename: answer.usename.unwrap_or_default(),
        application_name: answer.application_name.unwrap_or_default(),
        client_addr: answer.client_addr,
        state: answer.state.unwrap_or_default(),
        sync_state: answer.sync_state.unwrap_or_default(),
        sync_priority: answer.sync_priority.unwrap_or_default(),
        sent: position(answer.sent_lsn),
        write: position(answer.write_lsn),
        flush: position(answer.flush_lsn),
        replay: position(answer.replay_lsn),
    }
}

fn slot(answer: SlotAnswer) -> SlotRow {
    SlotRow {
        name: answer.slot_name,
        plugin: answer.plugin,
        database: answer.database,
        active: answer.active,
        temporary: answer.temporary,
        restart_lsn: position(answer.restart_lsn),
        confirmed_flush_lsn: position(answer.confirmed_flush_lsn),
        has_xmin: answer.xmin.is_some(),
        catalog_xmin: answer.catalog_xmin.and_then(|xmin| xmin.parse().ok()),
        wal_status: answer.wal_status,
        failover: answer.failover,
        synced: answer.synced,
    }
}
