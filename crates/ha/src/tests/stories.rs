//! Whole procedures of one member: decide, let every action have its effect, decide again, until nothing is left to do.
//!
//! They show that the steps follow from what is seen alone, in the right order, and that each procedure comes to an end.

mod telling;

use bellwether_types::{Lsn, Role, cluster::Status};

use self::telling::{Story, told};
use crate::{
    testing::{self, POSITION, Scene, leader, newcomer, orphan, replica, silence},
    view::{DataDirectory, Guardian, JobKind, JobOutcome, JobPhase, LeaseView, Process, RequestKind},
};

#[test]
fn a_failover() {
    let story = Story::of(orphan()).answering("a", silence()).run();
    assert_eq!(
        told(&story),
        ["PollPeers", "AcquireLease", "ArmGuardian", "Promote", "Checkpoint", "WriteHistory"]
    );
    assert_eq!(story.scene.view.postgres.role, Role::Primary);
}

#[test]
fn a_cluster_from_nothing() {
    let story = Story::of(newcomer()).run();
    assert_eq!(
        told(&story),
        [
            "ClaimInitialize",
            "Bootstrap",
            "PostBootstrap",
            "WriteInitialize",
            "WriteConfig",
            "ArmGuardian",
            "AcquireLease",
            "FinishBootstrap"
        ]
    );
    assert_eq!(story.scene.decide().code(), "leader_with_the_lock");
}

#[test]
fn a_new_member() {
    let story = Story::of(replica().empty()).run();
    assert_eq!(told(&story), ["Clone", "Start"]);
    assert_eq!(story.scene.decide().code(), "secondary_following");
}

#[test]
fn a_crash_of_the_primary() {
    let story = Story::of(leader().crashed()).run();
    assert_eq!(told(&story), ["Start"]);
    assert_eq!(story.scene.decide().code(), "leader_with_the_lock");
}

#[test]
fn a_deposed_leader_rewinds_and_follows() {
    let mut story =
        Story::of(leader().rejected().leader_is("b").settings(|settings| settings.use_pg_rewind = true));
    story.scene = story.scene.member("b", |member| member.role = Some(Role::Primary));
    story.diverged = true;
    let story = story.run();
    assert_eq!(
        told(&story),
        ["Demote", "DisarmGuardian", "CheckDivergence", "Rewind", "Start", "CheckDivergence"]
    );
    assert_eq!(story.scene.decide().code(), "secondary_following");
}

#[test]
fn a_switchover_seen_by_the_leader() {
    let mut story = Story::of(leader().request(Some("a"), Some("b")));
    while !story.deeds.iter().any(|deed| deed == "Demote") {
        story.step();
    }
    // The stop is under way again, its checkpoint on disk, and the candidate has it.
    story.scene.view.memory.demoting = Some(crate::memory::Demoting {
        mode: crate::action::DemoteMode::Graceful,
        since: story.scene.view.now,
    });
    let phase = JobPhase::ShutdownCheckpoint { checkpoint: POSITION, end: POSITION };
    story.scene = story.scene.job_in(JobKind::Demote, phase);
    for _ in 0..3 {
        story.step();
    }
    assert_eq!(told(&story), ["PollPeers", "Demote", "PollPeers", "ReleaseLease"]);
    // Ended; the candidate leads.
    story.scene = story.scene.ended(JobKind::Demote, JobOutcome::Succeeded).leader_is("b");
    let story = story.run();
    assert_eq!(told(&story)[4..], ["DisarmGuardian", "Start"]);
    assert_eq!(story.scene.view.postgres.upstream, Some(testing::upstream("b", "a")));
}

#[test]
fn a_switchover_seen_by_the_candidate() {
    let asked = replica().unlocked().request(Some("a"), Some("b"));
    let story = Story::of(asked).run();
    assert_eq!(
        told(&story),
        [
            "PollPeers",
            "AcquireLease",
            "WriteFailover",
            "ArmGuardian",
            "Promote",
            "Checkpoint",
            "WriteHistory"
        ]
    );
}

#[test]
fn a_restart_of_the_agent_on_a_running_primary() {
    let adopted = leader().lease(LeaseView::NotHeld).memory(|memory| *memory = crate::Memory::default());
    let story = Story::of(adopted.view(|view| view.fencing.guardian = Guardian::Ready)).run();
    assert_eq!(told(&story), ["ResumeLease", "ArmGuardian"]);
}

#[test]
fn a_start_of_the_whole_cluster() {
    let cold = |me: &str| {
        Scene::of(me)
            .unlocked()
            .stopped()
            .lease(LeaseView::NotHeld)
            .memory(|memory| *memory = crate::Memory::default())
    };
    let standby = Story::of(cold("b")).run();
    assert_eq!(
        told(&standby),
        ["Start", "PollPeers", "AcquireLease", "ArmGuardian", "Promote", "Checkpoint", "WriteHistory"]
    );
    let former = cold("a").view(|view| {
        view.postgres.role = Role::Demoted;
        view.fencing.guardian = Guardian::Ready;
    });
    let former = Story::of(former).run();
    assert_eq!(told(&former).first(), Some(&"Start"));
    assert_eq!(former.scene.decide().code(), "leader_with_the_lock");
}

#[test]
fn a_reinitialization() {
    let kind = RequestKind::Reinitialize { force: false, from_leader: true };
    let story = Story::of(replica().asked(kind)).run();
    assert_eq!(told(&story), ["Answer", "Reinitialize", "Start"]);
}

#[test]
fn a_shutdown_of_the_leader() {
    let mut story = Story::of(leader().view(|view| view.stopping = true));
    for _ in 0..3 {
        story.step();
    }
    assert_eq!(told(&story)[..4], ["Stop", "ReleaseLease", "DisarmGuardian", "Exit"], "{:?}", story.deeds);
}

#[test]
fn a_data_directory_that_is_lost_is_cloned_again() {
    let lost = leader().view(|view| view.postgres.data = DataDirectory::Empty);
    let mut story = Story::of(lost);
    story.step();
    assert_eq!(told(&story), ["Stop"]);
    story.scene = story.scene.empty();
    story.step();
    assert_eq!(told(&story), ["Stop", "ReleaseLease"]);
    story.scene = story.scene.leader_is("b");
    let story = story.run();
    assert_eq!(told(&story)[2..], ["DisarmGuardian", "Clone", "Start"]);
    assert!(matches!(story.scene.view.postgres.process, Process::Running { .. }));
}

#[test]
fn the_status_of_a_leader_follows_its_position() {
    let mut story = Story::of(leader());
    story.scene = story.scene.server(|server| server.position = Lsn(POSITION.0 + 64));
    for _ in 0..3 {
        story.step();
    }
    let status: &Status = &story.scene.cluster.status.as_ref().expect("a status").value;
    assert_eq!(status.optime, Lsn(POSITION.0 + 64));
}
