//! The way back from a standby cluster: who may be promoted, and by which history.

use std::time::Duration;

use bellwether_types::{
    Lsn, Role, TimelineId, TimelineSwitch,
    settings::{StandbyCluster, SyncMode},
};

use super::{demotion, promotes, releases};
use crate::{
    Action, Decision,
    action::DemoteMode,
    memory::RewindState,
    testing::{self, NOW, POSITION, Scene, orphan, replica, silence, standby_at},
    view::{JobKind, JobOutcome, LocalHistory},
};

const BEHIND: Lsn = Lsn(POSITION.0 - 0x100);

/// `b` leads a cluster that was a standby cluster a moment ago. Before that `a` led, and `c` was its synchronous standby.
fn promoted(mode: SyncMode, quorum: u32) -> Scene {
    replica().holding().sync(mode, "a", &["c"], quorum).memory(|memory| memory.mandate = None)
}

/// The way to the promotion is open; what it needs besides may come first.
fn goes_ahead(decision: &Decision) -> bool {
    assert_ne!(decision.memory.mandate.is_some(), releases(decision), "{decision:#?}");
    decision.memory.mandate.is_some()
}

fn switches(end: Lsn) -> Vec<TimelineSwitch> {
    vec![TimelineSwitch { timeline: TimelineId(1), end, reason: "promoted".to_owned() }]
}

fn on_timeline(scene: Scene, timeline: u32, end: Lsn) -> Scene {
    scene.server(|server| server.timeline = Some(TimelineId(timeline))).view(|view| {
        view.postgres.local_history = Some(LocalHistory {
            timeline: TimelineId(timeline),
            switches: switches(end),
            written_at: "2026-11-22T01:00:00+00:00".to_owned(),
        });
    })
}

#[test]
fn who_came_to_lead_without_an_election_needs_what_an_election_asks_for() {
    for (case, mode, quorum) in [("on", SyncMode::On, 0), ("quorum", SyncMode::Quorum, 1)] {
        let scene = promoted(mode, quorum).server(|server| server.position = BEHIND);
        let decision = scene.answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
        assert!(!promotes(&decision) && releases(&decision), "{case}: {decision:#?}");
        assert_eq!(decision.code(), "led_without_election", "{case}");
    }
    let voters = promoted(SyncMode::Quorum, 1).answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(!promotes(&voters) && voters.says("quorum_unreachable"), "{voters:#?}");
    let unasked = promoted(SyncMode::Quorum, 1).decide();
    assert!(!promotes(&unasked), "{unasked:#?}");
    assert_eq!(unasked.code(), "polling_peers");
}

#[test]
fn who_would_have_won_an_election_is_promoted() {
    let listed =
        replica().holding().sync(SyncMode::On, "a", &["b"], 0).memory(|memory| memory.mandate = None);
    let listed = listed.answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(goes_ahead(&listed), "{listed:#?}");
    let voter = replica().holding().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let voter = voter.memory(|memory| memory.mandate = None);
    let voter = voter.answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
    assert!(goes_ahead(&voter), "{voter:#?}");
    let off = promoted(SyncMode::Off, 0).decide();
    assert!(goes_ahead(&off), "nothing was promised: {off:#?}");
}

#[test]
fn a_branch_that_was_given_up_does_not_come_back_by_a_standby_cluster() {
    let scene = replica().holding().history(2).memory(|memory| memory.mandate = None);
    let decision = scene.decide();
    assert!(!promotes(&decision) && releases(&decision), "its WAL ends behind its timeline: {decision:#?}");
    assert!(decision.says("timeline_behind"), "{decision:#?}");
    // The position that it published would keep everybody else from leading, who cannot have that WAL.
    let released = decision.actions.iter().find_map(|action| match action {
        Action::ReleaseLease { optime } => *optime,
        _ => None,
    });
    let end = replica().history(2).cluster.history.unwrap().value.0[0].end;
    assert_eq!(released, Some(end));
}

#[test]
fn an_election_and_the_lock_of_a_primary_are_enough() {
    let silent = || promoted(SyncMode::On, 0);
    let elected = silent().memory(|memory| memory.racing = true).decide();
    assert!(goes_ahead(&elected), "{elected:#?}");
    let resumed = silent().memory(|memory| (memory.racing, memory.claimed) = (true, None)).decide();
    assert!(!goes_ahead(&resumed), "a lock taken in a standby cluster comes without a number: {resumed:#?}");
    let primary = testing::leader().memory(|memory| memory.mandate = None).decide();
    assert!(primary.memory.mandate.is_some(), "{primary:#?}");
}

#[test]
fn wal_of_the_other_clusters_later_timeline_has_all_that_was_not_given_up() {
    let at = |timeline| on_timeline(promoted(SyncMode::On, 0), timeline, BEHIND);
    assert!(goes_ahead(&at(3).decide()), "{:#?}", at(3).decide());
    let taken_here = at(3).claimed(3, "a").decide();
    assert!(!goes_ahead(&taken_here), "that timeline may be this cluster's own: {taken_here:#?}");
    let recorded = at(2).history(2).cluster(|cluster| {
        cluster.history.as_mut().unwrap().value.0[0].end = BEHIND;
    });
    assert!(!goes_ahead(&recorded.decide()), "{:#?}", recorded.decide());
}

