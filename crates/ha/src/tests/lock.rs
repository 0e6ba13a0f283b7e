//! 6.A: the leader lock and split brain.

use std::time::Duration;

use bellwether_types::{
    MemberName, Role, Timestamp,
    cluster::{ConfigDocument, Initialize, Keyed},
};

use super::{acquires, demotion, promotes, releases};
use crate::{
    Action,
    action::{Answer, DemoteMode, Exit, StartRole, StopMode},
    testing::{self, NOW, Scene, leader, newcomer, orphan, replica, standby, standby_at},
    view::{
        DataDirectory, Guardian, JobKind, JobOutcome, JobPhase, LeaseView, PeerAnswer, PeerReport, Process,
        RequestKind,
    },
};

const NO_LOCK: Option<DemoteMode> = Some(DemoteMode::ImmediateNoLock);

#[test]
fn a1_a_rejected_renewal_stops_at_once_without_release() {
    let decision = leader().rejected().settings(|settings| settings.failsafe_mode = true).decide();
    assert_eq!(decision.code(), "renewal_rejected");
    assert_eq!(demotion(&decision), NO_LOCK);
    assert!(!releases(&decision), "{decision:#?}");
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::AskFailsafe { .. })));
}

#[test]
fn a1_writes_end_when_the_lease_does() {
    let LeaseView::Held { until, demote_at, .. } = testing::held(NOW) else { unreachable!() };
    let at =
        |now: Timestamp| leader().view(|view| view.now = now).silent_for(Duration::from_millis(1)).decide();
    assert_eq!(demotion(&at(demote_at.saturating_sub(Duration::from_millis(1)))), None);
    let decision = at(demote_at);
    assert_eq!(demotion(&decision), Some(DemoteMode::Offline { stop_by: until }));
    assert_eq!(decision.code(), "lease_running_out");
}

#[test]
fn a2_an_unanswered_renewal_is_no_refusal() {
    let decision = leader().silent_for(Duration::from_secs(1)).decide();
    assert_eq!(demotion(&decision), None, "{decision:#?}");
    assert_eq!(decision.code(), "leader_with_the_lock");
}

#[test]
fn a2_a_silent_store_alone_does_not_stop_a_leader_whose_lease_holds() {
    let decision = leader().silent_for(Duration::from_secs(3)).decide();
    assert_eq!(demotion(&decision), None, "{decision:#?}");
    assert_eq!(decision.code(), "store_unreachable");
}

#[test]
fn a3_a_name_in_a_snapshot_is_no_lock() {
    for scene in [leader().lease(LeaseView::NotHeld), replica().leader_is("b")] {
        let decision = scene.decide();
        assert_eq!(decision.code(), "resuming_lock");
        assert!(!promotes(&decision), "{decision:#?}");
    }
}

#[test]
fn a3_an_expired_lease_is_none() {
    let scene = replica().holding().view(|view| {
        view.now = view.now + Duration::from_secs(5);
        view.store.confirmed_at = view.now;
    });
    assert!(!promotes(&scene.decide()));
}

#[test]
fn a5_a_replica_whose_renewal_was_refused_does_not_promote() {
    let decision = replica().leader_is("b").rejected().decide();
    assert_eq!(decision.code(), "not_promoting_without_renewal");
    assert_eq!(decision.deeds(), Vec::<&Action>::new());
}

#[test]
fn a6_a_primary_that_slept_through_a_promotion_does_not_take_the_lock() {
    let slept = || leader().unlocked().lease(LeaseView::NotHeld).history(2);
    let decision = slept().decide();
    assert!(decision.says("timeline_behind"), "{decision:#?}");
    assert_eq!(demotion(&decision), NO_LOCK);
    let awake = slept().server(|server| server.timeline = Some(bellwether_types::TimelineId(2)));
    let awake = awake.answers(&[("b", standby_at(testing::POSITION)), ("c", testing::silence())]);
    assert!(acquires(&awake.decide()));
}

#[test]
fn a7_a_reachable_primary_has_a_veto_whatever_its_lag() {
    let primary = PeerAnswer::Answered(PeerReport {
        is_running_primary: true,
        position: Some(bellwether_types::Lsn(1)),
        ..standby()
    });
    let candidate = || orphan().request(None, Some("b"));
    for (case, scene) in [("race", orphan()), ("requested candidate", candidate())] {
        let vetoed = scene.clone().answers(&[("a", primary.clone()), ("c", standby_at(testing::POSITION))]);
        let decision = vetoed.decide();
        assert!(decision.says("primary_alive") && !acquires(&decision), "{case}: {decision:#?}");
        let free = scene.answers(&[("a", testing::silence()), ("c", standby_at(testing::POSITION))]);
        assert!(acquires(&free.decide()), "{case}");
    }
}

