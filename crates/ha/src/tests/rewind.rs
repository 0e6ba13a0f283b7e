//! 6.G: rewind, timelines, crash recovery.

use std::time::Duration;

use bellwether_types::{Lsn, Role, TimelineId, TimelineSwitch, Timestamp};

use crate::{
    Action,
    action::{Earlier, StartRole, StopMode},
    memory::{Checkpoint, RewindState},
    testing::{self, NOW, POSITION, Scene, leader, orphan, replica},
    view::{ControlState, DataDirectory, Divergence, JobKind, JobOutcome},
};

const FORK: Lsn = Lsn(POSITION.0 - 0x1000);

fn rewindable(scene: Scene) -> Scene {
    scene.settings(|settings| settings.use_pg_rewind = true)
}

/// A member that must find out whether it has diverged from `a`, which is on timeline 2.
fn in_doubt(scene: Scene) -> Scene {
    rewindable(scene).memory(|memory| memory.rewind = RewindState::Check { since: NOW })
}

fn fork(timeline: u32, end: Lsn) -> TimelineSwitch {
    TimelineSwitch { timeline: TimelineId(timeline), end, reason: String::new() }
}

fn needs_rewind(change: impl FnOnce(&mut Divergence)) -> Option<bool> {
    let scene = replica().divergence(|found| {
        found.leader_timeline = TimelineId(2);
        found.leader_history = vec![fork(1, FORK)];
        found.local_lsn = FORK;
        change(found);
    });
    crate::rewind::verdict(scene.view.postgres.divergence.as_ref().unwrap())
}

#[test]
fn g1_no_verdict_and_no_rewind_before_the_leader_is_a_real_primary() {
    assert_eq!(needs_rewind(|found| found.leader_is_primary = false), None);
    let needed = || rewindable(replica()).memory(|memory| memory.rewind = RewindState::Need);
    let early = needed().member("a", |member| member.checkpoint_after_promote = Some(false)).decide();
    assert_eq!(early.code(), "rewind_waits_for_checkpoint");
    assert_eq!(early.deeds(), Vec::<&Action>::new());
    let promoting = needed().member("a", |member| member.role = Some(Role::Promoted)).decide();
    assert_eq!(promoting.code(), "rewind_waits_for_checkpoint");
    let ready = needed().decide();
    assert_eq!(ready.code(), "rewind");
    assert!(matches!(ready.deeds()[..], [Action::Rewind { .. }]));
}

#[test]
fn g2_the_first_checkpoint_after_a_promotion_is_asked_for_and_published() {
    let promoted = || leader().memory(|memory| memory.checkpoint_after_promote = Checkpoint::Wanted);
    let decision = promoted().decide();
    assert!(decision.actions.contains(&Action::Checkpoint), "{decision:#?}");
    let is_pending = |scene: Scene| {
        scene.decide().actions.iter().find_map(|action| match action {
            Action::PublishMember { member } => Some(member.checkpoint_pending),
            _ => None,
        })
    };
    assert_eq!(is_pending(promoted()), Some(true));
    let running = promoted().after(&decision).job(JobKind::Checkpoint).later(Duration::from_secs(1));
    assert_eq!(is_pending(running.clone().lease(testing::held(NOW + Duration::from_secs(1)))), Some(true));
    let done = running.ended(JobKind::Checkpoint, JobOutcome::Succeeded);
    let done = done.lease(testing::held(NOW + Duration::from_secs(1)));
    assert_eq!(is_pending(done), Some(false));
}

#[test]
fn g2_a_checkpoint_from_before_a_demotion_counts_for_nothing() {
    let stale = leader()
        .memory(|memory| memory.checkpoint_after_promote = Checkpoint::Running)
        .ended(JobKind::Checkpoint, JobOutcome::Succeeded)
        .rejected()
        .decide();
    assert_eq!(stale.memory.checkpoint_after_promote, Checkpoint::None);
}

