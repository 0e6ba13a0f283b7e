//! Actions towards peers, scripts and people.

use std::{collections::BTreeMap, time::Duration};

use bellwether_ha::{View, action::CallbackEvent, view::FailsafeRound};
use bellwether_types::{MemberName, PostgresState, Role, failsafe::FailsafeRequest, program::CallbackAction};
use tracing::info;

use super::Effect;
use crate::{
    agent::Agent,
    clock,
    event::Event,
    peers::{self, PollWish},
};

impl Agent {
    pub(super) fn poll_peers(&mut self, members: BTreeMap<MemberName, String>, timeout: Duration) -> Effect {
        if let Some(wish) = self.polls.ask(PollWish { members, timeout }) {
            self.begin_poll(wish);
        }
        Effect::Nothing
    }

    pub(crate) fn begin_poll(&mut self, wish: PollWish) {
        let told = self.cycle.loudness(clock::now());
        let (client, events) = (self.client.clone(), self.events_in.clone());
        tokio::spawn(async move {
            let began_at = clock::now();
            let answers = peers::poll(&client, wish.members, wish.timeout, told).await;
            let _ = events.send(Event::PeersPolled { began_at, answers }).await;
        });
    }

    pub(super) fn ask_failsafe(
        &mut self,
        members: BTreeMap<MemberName, String>,
        rely_on: Duration,
        view: &View,
    ) -> Effect {
        if self.failsafe_round.as_ref().is_some_and(|round| round.running) {
            return Effect::Nothing;
        }
        self.failsafe_round = Some(FailsafeRound {
            began_at: clock::now(),
            asked: members.keys().cloned().collect(),
            accepted: std::collections::BTreeSet::default(),
            good_for: rely_on,
            running: true,
            positions: BTreeMap::new(),
        });
        let slots = bellwether_ha::published_slots(view);
        let request = FailsafeRequest {
            name: self.config.name.clone(),
            conn_url: self.conn_url(),
            api_url: self.config.restapi.api_url(),
            slots,
            rely_on_ms: u64::try_from(rely_on.as_millis()).ok(),
        };
        let limit = view.settings.ttl / 5;
        let told = self.cycle.loudness(clock::now());
        let (client, events) = (self.client.clone(), self.events_in.clone());
        tokio::spawn(async move {
            let round = peers::ask_failsafe(&client, members, request, limit, told).await;
            let _ = events.send(Event::FailsafeAsked(round)).await;
        });
        Effect::Nothing
    }

    pub(super) fn clear_failsafe(&mut self) -> Effect {
        self.failsafe.clear();
        self.failsafe_round = None;
        self.failsafe_confirmed_until = None;
        Effect::Changed
    }

    pub(super) fn run_callback(&mut self, event: CallbackEvent, role: Role) -> Effect {
        let action = match event {
            CallbackEvent::OnStart => CallbackAction::OnStart,
            CallbackEvent::OnStop => CallbackAction::OnStop,
            CallbackEvent::OnRestart => CallbackAction::OnRestart,
            CallbackEvent::OnReload => CallbackAction::OnReload,
            CallbackEvent::OnRoleChange => CallbackAction::OnRoleChange,
        };
        self.callbacks.run(action, role);
        Effect::Nothing
    }

    pub(super) async fn set_role(&mut self, role: Role) -> Effect {
        if self.local.role == role {
            return Effect::Nothing;
        }
        info!(from = %self.local.role, to = %role, "role");
        let before = std::mem::replace(&mut self.local.role, role);
        let is_other_standby = matches!(
            (before, role),
            (Role::Replica, Role::StandbyLeader) | (Role::StandbyLeader, Role::Replica)
        );
        // Some settings belong to a role; any other change of it comes with a start or a promotion, which writes them.
        if is_other_standby && self.local.postmaster.is_some() && self.jobs.kind().is_none() {
            let plan = self.present_plan();
            self.apply(&plan).await;
        }
        Effect::Changed
    }

    pub(super) fn set_state(&mut self, state: PostgresState) -> Effect {
        if self.local.state == state {
            return Effect::Nothing;
        }
        self.local.state = state;
        Effect::Changed
    }
}
