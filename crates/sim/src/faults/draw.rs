//! Which faults hit a cluster when.

use super::{Fault, Planned};
use crate::{
    bug::Bug,
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, SECONDS},
};

/// Draws the faults of a scenario.
pub fn plan(scenario: &Scenario, bug: Bug, random: &mut Random) -> Vec<Planned> {
    let count = random.between(3, 14);
    // A guardian that dies while its agent is frozen leaves nobody to fence: two faults too many, so a scenario has one kind.
    let agents_suffer = random.percent(70);
    let mut planned = Vec::new();
    for _ in 0..count {
        let at = random.between(0, scenario.fault_phase);
        let mut lasts = match random.between(0, 4) {
            0 => random.between(100, 1_500) * MILLIS,
            1 => random.between(1, scenario.ttl / SECONDS + 1) * SECONDS,
            2 => scenario.ttl + random.between(0, 10_000) * MILLIS,
            _ => random.between(1, 40) * SECONDS,
        };
        let fault = match bug.favourite(scenario, random) {
            Some(fault) => fault,
            None => draw(scenario, agents_suffer, random),
        };
        if fault == Fault::Pause {
            lasts = random.between(5, 60) * SECONDS;
        }
        let lasts = lasts.min(scenario.fault_phase - at);
        planned.push(Planned { at, lasts, fault });
    }
    planned.extend(rare(scenario, &mut random.fork(2)));
    if bug == Bug::None {
        // A bug is looked for where losses count.
        planned.extend(rarer(scenario, &mut random.fork(3)));
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// What operators do now and then. From a source of its own, and not in most worlds: those stay as they were before it was added.
fn rare(scenario: &Scenario, random: &mut Random) -> Option<Planned> {
    if !random.percent(10) || scenario.ttl < 10 * SECONDS {
        return None;
    }
    let at = random.between(0, scenario.fault_phase);
    let lasts = (random.between(5, 60) * SECONDS).min(scenario.fault_phase - at);
    let seconds = scenario.ttl / SECONDS / random.between(2, 5);
    Some(Planned { at, lasts, fault: Fault::ShorterTtl { seconds } })
}

/// The same for what came later still.
fn rarer(scenario: &Scenario, random: &mut Random) -> Option<Planned> {
    if !random.percent(12) {
        return None;
    }
    let at = random.between(0, scenario.fault_phase);
    let lasts = (random.between(1, 90) * SECONDS).min(scenario.fault_phase - at);
    Some(Planned { at, lasts, fault: Fault::FollowAnother })
}

fn draw(scenario: &Scenario, agents_suffer: bool, random: &mut Random) -> Fault {
    let members = scenario.members;
    let host = random.index(members);
    let other = (host + 1 + random.index(members.max(2) - 1)) % members;
    let store = members;
    let fenced = scenario.guardian;
    loop {
        return match random.between(0, 25) {
            0 => Fault::KillPostgres { host },
            1 => Fault::KillPostmaster { host, orphans_for: random.between(10, 3_000) * MILLIS },
            2 => Fault::FreezePostgres { host },
            3 => Fault::SlowStart { host },
            4 => Fault::SlowStop { host },
            5 | 6 if fenced && agents_suffer => {
                Fault::KillAgent { host, respawn_after: random.between(100, 3_000) * MILLIS }
            }
            7 | 8 if fenced && agents_suffer => Fault::FreezeAgent { host },
            9 if fenced && !agents_suffer => Fault::KillGuardian { host },
            10 | 11 => Fault::PowerLoss { host },
            12 if fenced && agents_suffer => Fault::Suspend { host },
            13 => Fault::DiskStall { host },
            14 | 15 => Fault::Isolate { host },
            16 => Fault::CutBoth { a: host, b: store },
            17 => Fault::CutBoth { a: host, b: other },
            18 => match random.between(0, 3) {
                0 => Fault::Cut { from: host, to: store },
                1 => Fault::Cut { from: store, to: host },
                _ => Fault::Cut { from: host, to: other },
            },
            19 => {
                let by = random.between(20, 400) * MILLIS;
                match random.between(0, 3) {
                    0 => Fault::Slow { from: host, to: store, by },
                    1 => Fault::Slow { from: store, to: host, by: random.between(0, scenario.ttl / 5) },
                    _ => Fault::Slow { from: host, to: other, by },
                }
            }
            20 => Fault::StoreSilent,
            21 => Fault::StoreElection,
            22 => Fault::Switchover { candidate: random.percent(50).then_some(other) },
            23 => match random.between(0, 3) {
                0 => Fault::Pause,
                1 => Fault::Restart { host },
                _ => Fault::Switchover { candidate: None },
            },
            24 => Fault::BusyCheckpointer { host },
            _ => continue,
        };
    }
}