#[test]
fn a9_data_of_another_cluster_neither_follow_nor_lead() {
    let foreign = |scene: Scene| {
        scene.cluster(|cluster| {
            cluster.initialize = Some(Keyed {
                value: Initialize::Done("7000000000000000001".parse().unwrap()),
                revision: 2.into_revision(),
            });
        })
    };
    for scene in [replica(), orphan(), replica().stopped()] {
        let decision = foreign(scene).decide();
        assert_eq!(decision.code(), "system_id_mismatch");
        assert!(
            matches!(decision.deeds()[..], [Action::Exit { exit: Exit::ForeignSystemId { .. } }]),
            "{decision:#?}"
        );
    }
}

trait IntoRevision {
    fn into_revision(self) -> bellwether_types::Revision;
}

impl IntoRevision for u64 {
    fn into_revision(self) -> bellwether_types::Revision {
        bellwether_types::Revision(self)
    }
}

#[test]
fn a10_an_unreadable_identity_is_no_mismatch() {
    let decision = replica().stopped().view(|view| view.postgres.system_id = None).decide();
    assert_eq!(decision.code(), "system_id_invalid");
    assert_eq!(decision.deeds(), Vec::<&Action>::new());
}

#[test]
fn a11_a_replica_never_gives_a_cluster_its_identity() {
    let wiped = |scene: Scene| scene.cluster(|cluster| cluster.initialize = None);
    let first = wiped(orphan()).memory(|memory| memory.callback_fired = false).decide();
    assert_eq!(first.code(), "replica_without_initialize");
    assert!(matches!(first.deeds()[..], [Action::Exit { exit: Exit::ReplicaWithoutCluster }]));

    let later =
        wiped(orphan()).answers(&[("a", testing::silence()), ("c", standby_at(testing::POSITION))]).decide();
    assert!(later.says("no_initialize_key") && !acquires(&later), "{later:#?}");

    // What is copied from elsewhere, and stays a copy, may say what it is a copy of.
    let standby_cluster =
        |scene: Scene| scene.settings(|settings| settings.standby_cluster = Some(Default::default()));
    let copy = standby_cluster(wiped(orphan()).memory(|memory| memory.callback_fired = false)).decide();
    assert!(copy.actions.contains(&Action::WriteInitialize { expect: None }), "{copy:#?}");

    let holder = wiped(replica().holding()).decide();
    assert!(
        !holder.actions.iter().any(|action| matches!(action, Action::WriteInitialize { .. })),
        "{holder:#?}"
    );

    let primary = wiped(leader()).decide();
    assert!(primary.actions.contains(&Action::WriteInitialize { expect: None }), "{primary:#?}");
}

#[test]
fn a12_only_the_leader_restores_a_lost_configuration() {
    let wiped = |scene: Scene| scene.cluster(|cluster| cluster.config = None);
    let writes = |scene: Scene| wiped(scene).decide().actions.contains(&Action::WriteConfig { expect: None });
    assert!(writes(leader()));
    assert!(!writes(replica()) && !writes(orphan()));
    let invalid = leader().cluster(|cluster| {
        cluster.config = Some(Keyed { value: ConfigDocument::Invalid, revision: 9.into_revision() });
    });
    assert!(invalid.decide().actions.contains(&Action::WriteConfig { expect: Some(9.into_revision()) }));
}

#[test]
fn a14_a_server_without_data_is_stopped_and_the_lock_released() {
    let vanished = leader().view(|view| view.postgres.data = DataDirectory::Missing);
    let decision = vanished.clone().decide();
    assert!(decision.actions.contains(&Action::Stop { mode: StopMode::Immediate }), "{decision:#?}");
    assert!(decision.actions.contains(&Action::SetRole { role: Role::Uninitialized }));
    assert!(!releases(&decision), "it may still serve from open files");

    let stopped = vanished.crashed().view(|view| view.postgres.role = Role::Uninitialized).decide();
    assert_eq!(stopped.code(), "released_data_dir_empty");
    assert!(releases(&stopped));
}

#[test]
fn a15_an_unreadable_data_directory_is_an_event() {
    let unreadable = || DataDirectory::Unreadable("Input/output error".to_owned());
    let decision = leader().view(|view| view.postgres.data = unreadable()).crashed().decide();
    assert_eq!(decision.code(), "released_data_dir_unreadable");
    assert!(releases(&decision));
    let decision = replica().view(|view| view.postgres.data = unreadable()).stopped().decide();
    assert_eq!(decision.code(), "data_dir_unreadable");
    assert!(decision.reasons[0].sentence().contains("Input/output error"));
}

#[test]
fn a17_without_an_answer_the_last_known_role_counts() {
    let mute = |scene: Scene| scene.view(|view| view.postgres.server = None);
    assert_eq!(demotion(&mute(leader()).rejected().decide()), NO_LOCK, "a mute primary is still one");
    let busy = mute(leader()).decide();
    assert_eq!(demotion(&busy), None, "{busy:#?}");
    assert_eq!(busy.code(), "postgres_silent");
    assert!(!promotes(&mute(replica().holding()).decide()));
}