#[test]
fn g4_a_timeline_that_the_leader_never_heard_of_means_rewind() {
    assert_eq!(needs_rewind(|found| found.leader_history = vec![fork(2, FORK)]), Some(true));
    assert_eq!(needs_rewind(|found| found.local_timeline = TimelineId(3)), Some(true));
    assert_eq!(needs_rewind(|found| found.local_timeline = TimelineId(2)), Some(false));
    assert_eq!(needs_rewind(|found| found.leader_history.clear()), None, "the history could not be read");
}

#[test]
fn two_timelines_of_one_number_are_told_apart_by_where_they_began() {
    let other = Lsn(FORK.0 - 0x80);
    let doubled = |mine| {
        move |found: &mut Divergence| {
            found.local_timeline = TimelineId(2);
            found.local_history = vec![fork(1, mine)];
        }
    };
    assert_eq!(needs_rewind(doubled(other)), Some(true));
    assert_eq!(needs_rewind(doubled(FORK)), Some(false));

    let scene = |remove: bool| {
        in_doubt(replica())
            .stopped()
            .divergence(|found| {
                found.leader_timeline = TimelineId(2);
                found.leader_history = vec![fork(1, FORK)];
                doubled(other)(found);
            })
            .settings(move |settings| settings.remove_data_directory_on_diverged_timelines = remove)
    };
    let forbidden = scene(false).decide();
    assert_eq!(forbidden.code(), "diverged_beyond_rewind");
    assert!(forbidden.deeds().is_empty(), "it stays down: {forbidden:#?}");
    let allowed = scene(true).decide();
    assert!(matches!(allowed.deeds()[..], [Action::WipeDataDirectory { .. }]), "{allowed:#?}");
}

#[test]
fn g5_the_end_of_the_shutdown_checkpoint_decides_for_a_former_primary() {
    for (case, was_primary, lsn, end, expected) in [
        ("a standby at the fork", false, FORK, None, false),
        ("a standby one byte beyond", false, Lsn(FORK.0 + 1), None, true),
        ("a primary whose last record ends at the fork", true, Lsn(FORK.0 - 0x70), Some(FORK), false),
        ("a primary whose last record ends elsewhere", true, Lsn(FORK.0 - 0x70), Some(Lsn(FORK.0 + 8)), true),
        ("G6: a primary whose last record cannot be read", true, Lsn(FORK.0 - 0x70), None, true),
        ("a primary that wrote at the fork", true, FORK, Some(FORK), true),
    ] {
        let found = needs_rewind(|found| {
            found.local_was_primary = was_primary;
            found.local_lsn = lsn;
            found.shutdown_checkpoint_end = end;
        });
        assert_eq!(found, Some(expected), "{case}");
    }
}

#[test]
fn g5_a_stopped_member_in_doubt_asks_before_it_starts() {
    let asking = in_doubt(replica().stopped()).decide();
    assert!(matches!(asking.deeds()[..], [Action::CheckDivergence { .. }]), "{asking:#?}");
    let diverged =
        in_doubt(replica().stopped()).divergence(|found| found.local_timeline = TimelineId(9)).decide();
    assert_eq!(diverged.code(), "rewind", "{diverged:#?}");
    let fine = in_doubt(replica().stopped()).divergence(|_| ()).decide();
    assert_eq!(fine.code(), "starting_secondary");
    let old = in_doubt(replica().stopped()).divergence(|found| {
        found.checked_at = Timestamp::from_millis(1);
        found.local_timeline = TimelineId(9);
    });
    assert_eq!(old.decide().code(), "checking_divergence", "an old answer does not count");
}

#[test]
fn g7_a_rising_timeline_of_the_same_leader_is_noticed() {
    let same = rewindable(replica());
    assert_eq!(same.decide().memory.rewind, RewindState::Initial);
    let risen = same.member("a", |member| member.timeline = Some(TimelineId(2))).decide();
    assert!(
        risen.actions.iter().any(|action| matches!(action, Action::CheckDivergence { .. })),
        "{risen:#?}"
    );
    assert_eq!(risen.code(), "secondary_following", "following goes on meanwhile");
}

