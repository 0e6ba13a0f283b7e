//! What the agent tells others: its member key, the status that the API answers from, and the topology for entry points.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::codec::MemberDocument;
use bellwether_ha::{
    View,
    action::MemberUpdate,
    memory::ScheduledRestart,
    view::{LeaseView, Process, answers_count_for},
};
use bellwether_postgres::observation::{Observation, WalPositions, WalSenderRow};
use bellwether_types::{
    MemberName, PostgresState, ReplicationState, Role, Timestamp,
    cluster::PeerProtocol,
    settings::SyncMode,
    status::{NodeStatus, ServerStatus, TakeoverStatus, WalSender, WalStatus},
    topology::{Topology, TopologyMember},
};
use serde_json::{Map, Value, json};

use crate::{agent::Agent, clock};

/// Level of the messages between agents of this version.
pub const PROTOCOL_LEVEL: u32 = 1;

impl Agent {
    /// The member key as it should be now.
    pub(crate) fn member_document(&self, update: &MemberUpdate) -> MemberDocument {
        let protocol = PeerProtocol { version: env!("CARGO_PKG_VERSION").to_owned(), level: PROTOCOL_LEVEL };
        let api_url = self.config.restapi.api_url();
        let mut document =
            MemberDocument::new(self.conn_url(), api_url, self.local.state, self.local.role, protocol);
        document.proxy_url = self
            .config
            .postgresql
            .proxy_address
            .as_ref()
            .map(|address| format!("postgres://{address}/{}", self.settings.database));
        document.tags = self.config.tags.clone();
        if update.release_sync {
            document.tags.0.insert("nosync".into(), json!(true));
            document.tags.0.insert("sync_priority".into(), json!(0));
        }
        document.checkpoint_pending = update.checkpoint_pending;
        document.pause = update.pause;
        document.alarms = self.memory.gray.alarms.keys().copied().collect();
        document.scheduled_restart = update.scheduled_restart.as_ref().map(scheduled_restart);
        document.pending_restart = !self.local.pending_restart.is_empty();
        document.pending_restart_reason = Some(self.pending_restart_reason());
        if let Some((_, observation)) = self.fresh_observation() {
            document.timeline = self.local.timeline();
            document.xlog_location = self.local.position();
            if let WalPositions::Standby { received, replayed, .. } = &observation.wal {
                document.receive_lsn = *received;
                document.replay_lsn = Some(*replayed);
                document.replication_state = replication_state(observation);
            }
        }
        document
    }

    /// What PostgreSQL said last, unless it has been silent for so long that nobody may take that for where it is now.
    fn fresh_observation(&self) -> Option<(Timestamp, &Observation)> {
        self.local.fresh(clock::now(), answers_count_for(&self.effective.settings))
    }

    pub(crate) fn pending_restart_reason(&self) -> Value {
        let reasons = self.local.pending_restart.iter().map(|pending| {
            (pending.name.clone(), json!({"old_value": pending.old_value, "new_value": pending.new_value}))
        });
        Value::Object(reasons.collect::<Map<_, _>>())
    }

    /// Publishes status and topology, and closes the book of a failover that is over.
    pub(crate) fn publish(&mut self, view: &View) {
        let now = clock::now();
        let status = self.node_status(view, now);
        let topology = self.topology_picture(view, now);
        self.status.send_replace(Arc::new(status));
        self.topology.send_replace(Arc::new(topology));
        self.watch_the_clock(view, now);
    }

    fn watch_the_clock(&mut self, view: &View, now: Timestamp) {
        // Who has the lock sees an old view for a moment.
        let leads = self.lease.state().view.is_held_at(now);
        if let Some(cluster) = view.store.cluster.as_deref().filter(|_| !leads) {
            match cluster.leader_name() {
                Some(leader) if *leader != self.config.name => {
                    self.clock.led_by(leader, sign_of(leader, view));
                }
                Some(_) => {}
                None => self.clock.unlocked(now),
            }
        }
        if let Some(budget) = self.clock.published(now) {
            tracing::info!(budget = %budget, "this member accepts writes");
            self.journal.record("failover", budget);
        }
    }

    /// Until when failsafe counts here: what we promised to a leader, or what all others promised to us.
    fn failsafe_until(&self) -> Option<Timestamp> {
        let promised = self.failsafe.present().map(|acceptance| acceptance.until);
        promised.max(self.failsafe_confirmed_until)
    }

