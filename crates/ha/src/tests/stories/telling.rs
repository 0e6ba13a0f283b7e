//! One member whose actions have the effect that they would have.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    Role, TimelineId, TimelineSwitch,
    cluster::{ConfigDocument, Initialize, Keyed, Leader, TimelineClaim},
};

use crate::{
    Action,
    action::StartRole,
    draft::job_kind,
    testing::{self, POSITION, Scene, silence, standby_at},
    view::{DataDirectory, Guardian, JobKind, JobOutcome, LeaseView, LocalHistory, PeerAnswer},
};

/// Steps after which a procedure must have come to an end.
const PATIENCE: usize = 40;

pub(super) struct Story {
    pub(super) scene: Scene,
    pub(super) answers: BTreeMap<&'static str, PeerAnswer>,
    /// Whether a comparison of histories finds that this member has diverged.
    pub(super) diverged: bool,
    /// The kinds of actions in the order in which they happened, without what every tick publishes.
    pub(super) deeds: Vec<String>,
}

impl Story {
    pub(super) fn of(scene: Scene) -> Self {
        let answers = ["a", "b", "c"].map(|name| (name, standby_at(POSITION))).into();
        Self { scene, answers, diverged: false, deeds: Vec::new() }
    }

    pub(super) fn answering(mut self, member: &'static str, answer: PeerAnswer) -> Self {
        self.answers.insert(member, answer);
        self
    }

    /// Until a tick decides nothing but routine.
    pub(super) fn run(mut self) -> Self {
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            let seen = self.deeds.len();
            self.step();
            quiet = if self.deeds.len() == seen { quiet + 1 } else { 0 };
            if quiet == 3 {
                return self;
            }
        }
        panic!("no end: {:?}", self.deeds);
    }

    pub(super) fn step(&mut self) {
        let mut scene = self.scene.clone().later(Duration::from_millis(400));
        if matches!(scene.view.lease, LeaseView::Held { .. }) {
            scene = renewed(scene);
        }
        self.scene = scene;
        let decision = self.scene.decide();
        self.scene.view.memory = decision.memory;
        for action in decision.actions {
            let routine = matches!(action, Action::PublishMember { .. } | Action::WriteStatus { .. });
            if !routine {
                let text = format!("{action:?}");
                self.deeds.push(text.split([' ', '{', '(']).next().unwrap_or_default().to_owned());
            }
            self.apply(action);
        }
    }

    fn apply(&mut self, action: Action) {
        if let Some(kind) = job_kind(&action) {
            self.run_job(&action);
            let now = self.scene.view.now;
            self.scene.view.job = None;
            self.scene.view.last_job =
                Some(crate::view::FinishedJob { kind, ended_at: now, outcome: JobOutcome::Succeeded });
            return;
        }
        let view = &mut self.scene.view;
        let cluster = &mut self.scene.cluster;
        cluster.revision.0 += 1;
        let revision = cluster.revision;
        match action {
            Action::PollPeers { members, .. } => {
                view.peers.polled_at = Some(view.now);
                view.peers.answers = members
                    .keys()
                    .map(|name| {
                        (name.clone(), self.answers.get(name.as_str()).cloned().unwrap_or_else(silence))
                    })
                    .collect();
            }
            Action::AcquireLease { .. } | Action::ResumeLease { .. } => {
                cluster.leader = Some(Leader {
                    name: view.me.name.clone(),
                    term: bellwether_types::Term(revision.0),
                    revision,
                    lease: None,
                });
                view.lease = LeaseView::Held {
                    until: view.now,
                    demote_at: view.now,
                    term: bellwether_types::Term(revision.0),
                    revision,
                    unavailable_since: None,
                };
                self.scene = renewed(self.scene.clone());
            }
            Action::ReleaseLease { .. } => {
                cluster.leader = None;
                view.lease = LeaseView::NotHeld;
            }
            Action::ArmGuardian { until } => {
                assert!(until > view.now, "armed for the past");
                view.fencing.guardian = Guardian::Armed { until };
            }
            Action::DisarmGuardian | Action::RespawnGuardian => view.fencing.guardian = Guardian::Ready,
            Action::SetRole { role } => view.postgres.role = role,
            Action::SetState { state } => view.postgres.state = state,
            Action::Follow { upstream } => view.postgres.upstream = upstream,
            Action::ClaimInitialize => {
                cluster.initialize = Some(Keyed { value: Initialize::InProgress, revision });
                view.store.owns_claim = true;
            }
            Action::WriteInitialize { .. } => {
                let id = view.postgres.system_id.expect("an identity");
                cluster.initialize = Some(Keyed { value: Initialize::Done(id), revision });
                cluster.founder = view.postgres.founding.clone().map(|value| Keyed { value, revision });
            }
            Action::WriteConfig { .. } => {
                cluster.config =
                    Some(Keyed { value: ConfigDocument::Valid(serde_json::Value::Null), revision });
            }
            Action::WriteStatus { status } => cluster.status = Some(Keyed { value: status, revision }),
            Action::WriteHistory { history } => cluster.history = Some(Keyed { value: history, revision }),
            Action::TakeTimeline { next } => {
                let claim = TimelineClaim { timeline: next.timeline, leader: view.me.name.clone() };
                cluster.timeline_claim = Some(Keyed { value: Some(claim), revision });
            }
            Action::WriteFailsafe { map } => cluster.failsafe = Some(Keyed { value: map, revision }),
            Action::WriteFailover { request, .. } => {
                cluster.failover = Some(Keyed { value: request, revision });
            }
            Action::DeleteSync { .. } => cluster.sync = None,
            Action::CreateSlots { names } => {
                for name in names {
                    self.scene = self.scene.clone().slot(&name, |_| ());
                }
            }
            Action::DropSlots { slots } => {
                let server = view.postgres.server.as_mut().expect("a running server");
                server.slots.retain(|slot| !slots.contains_key(&slot.name));
            }
            Action::WipeDataDirectory { .. } => self.scene = self.scene.clone().empty(),
            Action::Answer { request, .. } => view.requests.retain(|open| open.id != request),
            Action::PublishMember { member } => {
                let key = testing::member(view.me.name.as_str(), view.postgres.role);
                let known = cluster.members.entry(view.me.name.clone()).or_insert(key);
                known.role = Some(view.postgres.role);
                known.state = Some(view.postgres.state);
                known.pause = member.pause;
                known.checkpoint_after_promote = member.checkpoint_pending.then_some(false);
            }
            Action::FinishBootstrap => {
                (view.postgres.data, view.postgres.founding) = (DataDirectory::Present, None);
            }
            Action::RunCallback { .. } | Action::Exit { .. } => {}
            other => panic!("the story does not know {other:?}"),
        }
    }

    fn run_job(&mut self, action: &Action) {
        let scene = self.scene.clone();
        let diverged = self.diverged;
        self.scene = match action {
            Action::Promote { fence, .. } => {
                assert!(scene.view.now < fence.valid_until);
                promoted(scene)
            }
            Action::Start { role: StartRole::Primary { .. } } => running(scene).as_primary(),
            Action::Bootstrap => running(scene).as_primary().view(|view| {
                view.postgres.data = DataDirectory::Interrupted { by: JobKind::Bootstrap };
                view.postgres.founding = Some("a-1".to_owned());
            }),
            Action::Start {
                role: StartRole::Standby { upstream } | StartRole::StandbyLeader { upstream },
            } => {
                let upstream = upstream.clone();
                running(scene).view(|view| {
                    view.postgres.upstream = upstream;
                    view.postgres.role = Role::Replica;
                })
            }
            Action::Demote { .. } => scene.stopped().view(|view| view.postgres.role = Role::Demoted),
            Action::Stop { .. } => scene.stopped(),
            Action::Clone { .. } | Action::Reinitialize { .. } => {
                running(scene).stopped().view(|view| view.postgres.role = Role::Replica)
            }
            Action::CheckDivergence { leader } => {
                let leader = leader.member.clone();
                scene.divergence(|found| {
                    found.leader = leader;
                    found.local_timeline = TimelineId(if diverged { 9 } else { 1 });
                })
            }
            Action::Rewind { .. } => {
                self.diverged = false;
                scene.stopped()
            }
            Action::CrashRecovery => scene.view(|view| {
                view.postgres.control.as_mut().expect("a control file").state =
                    crate::view::ControlState::ShutDown;
            }),
            Action::Checkpoint => scene.view(|view| {
                let timeline = view.postgres.server.as_ref().and_then(|server| server.timeline);
                view.postgres.control.as_mut().expect("a control file").timeline =
                    timeline.unwrap_or(TimelineId(1));
            }),
            Action::PostBootstrap | Action::Restart { .. } => scene,
            other => panic!("no job: {other:?}"),
        };
    }
}