#[test]
fn g8_divergence_is_checked_again_when_the_ground_shifts() {
    let checks = |scene: Scene| {
        rewindable(scene)
            .decide()
            .actions
            .iter()
            .any(|action| matches!(action, Action::CheckDivergence { .. }))
    };
    assert!(!checks(replica()));
    assert!(checks(replica().leader_is("c")), "another leader");
    assert!(checks(replica().memory(|memory| memory.followed = None)), "first attach");
    assert!(checks(replica().memory(|memory| memory.was_paused = true)), "after a pause");
    let demoted = leader().rejected().decide();
    assert!(matches!(demoted.memory.rewind, RewindState::Check { .. }), "on any demotion");
    assert!(
        !replica()
            .leader_is("c")
            .decide()
            .actions
            .iter()
            .any(|a| matches!(a, Action::CheckDivergence { .. })),
        "nothing could be done about it"
    );
}

fn after_rewind(
    source_unreachable: bool,
    permit: impl FnOnce(&mut bellwether_types::settings::Settings),
) -> Scene {
    let outcome = JobOutcome::Failed { why: "no".to_owned(), source_unreachable };
    rewindable(replica().stopped())
        .settings(permit)
        .memory(|memory| memory.rewind = RewindState::Need)
        .ended(JobKind::Rewind, outcome)
}

#[test]
fn g10_a_rewind_that_did_not_reach_its_source_is_repeated() {
    let scene = after_rewind(true, |settings| settings.remove_data_directory_on_rewind_failure = true);
    assert_eq!(scene.decide().code(), "waiting_to_retry");
    assert_eq!(scene.later(Duration::from_millis(1001)).decide().code(), "rewind");
}

#[test]
fn g10_data_are_wiped_only_with_permission() {
    let forbidden = after_rewind(false, |_| ()).decide();
    assert!(forbidden.says("diverged_without_remedy"), "{forbidden:#?}");
    assert!(!forbidden.actions.iter().any(|action| matches!(action, Action::WipeDataDirectory { .. })));
    let allowed =
        after_rewind(false, |settings| settings.remove_data_directory_on_rewind_failure = true).decide();
    assert_eq!(allowed.code(), "reinitializing_failed_rewind");
    assert!(matches!(allowed.deeds()[..], [Action::WipeDataDirectory { .. }]), "{allowed:#?}");
}

#[test]
fn g10_a_diverged_member_that_cannot_rewind_is_stopped_before_it_is_wiped() {
    let running = replica()
        .settings(|settings| settings.remove_data_directory_on_diverged_timelines = true)
        .memory(|memory| memory.rewind = RewindState::Need);
    let decision = running.decide();
    assert_eq!(decision.code(), "reinitializing_diverged");
    assert_eq!(decision.deeds(), [&Action::Stop { mode: StopMode::Fast }]);
}

#[test]
fn g11_a_crashed_primary_is_recovered_once_before_it_is_rewound() {
    let crashed = || rewindable(leader()).crashed().leader_is("b").lease(crate::view::LeaseView::NotHeld);
    let first = crashed().decide();
    assert_eq!(first.code(), "crash_recovery");
    assert!(first.actions.contains(&Action::CrashRecovery));
    let again = crashed().after(&first).ended(JobKind::CrashRecovery, JobOutcome::Succeeded).decide();
    assert!(!again.actions.contains(&Action::CrashRecovery), "{again:#?}");
    for version in [130_016, 150_008] {
        let with_label = crashed().view(|view| {
            view.postgres.server_version = version;
            view.postgres.control.as_mut().unwrap().has_backup_label = true;
        });
        assert!(!with_label.decide().actions.contains(&Action::CrashRecovery), "{version}");
    }
    let hopeless = crashed().settings(|settings| settings.use_pg_rewind = false).decide();
    assert!(!hopeless.actions.contains(&Action::CrashRecovery), "{hopeless:#?}");
}