    fn node_status(&self, view: &View, now: Timestamp) -> NodeStatus {
        let mirrored = self.mirror.state();
        let fresh = now.since(mirrored.confirmed_at) < view.settings.ttl;
        let seen_unix = clock::wall().unix_millis
            - i64::try_from(now.since(mirrored.confirmed_at).as_millis()).unwrap_or(0);
        let reason = self.last_reason.as_ref();
        NodeStatus {
            cluster: self.config.scope.clone(),
            me: self.config.name.clone(),
            version: bellwether_dcs::codec::COMPATIBLE_VERSION.to_owned(),
            taken_at: now,
            state: self.local.state,
            role: self.local.role,
            server: self.server_status(),
            system_id: self.local.system_id,
            pending_restart: !self.local.pending_restart.is_empty(),
            pending_restart_reason: self.pending_restart_reason(),
            tags: self.config.tags.clone(),
            scheduled_restart: self.memory.restart_at.as_ref().map(scheduled_restart),
            watchdog_failed: self.fencing.watchdog.has_failed(),
            at_rest: self.is_at_rest(view),
            alarms: self.memory.gray.alarms.keys().copied().collect(),
            measured: self.measures.in_short(now),
            lease_until: self.lease_until(),
            store: mirrored.cluster.as_deref().filter(|_| fresh).cloned(),
            store_last_seen: mirrored
                .cluster
                .is_some()
                .then(|| bellwether_types::WallTime::from_unix_millis(seen_unix)),
            settings: view.settings.clone(),
            config: self.document().clone(),
            failsafe_until: self.failsafe_until(),
            failsafe: mirrored
                .cluster
                .as_ref()
                .and_then(|cluster| Some(cluster.failsafe.as_ref()?.value.clone()))
                // A leader empties it when the mode is off.
                .filter(|map| !map.0.is_empty()),
            takeover: self.takeover_status(),
            next_tick_by: self.wake_at.min(now + view.settings.loop_wait)
                + tolerance(self.local.role, view.settings.ttl),
            reason: reason.map(|reason| reason.sentence()).unwrap_or_default(),
            reason_code: reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        }
    }

    /// A lease that has run out counts as held: by failsafe it may go on all the same.
    fn is_at_rest(&self, view: &View) -> bool {
        let holds = matches!(self.lease.state().view, LeaseView::Held { .. });
        view.postgres.process == Process::NotRunning && !holds
    }

    /// The promise as it is on disk by now, whatever the last decision knew.
    fn takeover_status(&self) -> TakeoverStatus {
        TakeoverStatus {
            heard: self.ear.hearing().map(|hearing| (hearing.upstream.clone(), hearing.heard_at)),
            promise: self.promise.present().map(|kept| kept.promise),
        }
    }

    fn server_status(&self) -> Option<ServerStatus> {
        let connected = matches!(
            self.local.state,
            PostgresState::Running | PostgresState::Restarting | PostgresState::Starting
        );
        let (asked_at, observation) = self.fresh_observation().filter(|_| connected)?;
        let wal = match &observation.wal {
            WalPositions::Primary { flushed } => WalStatus::Primary { location: *flushed },
            WalPositions::Standby { received, replayed, paused, replayed_timestamp, replayed_unix } => {
                WalStatus::Standby {
                    received: received.unwrap_or(*replayed),
                    replayed: *replayed,
                    replayed_timestamp: replayed_timestamp.clone(),
                    replayed_unix: *replayed_unix,
                    paused: *paused,
                }
            }
        };
        Some(ServerStatus {
            asked_at,
            server_version: observation.server_version,
            postmaster_start_time: observation.postmaster_start_time.clone(),
            postmaster_start_unix: observation.postmaster_start_unix,
            in_recovery: observation.in_recovery,
            timeline: self.local.timeline(),
            wal,
            replays_own_wal: !observation.has_read_own_wal,
            replication_state: replication_state(observation),
            latest_end_lsn: observation.receiver.as_ref().and_then(|receiver| receiver.latest_end),
            replication: observation.walsenders.iter().map(walsender).collect(),
        })
    }

