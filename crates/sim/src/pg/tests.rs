//! The model PostgreSQL behaves like PostgreSQL where decisions depend on it. No agents: the tests are the operator.

use bellwether_ha::view::{ArchiveRecovery, ControlState, Upstream};
use bellwether_types::TimelineId;

use crate::{
    bug::Bug,
    event::HostId,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    trace::Verbosity,
    wal::Pos,
    world::World,
};

const A: HostId = 0;
const B: HostId = 1;
const C: HostId = 2;

/// Three hosts without agents: `a` is primary, `b` and `c` stream from it.
fn cluster() -> World {
    let mut scenario = Scenario::draw(1, Bug::None);
    scenario.members = 3;
    scenario.wal_timeout = 2 * SECONDS;
    scenario.write_interval = 100 * MILLIS;
    scenario.latency = MILLIS / 2;
    let mut world = World::new(scenario, Bug::None, Verbosity::Tail);
    world.pg_initdb(A);
    world.pg_start(A, false).unwrap();
    world.play(3 * SECONDS);
    for host in [B, C] {
        world.pg_cloned(host, A);
        follow(&mut world, host, A);
        world.pg_start(host, true).unwrap();
    }
    world.play(3 * SECONDS);
    assert!(streams(&world, B) && streams(&world, C));
    world
}