#[test]
fn g11_a_crashed_standby_is_recovered_only_if_a_rewind_demands_it() {
    let crashed = || rewindable(replica()).crashed();
    assert!(!crashed().decide().actions.contains(&Action::CrashRecovery));
    let needed = crashed().memory(|memory| memory.rewind = RewindState::Need).decide();
    assert!(needed.actions.contains(&Action::CrashRecovery), "{needed:#?}");
    assert_eq!(crashed().view.postgres.control.unwrap().state, ControlState::InArchiveRecovery);
}

#[test]
fn g15_a_finished_rewind_is_forgotten_once_the_server_runs() {
    let scene = rewindable(replica())
        .memory(|memory| {
            memory.rewind = RewindState::Success;
            memory.recovering = true;
            memory.start_wanted = true;
        })
        .ended(JobKind::Start, JobOutcome::Succeeded);
    let decision = scene.decide();
    assert_eq!(decision.memory.rewind, RewindState::Initial);
    assert!(!decision.memory.start_wanted, "or a server stopped by hand would be started in pause");
}

#[test]
fn a_rewound_member_starts_behind_the_leader() {
    let scene = rewindable(replica().stopped()).memory(|memory| memory.rewind = RewindState::Need);
    let decision = scene.ended(JobKind::Rewind, JobOutcome::Succeeded).decide();
    let expected = StartRole::Standby { upstream: Some(testing::upstream("a", "b")) };
    assert!(decision.actions.contains(&Action::Start { role: expected }), "{decision:#?}");
}

#[test]
fn a_comparison_does_not_hold_a_race_up() {
    let decision = rewindable(orphan()).job(JobKind::CheckDivergence).decide();
    assert!(
        decision.actions.contains(&Action::CancelJob { kind: JobKind::CheckDivergence }),
        "{decision:#?}"
    );
}

#[test]
fn an_interrupted_rewind_is_repeated_and_never_started() {
    let torn = |settings: fn(&mut bellwether_types::settings::Settings)| {
        rewindable(replica()).stopped().settings(settings).view(|view| {
            view.postgres.data = DataDirectory::Interrupted { by: JobKind::Rewind };
            view.postgres.control.as_mut().unwrap().state = ControlState::InArchiveRecovery;
        })
    };
    let again = torn(|_| {}).decide();
    assert!(matches!(again.deeds()[..], [Action::Rewind { .. }]), "no recovery of a mixture: {again:#?}");
    let nobody = torn(|_| {}).without_leader().decide();
    assert_eq!(nobody.code(), "rewind_interrupted");
    assert!(nobody.deeds().is_empty(), "{nobody:#?}");

    let failed = JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false };
    let hopeless =
        torn(|_| {}).memory(|memory| memory.rewind = RewindState::Failed).ended(JobKind::Rewind, failed);
    let stays_down = hopeless.clone().without_leader().decide();
    assert_eq!(stays_down.code(), "rewind_interrupted");
    assert!(stays_down.deeds().is_empty(), "nobody to copy from: {stays_down:#?}");
    let copied =
        hopeless.settings(|settings| settings.remove_data_directory_on_rewind_failure = true).decide();
    assert!(matches!(copied.deeds()[..], [Action::WipeDataDirectory { .. }]), "{copied:#?}");
}

