//! Troubles of servers that run, of their disks and files, and what comes of them.

use bellwether_sim::{
    Bug, Coverage, Outcome, Verbosity,
    faults::{Fault, Planned},
    scenario::Scenario,
    schedule::SECONDS,
    trouble::{Trouble, files::Damage},
    world::World,
};
use bellwether_types::settings::{SyncMode, WalDiskMode};

/// Three members; agents look for gray failures.
fn play(seed: u64, mode: SyncMode, guard: WalDiskMode, faults: Vec<Planned>) -> Outcome {
    let mut scenario = Scenario::draw(seed, Bug::OnePromiseLess);
    (scenario.members, scenario.guardian, scenario.founding, scenario.gray) = (3, true, None, true);
    (scenario.ttl, scenario.settings.ttl) = (20 * SECONDS, std::time::Duration::from_secs(20));
    let settings = &mut scenario.settings;
    (settings.synchronous_mode, settings.synchronous_node_count) = (mode, 1);
    (settings.quorum_takeover, settings.failsafe_mode) = (mode == SyncMode::Quorum, false);
    (settings.commit_probe, settings.gray_failure_timeout) = (true, None);
    settings.wal_disk_guard.mode = guard;
    scenario.fault_phase = 120 * SECONDS;
    scenario.write_interval = SECONDS / 5;
    scenario.faults = faults;
    World::new(scenario, Bug::None, Verbosity::Tail).run()
}

fn planned(at: u64, lasts: u64, fault: Fault) -> Planned {
    Planned { at: at * SECONDS, lasts: lasts * SECONDS, fault }
}

#[track_caller]
fn assert_whole(outcome: &Outcome, story: &str) {
    assert_eq!(outcome.violation, None, "{}\n{story}", outcome.trace.join("\n"));
}

/// A standby is away for a while, its slot holds back WAL, and the disk of whoever leads has little room. Of three hosts one leads.
fn filled_disks(mode: SyncMode, guard: WalDiskMode) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in 0..12 {
        for host in 0..3 {
            let away = Fault::PowerLoss { host: (host + 1) % 3 };
            let fills = Fault::Trouble { host, what: Trouble::DiskFills { left: 50_000 } };
            let outcome = play(seed, mode, guard, vec![planned(10, 100, fills), planned(12, 80, away)]);
            assert_whole(&outcome, &format!("seed {seed}, host {host}, {mode:?}, {guard:?}"));
            coverage.merge(&outcome.coverage);
        }
    }
    coverage
}

#[test]
fn a_leader_whose_disk_fills_hands_over_and_loses_nothing() {
    for mode in [SyncMode::Off, SyncMode::On, SyncMode::Quorum] {
        let coverage = filled_disks(mode, WalDiskMode::Alarm);
        assert!(coverage.given("trouble_handing_over") > 0, "{mode:?}");
    }
}

#[test]
fn without_the_guard_a_full_disk_ends_in_a_crash_that_loses_nothing() {
    let coverage = filled_disks(SyncMode::Quorum, WalDiskMode::Off);
    assert_eq!(coverage.given("trouble_handing_over"), 0);
    assert!(coverage.given("start_failed") + coverage.given("released_after_failed_start") > 0);
}

#[test]
fn slots_of_members_that_are_away_are_evicted_before_anybody_hands_over_for_them() {
    filled_disks(SyncMode::Quorum, WalDiskMode::EvictSlots);
}

/// The leader loses its files while the store is silent, so nobody hears that it gave the lock up; and its agent goes on renewing the lease.
#[test]
fn a_lock_whose_release_was_lost_does_not_stay_with_a_member_without_files() {
    let mut releases = 0;
    for seed in 0..12 {
        for host in 0..3 {
            let damage = [Damage::Removed, Damage::Unreadable, Damage::Invalid][host];
            let lost = Fault::Trouble { host, what: Trouble::Files(damage) };
            let killed = Fault::KillPostgres { host };
            let faults =
                vec![planned(20, 8, Fault::StoreSilent), planned(21, 90, lost), planned(22, 1, killed)];
            let outcome = play(seed, SyncMode::Quorum, WalDiskMode::Alarm, faults);
            assert_whole(&outcome, &format!("seed {seed}, host {host}, {damage:?}"));
            let coverage = &outcome.coverage;
            releases +=
                coverage.given("released_data_dir_empty") + coverage.given("released_data_dir_unreadable");
        }
    }
    assert!(releases > 0);
}

#[test]
fn a_disk_that_turns_read_only_makes_its_leader_hand_over() {
    let mut coverage = Coverage::default();
    for host in 0..3 {
        let fault = Fault::Trouble { host, what: Trouble::DiskReadOnly };
        let outcome = play(3, SyncMode::Quorum, WalDiskMode::Alarm, vec![planned(20, 60, fault)]);
        assert_whole(&outcome, &format!("host {host}"));
        coverage.merge(&outcome.coverage);
    }
    assert!(coverage.given("trouble_handing_over") > 0);
}