impl World {
    /// Lets virtual time pass.
    fn play(&mut self, time: Nanos) {
        let end = self.now + time;
        while let Some((at, _, event)) = self.schedule.pop() {
            if at > end {
                self.schedule.push(at, event);
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }
}

fn follow(world: &mut World, host: HostId, leader: HostId) {
    let upstream = Upstream {
        member: world.names.of(leader).clone(),
        conn_url: world.names.conn_url(leader),
        slot: None,
        is_remote: false,
        archive: ArchiveRecovery::default(),
    };
    world.pg_follow(host, Some(upstream));
}

fn streams(world: &World, host: HostId) -> bool {
    world.hosts[host].pg.server().is_some_and(|server| server.receiver.is_some())
}

fn flushed(world: &World, host: HostId) -> Pos {
    world.hosts[host].pg.data.flushed
}

fn isolate(world: &mut World, host: HostId) {
    for other in (0..3).filter(|other| *other != host) {
        world.network.cut(host, other);
        world.network.cut(other, host);
    }
    world.ways_changed();
}

#[test]
fn a_synchronous_commit_waits_for_the_standbys_and_no_longer() {
    let mut world = cluster();
    world.pg_set_sync_names(A, "ANY 1 (b,c)");
    world.play(4 * SECONDS);
    let before = world.stats.acknowledged;
    world.play(2 * SECONDS);
    assert!(world.stats.acknowledged > before + 5, "both standbys are there");
    assert!(world.can_acknowledge(A));

    isolate(&mut world, A);
    world.play(100 * MILLIS);
    let before = world.stats.acknowledged;
    assert!(!world.can_acknowledge(A), "nobody can acknowledge a commit of an isolated primary");
    world.play(20 * SECONDS);
    assert_eq!(world.stats.acknowledged, before, "commits wait, however long");
    let waiting = world.hosts[A].pg.server().unwrap().waiting.len();
    assert!(waiting > 0);

    world.pg_set_sync_names(A, "");
    world.play(4 * SECONDS);
    assert!(
        world.stats.acknowledged > before,
        "an emptied list releases them as a success: PostgreSQL's leak"
    );
}

#[test]
fn names_hold_from_when_the_checkpointer_has_read_them() {
    let mut world = cluster();
    let acknowledged_in = |world: &mut World, time| {
        let before = world.stats.acknowledged;
        world.play(time);
        world.stats.acknowledged - before
    };
    world.hosts[A].checkpointer_busy = 1;
    world.pg_set_sync_names(A, "nobody");
    world.play(2 * SECONDS);
    assert!(acknowledged_in(&mut world, 2 * SECONDS) > 0, "shown, but nobody waits");
    assert!(!world.is_checkpointer_idle(A));
    world.hosts[A].checkpointer_busy = 0;
    world.play(3 * SECONDS);
    assert!(world.is_checkpointer_idle(A));
    assert_eq!(acknowledged_in(&mut world, 2 * SECONDS), 0);
}

#[test]
fn a_fast_stop_cancels_waiting_commits_without_an_answer() {
    let mut world = cluster();
    world.pg_set_sync_names(A, "ANY 1 (b,c)");
    world.play(4 * SECONDS);
    isolate(&mut world, A);
    world.play(2 * SECONDS);
    let before = world.stats.acknowledged;
    world.pg_stop(A, true);
    world.play(5 * SECONDS);
    assert!(world.hosts[A].pg.is_down());
    assert_eq!(world.stats.acknowledged, before);
}

#[test]
fn a_fast_stop_hands_its_checkpoint_to_the_standbys() {
    let mut world = cluster();
    world.pg_stop(A, true);
    world.play(5 * SECONDS);
    assert!(world.hosts[A].pg.is_down());
    assert_eq!(world.hosts[A].pg.data.control.state, ControlState::ShutDown);
    assert_eq!((flushed(&world, B), flushed(&world, C)), (flushed(&world, A), flushed(&world, A)));
}

#[test]
fn a_crash_loses_what_was_not_flushed_and_nothing_else() {
    let mut world = cluster();
    world.hosts[A].disk_stalls += 1;
    world.play(2 * SECONDS);
    let survived = flushed(&world, A);
    assert!(
        world.hosts[A].pg.server().unwrap().inserted.count > survived.count,
        "the stalled disk holds writes back"
    );
    world.pg_kill(A);
    world.hosts[A].disk_stalls -= 1;
    assert_eq!(flushed(&world, A), survived);
    assert_eq!(world.hosts[A].pg.data.control.state, ControlState::InProduction);
    world.pg_start(A, false).unwrap();
    world.play(4 * SECONDS);
    assert!(world.wal.contains(flushed(&world, A), survived));
    assert_eq!(world.wal.timeline(flushed(&world, A)), TimelineId(1), "the same timeline goes on");
    assert!(streams(&world, B), "no standby had seen what was lost");
}

#[test]
fn a_diverged_standby_cannot_stream_until_it_is_rewound() {
    let mut world = cluster();
    isolate(&mut world, A);
    world.play(3 * SECONDS);
    assert!(world.pg_promote(B, None));
    world.play(2 * SECONDS);
    assert_eq!(world.wal.timeline(flushed(&world, B)), TimelineId(2));
    follow(&mut world, C, B);
    world.play(2 * SECONDS);
    assert!(streams(&world, C), "c had nothing that b lacked");

    world.pg_stop(A, true);
    world.play(5 * SECONDS);
    for host in [B, C] {
        world.network.mend(A, host);
        world.network.mend(host, A);
    }
    follow(&mut world, A, B);
    world.pg_start(A, true).unwrap();
    world.play(5 * SECONDS);
    assert!(world.wal.diverged(flushed(&world, A), flushed(&world, B)));
    assert!(!streams(&world, A));

    world.pg_stop(A, true);
    world.play(2 * SECONDS);
    world.pg_rewound(A, B);
    world.pg_start(A, true).unwrap();
    world.play(5 * SECONDS);
    assert!(streams(&world, A));
}

#[test]
fn a_stopped_walsender_reads_a_new_list_later_than_the_others() {
    let mut world = cluster();
    world.pg_set_sync_names(A, "ANY 1 (b)");
    world.play(4 * SECONDS);
    let rules = |world: &World| -> Vec<String> {
        let server = world.hosts[A].pg.server().unwrap();
        server.senders.iter().map(|id| world.connections[*id as usize].rule.text.clone()).collect()
    };
    world.pg_set_sync_names(A, "ANY 1 (c)");
    assert_eq!(world.hosts[A].pg.server().unwrap().rule.text, "ANY 1 (c)", "a new session sees it");
    assert_eq!(rules(&world), ["ANY 1 (b)", "ANY 1 (b)"], "no walsender has read it yet");
    world.play(4 * SECONDS);
    assert_eq!(rules(&world), ["ANY 1 (c)", "ANY 1 (c)"]);
}

#[test]
fn backends_outlive_their_postmaster_and_keep_the_next_one_out() {
    let mut world = cluster();
    let before = flushed(&world, A);
    world.pg_lose_postmaster(A, 2 * SECONDS);
    assert!(world.can_acknowledge(A), "a busy backend can still report a commit");
    assert!(world.pg_start(A, false).is_err());
    world.play(3 * SECONDS);
    assert!(!world.can_acknowledge(A));
    assert!(flushed(&world, A).count > before.count, "it did commit");
    assert!(world.pg_start(A, false).is_ok());
}

#[test]
fn a_half_rewound_directory_does_not_start() {
    let mut world = cluster();
    world.pg_kill(B);
    world.hosts[B].pg.data.torn = true;
    assert!(world.pg_start(B, true).is_err());
}

#[test]
fn a_hanging_server_answers_nobody_and_can_be_killed() {
    let mut world = cluster();
    world.hosts[A].pg.frozen = true;
    world.play(SECONDS);
    let before = world.stats.acknowledged;
    world.play(5 * SECONDS);
    assert_eq!(world.stats.acknowledged, before);
    assert!(!world.can_acknowledge(A));
    world.pg_kill(A);
    assert!(world.hosts[A].pg.is_down());
}