/// Nothing can be started on it and nothing but a copy helps; but what only this member has written may be missed.
#[test]
fn a_mixture_that_cannot_be_rewound_is_kept_aside_and_the_leader_copied() {
    let keep = Action::SetDataDirectoryAside { earlier: Earlier::Keep };
    let failed = |source_unreachable| JobOutcome::Failed { why: "no".to_owned(), source_unreachable };
    let mixture = |source_unreachable| {
        rewindable(replica())
            .stopped()
            .view(|view| view.postgres.data = DataDirectory::Interrupted { by: JobKind::Rewind })
            .memory(|memory| memory.rewind = RewindState::Need)
            .ended(JobKind::Rewind, failed(source_unreachable))
    };
    let aside = mixture(false).decide();
    assert_eq!(aside.code(), "setting_rewind_aside");
    assert_eq!(aside.deeds(), [&keep]);
    assert_eq!(mixture(true).decide().code(), "waiting_to_retry", "the source may come back");

    let renamed = mixture(false).after(&aside).view(|view| view.postgres.data = DataDirectory::Missing);
    let copied = renamed.decide();
    assert!(matches!(copied.deeds()[..], [Action::SetRole { .. }, Action::Clone { .. }]), "{copied:#?}");
    assert_eq!(copied.memory.rewind, RewindState::Initial, "nothing is known of the copy");

    let could_not = mixture(false).after(&aside).decide();
    assert!(could_not.deeds().is_empty(), "no other rewind, and not in a hurry: {could_not:#?}");
    assert!(could_not.says("diverged_without_remedy"), "somebody has to look: {could_not:#?}");
    let again = mixture(false).after(&aside).later(Duration::from_secs(60)).decide();
    assert_eq!(again.deeds(), [&keep]);

    let whole = mixture(false).view(|view| view.postgres.data = DataDirectory::Present).decide();
    assert!(whole.says("diverged_without_remedy") && !whole.actions.contains(&keep), "{whole:#?}");
}

#[test]
fn an_interrupted_copy_counts_as_an_empty_directory() {
    let scene = replica()
        .stopped()
        .view(|view| view.postgres.data = DataDirectory::Interrupted { by: JobKind::Clone });
    let decision = scene.decide();
    assert!(decision.actions.iter().any(|action| matches!(action, Action::Clone { .. })), "{decision:#?}");
}

#[test]
fn a_standby_that_receives_nothing_is_compared_again_now_and_then() {
    let deaf = || {
        rewindable(replica()).server(|server| server.streaming = false).memory(|memory| {
            memory.rewind = RewindState::NotNeed;
            memory.jobs.insert(JobKind::CheckDivergence, NOW);
        })
    };
    let doubts = |scene: Scene| matches!(scene.decide().memory.rewind, RewindState::Check { .. });
    assert!(!doubts(deaf().later(Duration::from_secs(4))));
    assert!(doubts(deaf().later(Duration::from_secs(5))));
    assert!(!doubts(deaf().later(Duration::from_secs(5)).server(|server| server.streaming = true)));
    let hopeless = deaf().later(Duration::from_secs(60)).memory(|memory| memory.rewind_failed_at = Some(NOW));
    assert!(!doubts(hopeless), "a rewind that failed stops the server each time it is tried");
}

#[test]
fn nothing_else_begins_while_the_data_directory_is_removed_and_what_is_left_of_it_is_never_started() {
    let permit = |settings: &mut bellwether_types::settings::Settings| {
        settings.remove_data_directory_on_rewind_failure = true;
    };
    let first = after_rewind(false, permit).decide();
    let removing = after_rewind(false, permit).after(&first).job(JobKind::Wipe).decide();
    assert_eq!(removing.deeds(), Vec::<&Action>::new(), "{removing:#?}");
    let left = replica()
        .stopped()
        .view(|view| view.postgres.data = DataDirectory::Interrupted { by: JobKind::Wipe })
        .decide();
    assert!(left.actions.iter().any(|action| matches!(action, Action::Clone { .. })), "{left:#?}");
    let failed = JobOutcome::Failed { why: "busy".to_owned(), source_unreachable: false };
    let again = after_rewind(false, permit)
        .after(&first)
        .ended(JobKind::Wipe, failed)
        .memory(|memory| memory.rewind = RewindState::Failed);
    assert_eq!(again.decide().deeds(), Vec::<&Action>::new(), "not in a hurry");
    assert_eq!(again.later(Duration::from_millis(1_001)).decide().deeds().len(), 1);
}
