//! Two servers, or two sites, and a witness in a third place.

use bellwether_sim::{
    Bug, Outcome, Verbosity,
    faults::{Fault, Planned},
    operations::WatchdogMode,
    scenario::Scenario,
    schedule::{MILLIS, SECONDS},
    store::StoreKind,
    world::World,
};
use bellwether_types::settings::SyncMode;

/// When it happens, and for how long.
const AT: u64 = 40 * SECONDS;
const LASTS: u64 = 60 * SECONDS;

fn scenario(seed: u64, members: usize) -> Scenario {
    let mut scenario = Scenario::draw(seed, Bug::None);
    (scenario.members, scenario.guardian, scenario.founding) = (members, true, None);
    scenario.sites = true;
    // Nothing but the sites.
    (scenario.store, scenario.watchdog) = (StoreKind::Embedded, WatchdogMode::Off);
    (scenario.patroni, scenario.late, scenario.pre_promote) = (None, None, false);
    (scenario.restores, scenario.has_backup, scenario.gray) = (false, false, false);
    let settings = &mut scenario.settings;
    (settings.standby_cluster, settings.commit_probe) = (None, false);
    settings.wal_disk_guard = bellwether_types::settings::WalDiskGuard::default();
    settings.slots.clear();
    settings.primary_race_backoff = std::time::Duration::ZERO;
    (settings.synchronous_mode, settings.synchronous_mode_strict) = (SyncMode::Quorum, false);
    // Each commit is confirmed by one member of the other site at least.
    settings.synchronous_node_count = u32::try_from(members / 2).expect("few");
    (settings.quorum_takeover, settings.failsafe_mode) = (true, true);
    settings.primary_start_timeout = std::time::Duration::from_secs(300);
    scenario.write_interval = 200 * MILLIS;
    scenario.latency = MILLIS / 4;
    scenario.fault_phase = AT + LASTS + 20 * SECONDS;
    scenario
}

fn play(mut scenario: Scenario, faults: Vec<Fault>) -> Outcome {
    scenario.faults = faults.into_iter().map(|fault| Planned { at: AT, lasts: LASTS, fault }).collect();
    World::new(scenario, Bug::None, Verbosity::Tail).run()
}

/// Plays it for each site, and says when another member was promoted.
fn promotions(members: usize, faults: fn(&Scenario, usize) -> Vec<Fault>) -> Vec<u64> {
    let mut promoted = Vec::new();
    for (seed, site) in (0..8).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let scenario = scenario(seed, members);
        let faults = faults(&scenario, site);
        let outcome = play(scenario, faults);
        let story = || outcome.trace.join("\n");
        assert_eq!(outcome.violation, None, "{}\nseed {seed}, site {site}, {members} members", story());
        promoted.extend(outcome.stats.promoted_at);
    }
    promoted
}

/// Once per seed, for the leader's site, and long before that one is back.
fn assert_goes_on_elsewhere(members: usize, promoted: &[u64]) {
    assert_eq!(promoted.len(), 8, "{members} members: {promoted:?}");
    let during = AT..AT + LASTS / 2;
    assert!(promoted.iter().all(|at| during.contains(at)), "{members} members: {promoted:?}");
}

#[test]
fn the_other_site_goes_on_when_one_is_gone_and_takes_it_back() {
    for members in [2, 4] {
        assert_goes_on_elsewhere(members, &promotions(members, Scenario::site_gone));
    }
}

#[test]
fn a_site_that_is_cut_off_writes_no_more_and_comes_back_as_replicas() {
    for members in [2, 4] {
        assert_goes_on_elsewhere(members, &promotions(members, Scenario::cut_off));
    }
}

#[test]
fn two_sites_that_do_not_see_each_other_never_write_both() {
    // One goes on: the store takes the word of whichever its leader is with. The invariants watch that the other does not.
    for members in [2, 4] {
        let promoted = promotions(members, |scenario, _| scenario.cut_between_sites());
        assert!(promoted.len() <= 16, "{members} members: more than once per world: {promoted:?}");
    }
}

#[test]
fn without_its_witness_a_cluster_goes_on_as_it_is() {
    for members in [2, 4] {
        let promoted = promotions(members, |scenario, _| scenario.witness_gone());
        assert_eq!(promoted, [0_u64; 0], "{members} members");
    }
}

#[test]
fn nobody_is_promoted_while_the_witness_and_a_site_are_gone() {
    for members in [2, 4] {
        let both =
            |scenario: &Scenario, site: usize| [scenario.witness_gone(), scenario.site_gone(site)].concat();
        let promoted = promotions(members, both);
        // Whoever has power again may lead; before that nobody may know whether the other site leads.
        assert!(promoted.iter().all(|at| *at >= AT + LASTS), "{members} members: {promoted:?}");
    }
}
