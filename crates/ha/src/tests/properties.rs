//! What holds for every view, however strange.

use std::time::Duration;

use bellwether_types::{Lsn, PostgresState, Role, Term, TimelineId, Timestamp, settings::SyncMode};
use proptest::{prelude::*, sample::select};

use crate::{
    Action, Decision, View,
    action::StartRole,
    draft::job_kind,
    memory::{BootstrapStage, Checkpoint, Demoting, RewindState},
    testing::{self, NOW, Scene, leader, newcomer, orphan, replica, silence, standby_at},
    view::{
        DataDirectory, FailsafeAcceptance, FinishedJob, Guardian, Job, JobKind, JobOutcome, JobPhase,
        LeaseView, Process, Request, RequestKind, RestartConditions, Watchdog,
    },
};

/// One thing that differs from a healthy cluster.
type Change = fn(Scene, u64) -> Scene;

fn millis(seed: u64) -> Duration {
    Duration::from_millis(seed % 20_000)
}

fn job(seed: u64) -> JobKind {
    let kinds = [
        JobKind::Bootstrap,
        JobKind::PostBootstrap,
        JobKind::Clone,
        JobKind::Start,
        JobKind::Restart,
        JobKind::Reinitialize,
        JobKind::Promote,
        JobKind::Demote,
        JobKind::Stop,
        JobKind::CheckDivergence,
        JobKind::CrashRecovery,
        JobKind::Rewind,
        JobKind::Checkpoint,
    ];
    kinds[usize::try_from(seed % 13).unwrap()].clone()
}