pub(super) fn renewed(mut scene: Scene) -> Scene {
    let LeaseView::Held { term, .. } = scene.view.lease else { return scene };
    let LeaseView::Held { until, demote_at, .. } = testing::held(scene.view.now) else { unreachable!() };
    scene.view.lease = LeaseView::Held {
        until,
        demote_at,
        term,
        revision: bellwether_types::Revision(term.0),
        unavailable_since: None,
    };
    if let Guardian::Armed { .. } = scene.view.fencing.guardian {
        scene.view.fencing.guardian = Guardian::Armed { until };
    }
    scene
}

/// A standby that runs, with slots for the others.
pub(super) fn running(scene: Scene) -> Scene {
    let fresh = Scene::of(if scene.view.me.name.as_str() == "a" { "c" } else { scene.view.me.name.as_str() });
    scene.view(|view| {
        let memory = view.postgres.clone();
        view.postgres = fresh.view.postgres;
        view.postgres.upstream = memory.upstream;
        view.postgres.system_id = memory.system_id.or(view.postgres.system_id);
    })
}

pub(super) fn promoted(scene: Scene) -> Scene {
    scene.as_primary().server(|server| server.timeline = Some(TimelineId(2))).view(|view| {
        view.postgres.local_history = Some(LocalHistory {
            timeline: TimelineId(2),
            switches: vec![TimelineSwitch { timeline: TimelineId(1), end: POSITION, reason: String::new() }],
            written_at: "2026-11-22T01:00:00+00:00".to_owned(),
        });
    })
}

/// What matters of a story: not who was told, and not the bookkeeping of slots.
pub(super) fn told(story: &Story) -> Vec<&str> {
    const ASIDE: [&str; 6] =
        ["RunCallback", "CreateSlots", "DropSlots", "SetRole", "SetState", "WriteFailsafe"];
    story.deeds.iter().map(String::as_str).filter(|deed| !ASIDE.contains(deed)).collect()
}