    fn topology_picture(&self, view: &View, now: Timestamp) -> Topology {
        let cluster = view.store.cluster.as_deref();
        let members =
            cluster.map(|cluster| TopologyMember::all(cluster, &view.settings.routing)).unwrap_or_default();
        Topology {
            cluster: self.config.scope.clone(),
            me: self.config.name.clone(),
            leader: cluster.and_then(|cluster| cluster.leader_name().cloned()),
            term: cluster.and_then(|cluster| Some(cluster.leader.as_ref()?.term)),
            lease_until: self.lease_until(),
            members,
            paused: view.settings.pause,
            taken_at: now,
            confirmed_at: view.store.confirmed_at,
            believable_until: view.store.confirmed_at + view.settings.ttl,
        }
    }
}

/// When the leader was last heard. Where keepalives are asked for (see `hearing`) that is known; elsewhere an idle leader may say nothing for
/// long, and WAL that streams is its last sign, though a connection may stand for a while when its other end is gone.
fn sign_of(leader: &MemberName, view: &View) -> Option<Timestamp> {
    let settings = &view.settings;
    if settings.quorum_takeover && settings.sync_mode() == SyncMode::Quorum {
        let hearing = view.takeover.hearing.as_ref().filter(|hearing| hearing.upstream == *leader);
        return hearing.map(|hearing| hearing.heard_at);
    }
    view.postgres.server.as_ref().filter(|server| server.streaming).map(|server| server.answered_at)
}

/// How late the loop may be before it counts as stuck: a primary must not be, a replica may for a while.
fn tolerance(role: Role, ttl: Duration) -> Duration {
    if role == Role::Primary { ttl } else { 2 * ttl }
}

/// A scheduled restart as Patroni's tools read it.
fn scheduled_restart(scheduled: &ScheduledRestart) -> Value {
    let mut fields = Map::new();
    fields.insert("schedule".into(), json!(scheduled.text));
    if let Some(started) = &scheduled.postmaster_started_at {
        fields.insert("postmaster_start_time".into(), json!(started));
    }
    if let Some(role) = scheduled.conditions.role {
        fields.insert("role".into(), json!(role));
    }
    if let Some(version) = scheduled.conditions.version_below {
        fields.insert("postgres_version".into(), json!(format!("{}.{}", version / 10_000, version % 10_000)));
    }
    if scheduled.conditions.pending {
        fields.insert("restart_pending".into(), json!(true));
    }
    if let Some(timeout) = scheduled.timeout {
        fields.insert("timeout".into(), json!(timeout.as_secs()));
    }
    Value::Object(fields)
}

fn replication_state(observation: &Observation) -> Option<ReplicationState> {
    if !observation.in_recovery {
        return None;
    }
    match &observation.receiver {
        Some(receiver) if receiver.status == "streaming" => Some(ReplicationState::Streaming),
        _ if !observation.restore_command.is_empty() => Some(ReplicationState::InArchiveRecovery),
        _ => None,
    }
}

fn walsender(row: &WalSenderRow) -> WalSender {
    WalSender {
        usename: row.usename.clone(),
        application_name: row.application_name.clone(),
        client_addr: row.client_addr.clone(),
        state: row.state.clone(),
        sync_state: row.sync_state.clone(),
        sync_priority: i64::from(row.sync_priority),
    }
}

/// A status for the time before the first decision.
pub(crate) fn first_status(
    config: &bellwether_config::Config,
    settings: &bellwether_types::settings::Settings,
) -> NodeStatus {
    let now = clock::now();
    NodeStatus {
        cluster: config.scope.clone(),
        me: config.name.clone(),
        version: bellwether_dcs::codec::COMPATIBLE_VERSION.to_owned(),
        taken_at: now,
        state: PostgresState::Stopped,
        role: Role::Uninitialized,
        server: None,
        system_id: None,
        pending_restart: false,
        pending_restart_reason: Value::Null,
        tags: config.tags.clone(),
        scheduled_restart: None,
        watchdog_failed: false,
        at_rest: false,
        alarms: Default::default(),
        measured: Default::default(),
        lease_until: None,
        store: None,
        store_last_seen: None,
        settings: settings.clone(),
        config: Value::Null,
        failsafe_until: None,
        failsafe: None,
        takeover: TakeoverStatus::default(),
        next_tick_by: now + settings.ttl,
        reason: "starting".into(),
        reason_code: "starting".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_may_be_late_for_twice_as_long_as_a_primary() {
        let ttl = Duration::from_secs(30);
        assert_eq!(tolerance(Role::Primary, ttl), ttl);
        for role in [Role::Replica, Role::StandbyLeader, Role::Demoted, Role::Uninitialized] {
            assert_eq!(tolerance(role, ttl), 2 * ttl, "{role:?}");
        }
    }
}
