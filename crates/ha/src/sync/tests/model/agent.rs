//! The agent: what it sees, what it does, and how its writes reach the store.

use std::{sync::Arc, time::Duration};

use bellwether_types::{
    Lsn, Revision, Role,
    cluster::{Keyed, SyncState},
};

use crate::{
    Action, Reason, View,
    draft::Draft,
    sync::{
        self,
        names::{Method, SyncNames},
    },
    testing::{self, Scene, name},
    view::Standby,
};

use super::{NAMES, World};

impl World {
    pub(super) fn land(&mut self, pick: u8) {
        if self.in_flight.is_empty() {
            return;
        }
        let (expect, state) = self.in_flight.remove(usize::from(pick) % self.in_flight.len());
        self.apply_write(expect, state);
    }

    fn apply_write(&mut self, expect: Option<Revision>, state: SyncState) {
        if self.store.as_ref().map(|keyed| keyed.revision) == expect {
            self.revision += 1;
            self.log.push(format!("/sync = {state:?}"));
            self.store = Some(Keyed { value: state, revision: Revision(self.revision) });
        }
    }

    pub(super) fn view(&self) -> View {
        let scene = match self.primary {
            "a" => testing::leader(),
            other => Scene::of(other).holding().as_primary(),
        };
        let shown = SyncNames::parse(&self.shown);
        let standbys = self.senders.iter().map(|(&member, sender)| Standby {
            application_name: member.to_owned(),
            connection: sender.id.to_string(),
            state: "streaming".to_owned(),
            sync_state: match (sender.is_listed(member), shown.method) {
                (false, _) => "async",
                (true, Method::Any) => "quorum",
                (true, Method::First) => "sync",
            }
            .to_owned(),
            write: Some(Lsn(sender.reported)),
            flush: Some(Lsn(sender.reported)),
            replay: Some(Lsn(sender.reported)),
        });
        let standbys: Vec<Standby> = standbys.collect();
        let mut scene = scene
            .lease(match self.primary {
                "a" => testing::held(self.now),
                other => match Scene::of(other).holding().view.lease {
                    crate::view::LeaseView::Held { demote_at, term, revision, .. } => {
                        let until = self.now + Duration::from_secs(5);
                        crate::view::LeaseView::Held {
                            until,
                            demote_at,
                            term,
                            revision,
                            unavailable_since: None,
                        }
                    }
                    lease => lease,
                },
            })
            .settings(|settings| {
                settings.synchronous_mode = self.mode;
                settings.synchronous_mode_strict = self.strict;
                settings.synchronous_node_count = self.wanted;
            })
            .memory(|memory| *memory = self.memory.clone())
            .server(|server| {
                server.answered_at = self.now;
                server.position = Lsn(self.wal);
                server.synchronous_standby_names.clone_from(&self.shown);
                server.standbys = standbys;
            })
            .cluster(|cluster| {
                cluster.sync.clone_from(&self.seen);
                for member in NAMES {
                    let role = if member == self.primary { Role::Primary } else { Role::Replica };
                    cluster.members.insert(name(member), testing::member(member, role));
                }
            });
        scene.view.now = self.now;
        scene.view.store.confirmed_at = self.now;
        scene.view.postgres.checkpointer_read_at = self.read_at;
        scene.build()
    }

    /// The agent looks and acts. Returns how many deeds it did.
    pub(super) fn tick(&mut self, pick: u8) -> usize {
        let view = self.view();
        let mut draft = Draft::new(&view);
        let cluster = view.store.cluster.clone().unwrap_or_else(|| Arc::new(Default::default()));
        sync::process(&view, &cluster, &mut draft);
        let decision = draft.finish(Reason::Paused);
        self.memory = decision.memory;
        let reasons = format!("{:?}", &decision.reasons[1..]);
        if !self.log.last().is_some_and(|last| last.starts_with(&reasons)) {
            self.log.push(reasons);
        }
        self.perform(decision.actions, pick)
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>, pick: u8) -> usize {
        let mut deeds = 0;
        for action in actions {
            match action {
                Action::GenerateWal => {
                    self.wal += 1;
                    self.positions.insert(self.primary, self.wal);
                }
                Action::ProveNamesInForce => {
                    // Told directly, and either it is seen to come back or not.
                    self.signalled = true;
                    if pick % 4 > 1 {
                        while self.signalled || self.reading.is_some() {
                            self.checkpointer();
                        }
                        self.read_at = Some(self.now);
                    }
                }
                Action::SetSyncNames { names } => {
                    self.log.push(format!("names = {names}"));
                    self.file = names;
                    deeds += 1;
                }
                Action::WriteSync { expect, state } => {
                    deeds += 1;
                    match pick % 4 {
                        0 => self.in_flight.push((expect, state)),
                        1 => self.log.push(format!("lost: {state:?}")),
                        _ => self.apply_write(expect, state),
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        deeds
    }
}