const CHANGES: &[Change] = &[
    |scene, seed| scene.settings(|settings| settings.pause = seed % 2 == 0),
    |scene, seed| scene.settings(|settings| settings.failsafe_mode = seed % 2 == 0),
    |scene, _| scene.settings(|settings| settings.use_pg_rewind = true),
    |scene, _| scene.settings(|settings| settings.primary_start_timeout = Duration::ZERO),
    |scene, _| scene.settings(|settings| settings.check_timeline = true),
    |scene, _| scene.settings(|settings| settings.standby_cluster = Some(Default::default())),
    |scene, seed| scene.settings(|settings| settings.primary_race_backoff = millis(seed)),
    |scene, seed| {
        scene.sync(if seed % 2 == 0 { SyncMode::On } else { SyncMode::Quorum }, "a", &["b", "c"], 1)
    },
    |scene, seed| scene.later(millis(seed)),
    |scene, seed| scene.silent_for(millis(seed)),
    |scene, _| scene.without_leader(),
    |scene, _| scene.unlocked(),
    |scene, seed| scene.leader_is(["a", "b", "c"][usize::try_from(seed % 3).unwrap()]),
    |scene, _| scene.holding(),
    |scene, _| scene.rejected(),
    |scene, _| scene.lease(LeaseView::NotHeld),
    |scene, seed| scene.lease(testing::held(NOW.saturating_sub(millis(seed)))),
    |scene, _| scene.request(Some("a"), Some("b")),
    |scene, _| scene.request(None, Some("b")),
    |scene, _| scene.request(Some("a"), None),
    |scene, _| scene.cluster(|cluster| cluster.initialize = None),
    |scene, _| scene.cluster(|cluster| cluster.config = None),
    |scene, _| scene.history(3),
    |scene, _| scene.empty(),
    |scene, _| scene.stopped(),
    |scene, _| scene.crashed(),
    |scene, _| scene.view(|view| view.postgres.data = DataDirectory::Unreadable("EIO".to_owned())),
    |scene, _| scene.view(|view| view.postgres.data = DataDirectory::Invalid("no pg_control".to_owned())),
    |scene, _| scene.view(|view| view.postgres.system_id = None),
    |scene, _| scene.view(|view| view.postgres.system_id = "7000000000000000001".parse().ok()),
    |scene, _| scene.view(|view| view.postgres.server = None),
    |scene, seed| {
        scene.view(|view| {
            view.postgres.process = Process::Starting { since: NOW.saturating_sub(millis(seed)) }
        })
    },
    |scene, _| scene.view(|view| view.postgres.process = Process::Stopping { since: NOW }),
    |scene, seed| scene.view(|view| view.postgres.role = Role::ALL[usize::try_from(seed % 6).unwrap()]),
    |scene, seed| {
        scene.view(|view| view.postgres.state = PostgresState::ALL[usize::try_from(seed % 15).unwrap()])
    },
    |scene, seed| {
        scene.view(|view| {
            if let Some(server) = &mut view.postgres.server {
                server.in_recovery = seed % 2 == 0;
                server.timeline = (seed % 3 != 0).then_some(TimelineId(2));
                server.position = Lsn(seed);
            }
        })
    },
    |scene, seed| {
        scene.view(|view| {
            view.fencing.guardian = match seed % 4 {
                0 => Guardian::Off,
                1 => Guardian::Ready,
                2 => Guardian::Armed { until: NOW + millis(seed) },
                _ => Guardian::Dead,
            };
        })
    },
    |scene, seed| {
        scene.view(|view| {
            view.fencing.watchdog = Watchdog::Required { usable: seed % 2 == 0, active: seed % 3 == 0 };
        })
    },
    |scene, seed| scene.job(job(seed)),
    |scene, _| scene.job_in(JobKind::Promote, JobPhase::PrePromote),
    |scene, _| {
        let demoting = Demoting { mode: crate::action::DemoteMode::Immediate, since: scene.view.now };
        let scene = scene.job_in(JobKind::Demote, JobPhase::Harmless);
        scene.memory(|memory| memory.demoting = Some(demoting))
    },
    |scene, _| {
        scene.job_in(JobKind::Demote, JobPhase::ShutdownCheckpoint { checkpoint: Lsn(9), end: Lsn(10) })
    },
    |scene, seed| {
        scene.view(|view| {
            let outcome = match seed % 3 {
                0 => JobOutcome::Succeeded,
                1 => JobOutcome::Cancelled,
                _ => JobOutcome::Failed { why: "no".to_owned(), source_unreachable: seed % 2 == 0 },
            };
            let ended_at = NOW.saturating_sub(millis(seed / 2));
            view.last_job = Some(FinishedJob { kind: job(seed / 13), ended_at, outcome });
            view.memory.jobs.insert(job(seed / 13), NOW.saturating_sub(millis(seed)));
        })
    },
    |scene, seed| {
        scene.view(|view| {
            let kind = match seed % 3 {
                0 => RequestKind::Restart { conditions: RestartConditions::default(), timeout: None },
                1 => RequestKind::Reinitialize { force: seed % 2 == 0, from_leader: true },
                _ => RequestKind::Reload,
            };
            view.requests.push(Request { id: seed, kind });
        })
    },
    |scene, _| scene.view(|view| view.stopping = true),
    |scene, _| scene.answers(&[("a", silence()), ("b", silence()), ("c", silence())]),
    |scene, seed| {
        scene.answers(&[("a", silence()), ("b", standby_at(Lsn(seed))), ("c", standby_at(Lsn(seed / 2)))])
    },
    |scene, seed| {
        scene.view(|view| {
            view.failsafe.accepted = Some(FailsafeAcceptance {
                leader: testing::name("a"),
                conn_url: String::new(),
                api_url: String::new(),
                until: NOW + millis(seed),
                slots: Default::default(),
            });
        })
    },
    |scene, seed| {
        scene.memory(|memory| {
            memory.rewind = match seed % 5 {
                0 => RewindState::Check { since: NOW },
                1 => RewindState::Need,
                2 => RewindState::Success,
                3 => RewindState::Failed,
                _ => RewindState::NotNeed,
            };
        })
    },
    |scene, seed| {
        scene.memory(|memory| {
            memory.bootstrapping = Some(match seed % 4 {
                0 => BootstrapStage::Creating,
                1 => BootstrapStage::PostBootstrap,
                2 => BootstrapStage::Publishing,
                _ => BootstrapStage::Failed,
            });
        })
    },
    |scene, seed| {
        scene.memory(|memory| {
            let mode = match seed % 4 {
                0 => crate::action::DemoteMode::Graceful,
                1 => crate::action::DemoteMode::Immediate,
                2 => crate::action::DemoteMode::ImmediateNoLock,
                _ => crate::action::DemoteMode::Offline { stop_by: NOW },
            };
            memory.demoting = Some(Demoting { mode, since: NOW.saturating_sub(millis(seed)) });
        })
    },
    |scene, _| scene.memory(|memory| memory.recovering = true),
    |scene, _| scene.memory(|memory| memory.racing = true),
    |scene, _| scene.memory(|memory| memory.checkpoint_after_promote = Checkpoint::Wanted),
    |scene, _| scene.memory(|memory| memory.released_at = Some(NOW)),
    |scene, _| scene.memory(|memory| memory.crashed_as_primary_at = Some(NOW)),
    |scene, _| scene.memory(|memory| memory.was_paused = true),
    |scene, _| scene.divergence(|found| found.local_timeline = TimelineId(7)),
    |scene, seed| scene.view(|view| view.now = Timestamp::from_millis(seed)),
    |scene, seed| {
        scene.cluster(|cluster| {
            if let Some(leader) = &mut cluster.leader {
                leader.term = Term(seed % 200);
            }
        })
    },
];

fn start() -> impl Strategy<Value = fn() -> Scene> {
    select(vec![leader as fn() -> Scene, replica, orphan, newcomer])
}

fn any_view() -> impl Strategy<Value = View> {
    let changes = prop::collection::vec((select(CHANGES), any::<u32>()), 0..8);
    (start(), changes).prop_map(|(start, changes)| {
        changes.into_iter().fold(start(), |scene, (change, seed)| change(scene, u64::from(seed))).build()
    })
}

/// Every two changes, which find what a single odd fact cannot.
fn pairs() -> impl Iterator<Item = View> {
    let starts: [fn() -> Scene; 4] = [leader, replica, orphan, newcomer];
    starts.into_iter().flat_map(|start| {
        CHANGES.iter().flat_map(move |first| {
            CHANGES.iter().map(move |second| second(first(start(), 1_234_567), 7_654_321).build())
        })
    })
}