#[test]
fn a_server_that_may_be_on_its_way_to_a_primary_is_stopped_first() {
    let scene = promoted(SyncMode::On, 0).view(|view| view.postgres.role = Role::Promoted);
    let decision = scene.decide();
    assert_eq!(demotion(&decision), Some(DemoteMode::Immediate), "{decision:#?}");
    assert!(!releases(&decision));
}

// --- another past ---

fn follows(scene: Scene) -> Scene {
    scene
        .settings(|settings| {
            settings.use_pg_rewind = true;
            settings.standby_cluster =
                Some(StandbyCluster { host: Some("far".to_owned()), ..StandbyCluster::default() });
        })
        .view(|view| view.postgres.role = Role::StandbyLeader)
}

/// `b` leads a standby cluster whose `/history` says that timeline 1 ended early; its own did not.
fn with_other_past() -> Scene {
    let known = |cluster: &mut bellwether_types::cluster::Cluster| {
        let history = cluster.history.as_mut().unwrap();
        history.value.0[0].end = Lsn(0x300_0000);
    };
    on_timeline(follows(replica().holding().history(2)), 2, BEHIND)
        .sync(SyncMode::On, "a", &["c"], 0)
        .cluster(known)
}

fn compared(scene: Scene) -> Scene {
    scene.divergence(|found| {
        found.leader = testing::name("remote_member");
        (found.leader_timeline, found.local_timeline) = (TimelineId(2), TimelineId(2));
        (found.leader_history, found.local_history) = (switches(BEHIND), switches(BEHIND));
    })
}

fn written(scene: &Scene) -> Option<Vec<(u32, Lsn)>> {
    scene.decide().actions.iter().find_map(|action| match action {
        Action::WriteHistory { history } => {
            Some(history.0.iter().map(|entry| (entry.timeline.0, entry.end)).collect())
        }
        _ => None,
    })
}

#[test]
fn a_standby_leader_replaces_a_history_that_is_not_its_own() {
    let asks = with_other_past().decide();
    assert!(asks.actions.iter().any(|action| matches!(action, Action::CheckDivergence { .. })), "{asks:#?}");
    assert_eq!(written(&with_other_past()), None, "nobody has said which past is the right one");
    let scene = compared(with_other_past());
    assert_eq!(written(&scene), Some(vec![(1, BEHIND)]), "{:#?}", scene.decide());
    let forgets = |action: &Action| matches!(action, Action::DeleteSync { .. });
    assert!(scene.decide().actions.iter().any(forgets), "{:#?}", scene.decide());
    let old = compared(with_other_past()).later(Duration::from_secs(61));
    assert_eq!(written(&old.lease(testing::held(NOW + Duration::from_secs(61)))), None, "too long ago");
    let diverged = compared(with_other_past()).view(|view| {
        view.postgres.divergence.as_mut().unwrap().leader_history = switches(POSITION);
    });
    assert_eq!(written(&diverged), None);
    let same = compared(with_other_past()).cluster(|cluster| {
        cluster.history.as_mut().unwrap().value.0[0].end = BEHIND;
    });
    assert_eq!(written(&same), None, "{:#?}", same.decide());
    assert!(!same.decide().actions.iter().any(forgets));
}

#[test]
fn after_that_the_promoted_cluster_elects_somebody_whose_leader_died_early() {
    let race = |end: Lsn| {
        let scene = on_timeline(orphan().history(2), 2, BEHIND);
        let scene = scene.cluster(|cluster| cluster.history.as_mut().unwrap().value.0[0].end = end);
        super::acquires(&scene.answers(&[("a", silence()), ("c", silence())]).decide())
    };
    assert!(race(BEHIND));
    assert!(!race(Lsn(0x300_0000)));
}

#[test]
fn who_cannot_follow_the_remote_member_gives_the_lock_up_and_can_be_copied_from_it() {
    let beyond = |scene: Scene| {
        scene.memory(|memory| memory.rewind = RewindState::Need).divergence(|found| {
            found.leader = testing::name("remote_member");
            (found.leader_timeline, found.local_timeline) = (TimelineId(2), TimelineId(2));
            (found.leader_history, found.local_history) = (switches(BEHIND), switches(POSITION));
        })
    };
    let running = beyond(follows(replica().holding())).decide();
    assert_eq!(running.code(), "diverged_from_remote");
    assert!(running.actions.iter().any(|action| matches!(action, Action::Stop { .. })), "{running:#?}");
    assert!(!releases(&running), "stopped first");
    let stopped = beyond(follows(replica().holding().stopped())).ended(JobKind::Stop, JobOutcome::Succeeded);
    let stopped = stopped.decide();
    assert!(releases(&stopped), "{stopped:#?}");
    let without_leader = beyond(follows(orphan().stopped()));
    assert!(without_leader.decide().says("diverged_from_remote"));
    let asked = crate::view::RequestKind::Reinitialize { force: false, from_leader: false };
    let copied = without_leader.asked(asked).decide();
    let from_remote = |action: &Action| match action {
        Action::Reinitialize { from, .. } | Action::Clone { from: Some(from) } => from.is_remote,
        _ => false,
    };
    assert!(copied.actions.iter().any(from_remote), "{copied:#?}");
    let empty = follows(orphan().empty()).decide();
    assert!(empty.actions.iter().any(from_remote), "{empty:#?}");
}
