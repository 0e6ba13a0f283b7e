//! Actions on replication slots. Nothing else rests on them, so none of them keeps the next action from being done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_ha::{
    action::{DropWhy, LogicalAdvance},
    view::{JobKind, Upstream},
};
use bellwether_types::{Lsn, PostgresState, slots::LogicalSlot};
use tracing::{debug, info, warn};

use super::Effect;
use crate::{agent::Agent, clock, monitor::Errand, work};

impl Agent {
    pub(super) async fn create_slots(&mut self, names: BTreeSet<String>) -> Effect {
        self.slot_errands(names.into_iter().map(Errand::CreateSlot)).await
    }

    pub(super) async fn advance_slots(&mut self, to: BTreeMap<String, Lsn>) -> Effect {
        // What comes of it shows in the next look; no decision waits for it.
        self.slot_errands(to.into_iter().map(|(name, lsn)| Errand::AdvanceSlot(name, lsn))).await;
        Effect::Nothing
    }

    async fn slot_errands(&mut self, errands: impl Iterator<Item = Errand>) -> Effect {
        let mut effect = Effect::Nothing;
        for errand in errands {
            if self.errand(errand).await == Effect::Changed {
                effect = Effect::Changed;
            }
        }
        effect
    }

    pub(super) async fn drop_slots(&mut self, slots: BTreeMap<String, DropWhy>) -> Effect {
        let mut effect = Effect::Nothing;
        for (name, why) in slots {
            tell_why(&name, why);
            match self.errand(Errand::DropSlot(name.clone())).await {
                Effect::Changed => {
                    info!("Dropped replication slot '{name}'");
                    effect = Effect::Changed;
                }
                Effect::Nothing => warn!("Unable to drop replication slot '{name}', slot is active"),
                Effect::Failed => warn!("Failed to drop replication slot '{name}'"),
            }
        }
        effect
    }

    pub(super) fn create_logical_slots(&mut self, slots: BTreeMap<String, LogicalSlot>) -> Effect {
        if !self.slots.create(self.settings.clone(), self.local.server_version(), slots) {
            debug!("a logical slot is still being made");
        }
        Effect::Nothing
    }

    pub(super) fn advance_logical_slots(&mut self, to: BTreeMap<String, LogicalAdvance>) -> Effect {
        if !self.slots.advance(self.settings.clone(), to) {
            debug!("logical slots are still being advanced");
        }
        Effect::Nothing
    }

    pub(super) fn ask_leader_slots(
        &mut self,
        leader: Upstream,
        names: BTreeSet<String>,
        states_of: BTreeSet<String>,
    ) -> Effect {
        let Some(target) = work::target(&leader, self.settings.rewind_credentials()) else {
            warn!(leader = %leader.member, "the primary publishes no usable address");
            return Effect::Nothing;
        };
        let database = work::database_of(&leader.conn_url).unwrap_or_else(|| self.settings.database.clone());
        self.slots.ask(leader.member, target, database, names, states_of);
        Effect::Nothing
    }

    pub(super) fn copy_slots(&mut self, names: &BTreeSet<String>, stop_limit: Duration) -> Effect {
        let known = &mut self.local.slots;
        let states: BTreeMap<String, Vec<u8>> =
            names.iter().filter_map(|name| Some((name.clone(), known.states.get(name)?.clone()))).collect();
        known.unusable.retain(|name| !names.contains(name));
        // Used up: another copy takes another answer.
        known.states.clear();
        known.of_leader = None;
        self.slots.leave_off();
        self.local.state = PostgresState::Restarting;
        self.local.stopping_since = Some(clock::now());
        let (server, running) = (self.server.clone(), self.local.postmaster.clone());
        let plan = self.standby_plan(self.local.upstream.as_ref());
        let limit = self.settings.pg_ctl_timeout;
        self.local.given = Some(self.give(false));
        self.jobs.start(JobKind::CopySlots, move |job| {
            work::copy_slots(job, server, running, plan, (stop_limit, limit), states)
        });
        Effect::Nothing
    }

    pub(super) async fn force_feedback(&mut self, on: bool) -> Effect {
        info!(on, "hot_standby_feedback is needed for logical slots");
        let before = std::mem::replace(&mut self.local.feedback_forced, on);
        let plan = self.present_plan();
        if self.apply(&plan).await.is_none() {
            self.local.feedback_forced = before;
        }
        Effect::Nothing
    }
}

fn tell_why(name: &str, why: DropWhy) {
    match why {
        DropWhy::Unknown => info!("Trying to drop unknown replication slot '{name}'"),
        DropWhy::Expired { ttl } => {
            info!(
                "Replication slot '{name}' for absent cluster member is expired after {} sec.",
                ttl.as_secs()
            );
            info!("Trying to drop unknown replication slot '{name}'");
        }
        DropWhy::Lost => info!("Trying to drop replication slot '{name}' with wal_status=lost"),
        DropWhy::Changed => info!("Trying to drop replication slot '{name}' because its value is changing"),
        DropWhy::HasXmin => warn!("Dropping physical replication slot {name} because of its xmin value"),
        DropWhy::NoRestartLsn => {
            warn!("Dropping physical replication slot {name} because it has no restart_lsn");
        }
        DropWhy::DiskFull => warn!(
            "Dropping replication slot '{name}': its member is away, and the WAL that it holds back fills the disk (wal_disk_guard); copy the member anew"
        ),
        DropWhy::NotSynced => {
            info!(
                "Dropping failover slot '{name}' of a former primary: the server synchronises the present one"
            );
        }
    }
}