fn makes_primary(action: &Action) -> bool {
    matches!(action, Action::Promote { .. } | Action::Start { role: StartRole::Primary { .. } })
}

fn check(view: &View) -> Result<(), String> {
    let decision = crate::decide(view);
    let fail = |what: &str| Err(format!("{what}: {decision:#?}"));
    if decision.reasons.is_empty() {
        return fail("no reason");
    }
    if decision.wake_at <= view.now {
        return fail("asks to be woken in the past");
    }
    let jobs = decision.actions.iter().filter_map(job_kind).collect::<Vec<_>>();
    if jobs.len() > 1 {
        return fail("two jobs at once");
    }
    if view.job.is_some() && jobs.iter().any(|kind| *kind != JobKind::Demote) {
        return fail("a job beside a job");
    }
    if decision.actions.iter().any(makes_primary) && !may_become_primary(view) {
        return fail("a primary without lease or guardian");
    }
    if wipes(&decision) && !may_wipe(view) {
        return fail("data are wiped without permission");
    }
    if view.settings.pause && acts_in_pause(view, &decision) {
        return fail("acts in pause");
    }
    if releases_while_writing(view, &decision) {
        return fail("the lock is given away while PostgreSQL may write");
    }
    Ok(())
}

fn may_become_primary(view: &View) -> bool {
    let is_held = view.lease.is_held_at(view.now);
    let is_guarded = match view.fencing.guardian {
        Guardian::Off => true,
        Guardian::Armed { until } => view.now < until,
        _ => false,
    };
    let watchdog = !matches!(view.fencing.watchdog, Watchdog::Required { active: false, .. });
    is_held && (view.settings.pause || (is_guarded && watchdog))
}

fn wipes(decision: &Decision) -> bool {
    decision
        .actions
        .iter()
        .any(|action| matches!(action, Action::WipeDataDirectory { .. } | Action::Reinitialize { .. }))
}

fn may_wipe(view: &View) -> bool {
    let is_asked =
        view.requests.iter().any(|request| matches!(request.kind, RequestKind::Reinitialize { .. }));
    is_asked
        || view.settings.remove_data_directory_on_diverged_timelines
        || view.settings.remove_data_directory_on_rewind_failure
}

/// Starting, stopping or promoting that nobody asked for and that was not begun before the pause.
fn acts_in_pause(view: &View, decision: &Decision) -> bool {
    let is_asked = !view.requests.is_empty()
        || view.store.cluster.as_ref().is_some_and(|cluster| cluster.failover_request().is_some())
        || view.memory.bootstrapping.is_some()
        || view.memory.jobs.contains_key(&JobKind::Bootstrap)
        || view.memory.demoting.is_some()
        || view.memory.start_wanted;
    !is_asked
        && decision.actions.iter().any(|action| {
            matches!(
                action,
                Action::Start { .. }
                    | Action::Stop { .. }
                    | Action::Demote { .. }
                    | Action::Promote { .. }
                    | Action::Restart { .. }
                    | Action::Rewind { .. }
                    | Action::WipeDataDirectory { .. }
            )
        })
}

/// A lock may go only when the server is stopped, is a standby, has written its shutdown checkpoint, or was killed to the last process.
fn releases_while_writing(view: &View, decision: &Decision) -> bool {
    let releases = decision.actions.iter().any(|action| matches!(action, Action::ReleaseLease { .. }));
    let commits_no_more = view.job.as_ref().is_some_and(|job: &Job| {
        matches!(job.phase, JobPhase::ShutdownCheckpoint { .. } | JobPhase::Harmless)
    });
    releases && !view.settings.pause && view.is_primary() && !commits_no_more
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_view_leads_astray(view in any_view()) {
        if let Err(what) = check(&view) {
            prop_assert!(false, "{what}");
        }
    }
}

#[test]
fn no_pair_of_oddities_leads_astray() {
    for view in pairs() {
        if let Err(what) = check(&view) {
            panic!("{what}\n{view:#?}");
        }
    }
}

#[test]
fn the_same_view_gives_the_same_decision() {
    for view in pairs().step_by(17) {
        let text = |decision: Decision| format!("{decision:?}");
        assert_eq!(text(crate::decide(&view)), text(crate::decide(&view)));
    }
}

/// With every instantaneous action granted no effect at all, a second decision in the same instant must not repeat it.
#[test]
fn nothing_is_repeated_in_the_same_instant() {
    for mut view in pairs() {
        let first = crate::decide(&view);
        view.memory = first.memory.clone();
        let second = crate::decide(&view);
        let is_paced = |action: &&Action| {
            job_kind(action).is_none()
                && !matches!(action, Action::Answer { .. } | Action::RunCallback { .. })
        };
        let repeated = second.actions.iter().filter(is_paced).find(|action| first.actions.contains(action));
        let is_exempt = matches!(repeated, Some(Action::Reload | Action::SetState { .. }));
        assert!(repeated.is_none() || is_exempt, "{repeated:?}\n{first:#?}\n{view:#?}");
    }
}