#[test]
fn a18_a_demotion_without_store_ends_as_a_standby_of_nobody() {
    let decision = leader()
        .silent_for(Duration::from_secs(9))
        .lease(LeaseView::NotHeld)
        .stopped()
        .view(|view| view.postgres.role = Role::Demoted)
        .memory(|memory| memory.start_wanted = true)
        .decide();
    assert!(
        decision.actions.contains(&Action::Start { role: StartRole::Standby { upstream: None } }),
        "{decision:#?}"
    );
}

#[test]
fn a19_no_second_demotion_while_one_is_on_its_way() {
    let first = leader().rejected().decide();
    let second = leader().rejected().after(&first).job(JobKind::Demote).decide();
    assert_eq!(demotion(&second), None, "{second:#?}");
}

#[test]
fn a19_a_planned_stop_gives_way_to_the_loss_of_the_lock() {
    let planned =
        leader().request(Some("a"), Some("b")).answers(&[("b", standby_at(testing::POSITION))]).decide();
    assert_eq!(demotion(&planned), Some(DemoteMode::Graceful));
    let lost = leader().rejected().after(&planned).job(JobKind::Demote).decide();
    assert_eq!(demotion(&lost), NO_LOCK);
}

#[test]
fn a19_forced_reinitialization_wins_over_what_runs() {
    let asked = |force| {
        let kind = RequestKind::Reinitialize { force, from_leader: true };
        replica().crashed().job(JobKind::CrashRecovery).asked(kind).decide()
    };
    let forced = asked(true);
    assert!(forced.actions.contains(&Action::CancelJob { kind: JobKind::CrashRecovery }), "{forced:#?}");
    assert!(
        asked(false).actions.iter().any(|action| {
            matches!(action, Action::Answer { request: 7, answer: Answer::Refused { .. } })
        })
    );
}

#[test]
fn a20_a_start_as_primary_does_not_survive_the_lock() {
    for lease in [LeaseView::NotHeld, LeaseView::Rejected { at: NOW, good_until: NOW }] {
        let scene = leader().crashed().job(JobKind::Start).lease(lease.clone());
        let decision = scene.decide();
        assert_eq!(demotion(&decision), NO_LOCK, "{lease:?}");
        assert_eq!(decision.code(), "lost_lock_during");
    }
}

#[test]
fn a21_a_promotion_without_the_lock_is_cancelled_or_undone() {
    let lost = |phase| {
        let scene = replica().leader_is("c").job_in(JobKind::Promote, phase);
        scene.decide()
    };
    let before = lost(JobPhase::PrePromote);
    assert_eq!(before.code(), "lost_before_promote");
    assert!(before.actions.contains(&Action::CancelJob { kind: JobKind::Promote }));
    assert_eq!(demotion(&lost(JobPhase::Working)), NO_LOCK);
}

#[test]
fn a22_in_pause_neither_a_refusal_nor_a_lost_lock_stops_anything() {
    let paused = |scene: Scene| scene.settings(|settings| settings.pause = true);
    let refused = paused(leader().rejected().leader_is("b")).decide();
    assert_eq!(refused.code(), "paused_renewal_failed");
    assert_eq!(demotion(&refused), None);
    for job in [JobKind::Promote, JobKind::Restart] {
        let decision = paused(leader().leader_is("b").lease(LeaseView::NotHeld)).job(job.clone()).decide();
        assert_eq!(demotion(&decision), None, "{job:?}");
        assert!(!decision.actions.iter().any(|action| matches!(action, Action::CancelJob { .. })));
    }
}

#[test]
fn a23_in_pause_a_foreign_primary_does_not_take_the_lock_and_does_not_exit() {
    let decision = leader()
        .unlocked()
        .lease(LeaseView::NotHeld)
        .settings(|settings| settings.pause = true)
        .cluster(|cluster| {
            cluster.initialize = Some(Keyed {
                value: Initialize::Done("7000000000000000001".parse().unwrap()),
                revision: 2.into_revision(),
            });
        })
        .decide();
    assert!(!acquires(&decision), "{decision:#?}");
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Exit { .. })));
}

#[test]
fn a24_a_running_primary_without_the_lock_stops_each_time_it_notices() {
    let usurped = || leader().lease(LeaseView::NotHeld).leader_is("b");
    assert_eq!(usurped().decide().code(), "lost_leader_lock");
    assert_eq!(demotion(&usurped().decide()), NO_LOCK);
    let paused = usurped().settings(|settings| settings.pause = true).decide();
    assert_eq!(paused.code(), "paused_primary_without_lock");
    assert_eq!(demotion(&paused), None);
}

#[test]
fn a24_a_later_leader_in_the_store_voids_the_lease() {
    let decision = leader().leader_is("b").decide();
    assert_eq!(demotion(&decision), NO_LOCK, "{decision:#?}");
    let earlier = leader().cluster(|cluster| {
        let leader: &mut bellwether_types::cluster::Leader = cluster.leader.as_mut().unwrap();
        leader.name = MemberName::new("b").unwrap();
        leader.term.0 = 50;
    });
    assert_eq!(demotion(&earlier.decide()), None, "a view older than the lease proves nothing");
}

#[test]
fn a26_a_failed_stop_keeps_key_and_fences() {
    let first = leader().view(|view| view.stopping = true).decide();
    assert!(first.actions.contains(&Action::Stop { mode: StopMode::Fast }));
    let failed = leader()
        .view(|view| view.stopping = true)
        .ended(JobKind::Stop, JobOutcome::Failed { why: "timeout".to_owned(), source_unreachable: false })
        .decide();
    assert_eq!(failed.code(), "shutdown_stop_failed");
    assert!(!releases(&failed));
    assert!(!failed.actions.contains(&Action::DisarmGuardian));
}

#[test]
fn a_failed_demotion_is_repeated_but_not_in_a_hurry() {
    let failed = JobOutcome::Failed { why: "stuck".to_owned(), source_unreachable: false };
    let first = leader().rejected().decide();
    let at_once = leader().rejected().after(&first).ended(JobKind::Demote, failed.clone());
    assert_eq!(demotion(&at_once.decide()), None);
    let soon = at_once.later(Duration::from_millis(600));
    assert_eq!(demotion(&soon.decide()), NO_LOCK);
}

#[test]
fn a_running_primary_is_adopted_by_resuming_its_lock() {
    let adopted = leader().lease(LeaseView::NotHeld).view(|view| view.fencing.guardian = Guardian::Ready);
    let decision = adopted.decide();
    assert!(matches!(decision.deeds()[..], [Action::ResumeLease { .. }]), "{decision:#?}");
    let held = adopted.lease(testing::held(NOW)).after(&decision).decide();
    assert!(matches!(held.deeds()[..], [Action::ArmGuardian { .. }]), "{held:#?}");
}

#[test]
fn nothing_runs_and_nobody_leads_in_an_empty_store() {
    let decision = newcomer().decide();
    assert_eq!(decision.deeds(), [&Action::ClaimInitialize, &Action::Bootstrap]);
    assert_eq!(newcomer().view.postgres.process, Process::NotRunning);
}

/// `a`, a former leader that is told nothing but "demoted", while its PostgreSQL starts from a directory without recovery signal.
fn starting_without_signal() -> Scene {
    leader().stopped().lease(LeaseView::NotHeld).view(|view| {
        view.postgres.role = Role::Demoted;
        view.postgres.process = Process::Starting { since: NOW };
    })
}

#[test]
fn a20_a_server_that_comes_up_as_primary_is_stopped_whatever_its_role_is_called() {
    for (case, scene) in [
        ("another leader", starting_without_signal().leader_is("b")),
        ("a restart without the lock", starting_without_signal().unlocked().job(JobKind::Restart)),
        ("a refused renewal", starting_without_signal().unlocked().rejected()),
    ] {
        assert_eq!(demotion(&scene.decide()), NO_LOCK, "{case}");
    }
    let standby = starting_without_signal().leader_is("b").view(|view| {
        view.postgres.control.as_mut().unwrap().has_recovery_signal = true;
    });
    assert_eq!(demotion(&standby.decide()), None, "a standby may start");
}

#[test]
fn the_lock_is_kept_while_a_stop_has_not_ended_the_server() {
    let demoting = |mode| {
        leader().view(|view| (view.postgres.role, view.postgres.server) = (Role::Demoted, None)).memory(
            |memory| {
                memory.demoting = Some(crate::memory::Demoting { mode, since: NOW });
            },
        )
    };
    let failed = || JobOutcome::Failed { why: "unkillable".to_owned(), source_unreachable: false };
    for mode in [DemoteMode::Immediate, DemoteMode::Graceful] {
        let silent = demoting(mode).decide();
        assert!(!releases(&silent) && demotion(&silent) == Some(mode), "silence is no proof: {silent:#?}");
        let memory = |scene: Scene| {
            scene.memory(|memory| {
                memory.jobs.insert(JobKind::Demote, NOW);
            })
        };
        let scene = memory(demoting(mode)).ended(JobKind::Demote, failed());
        let at_once = scene.decide();
        assert!(!releases(&at_once) && at_once.memory.demoting.is_some(), "{at_once:#?}");
        let again = scene.later(Duration::from_secs(1)).decide();
        assert_eq!(demotion(&again), Some(mode), "{again:#?}");
    }
}
