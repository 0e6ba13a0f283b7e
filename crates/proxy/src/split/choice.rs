//! Which replica is asked.

use super::{Bans, Consistency, Position, SplitSettings};
use crate::settings::Balance;
use bellwether_types::{MemberName, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// A replica as it is known at this moment. Absent knowledge speaks against it wherever it is asked for.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub member: &'a MemberName,
    /// Its share; 0 for none.
    pub weight: u32,
    pub zone: Option<&'a str>,
    /// Statements and transactions that run there through this proxy.
    pub busy: usize,
    pub lag_bytes: Option<u64>,
    pub lag: Option<Duration>,
    /// What it is known to have replayed: a lower bound.
    pub replayed: Option<Position>,
    /// The tag `noloadbalance`: it takes no reads.
    pub noloadbalance: bool,
    /// The tag `nosync`: it never is synchronous, and so often further behind. Where positions count, it is the last choice.
    pub nosync: bool,
}

/// The replica for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub member: MemberName,
    /// The server must be asked whether it has replayed this, for up to [`SplitSettings::wait`].
    pub confirm: Option<Position>,
}

/// Why a replica is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    NoLoadBalance,
    NoWeight,
    Banned,
    LagUnknown,
    LagsBehind,
    /// It is on an older timeline than the client's last write.
    OlderTimeline,
}

impl Rejection {
    /// Its name in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Rejection::NoLoadBalance => "noloadbalance",
            Rejection::NoWeight => "no_weight",
            Rejection::Banned => "banned",
            Rejection::LagUnknown => "lag_unknown",
            Rejection::LagsBehind => "lags_behind",
            Rejection::OlderTimeline => "older_timeline",
        }
    }
}

/// No replica may be asked, and why each may not.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NoReplica(pub BTreeMap<MemberName, Rejection>);

/// Chooses. `turn` is a number that grows with each choice (round robin) or a random one.
pub fn choose(
    candidates: &[Candidate<'_>],
    after: Option<Position>,
    settings: &SplitSettings,
    bans: &Bans,
    now: Timestamp,
    turn: u64,
) -> Result<Choice, NoReplica> {
    let mut rejected = NoReplica::default();
    let mut rest: Vec<&Candidate<'_>> = Vec::new();
    for candidate in candidates {
        match rejection(candidate, after, settings, bans, now) {
            Some(why) => _ = rejected.0.insert(candidate.member.clone(), why),
            None => rest.push(candidate),
        }
    }
    let mut confirm = after;
    if let Some(wanted) = after {
        prefer(&mut rest, |candidate| !candidate.nosync);
        let shows =
            |candidate: &Candidate<'_>| candidate.replayed.is_some_and(|replayed| replayed.shows(wanted));
        if prefer(&mut rest, shows) {
            confirm = None;
        }
    }
    if let Some(zone) = settings.zone.as_deref() {
        prefer(&mut rest, |candidate| candidate.zone == Some(zone));
    }
    match balance(&rest, settings.balance, turn) {
        Some(candidate) => Ok(Choice { member: candidate.member.clone(), confirm }),
        None => Err(rejected),
    }
}

fn rejection(
    candidate: &Candidate<'_>,
    after: Option<Position>,
    settings: &SplitSettings,
    bans: &Bans,
    now: Timestamp,
) -> Option<Rejection> {
    if candidate.noloadbalance {
        return Some(Rejection::NoLoadBalance);
    }
    if candidate.weight == 0 {
        return Some(Rejection::NoWeight);
    }
    if bans.is_banned(candidate.member, now) {
        return Some(Rejection::Banned);
    }
    if settings.consistency != Consistency::Eventual {
        let bytes = settings.max_lag_bytes.map(|most| candidate.lag_bytes.map(|lag| lag <= most));
        let time = settings.max_lag.map(|most| candidate.lag.map(|lag| lag <= most));
        for within in [bytes, time].into_iter().flatten() {
            match within {
                None => return Some(Rejection::LagUnknown),
                Some(false) => return Some(Rejection::LagsBehind),
                Some(true) => {}
            }
        }
    }
    match (after, candidate.replayed) {
        (Some(after), Some(replayed)) if replayed.timeline < after.timeline => Some(Rejection::OlderTimeline),
        _ => None,
    }
}

/// Keeps only those that `want`, if there are any.
fn prefer<'a>(rest: &mut Vec<&Candidate<'a>>, want: impl Fn(&Candidate<'a>) -> bool) -> bool {
    let any = rest.iter().any(|candidate| want(candidate));
    if any {
        rest.retain(|candidate| want(candidate));
    }
    any
}

fn balance<'a, 'b>(rest: &[&'b Candidate<'a>], balance: Balance, turn: u64) -> Option<&'b Candidate<'a>> {
    match balance {
        Balance::LeastConnections => {
            // Compared as busy / weight, without a division. Among equals it goes round, or the first would take all.
            let load = |candidate: &&&Candidate<'_>| {
                let busy = u64::try_from(candidate.busy).unwrap_or(u64::MAX);
                // A member with nothing to do and a higher weight comes first.
                (busy.saturating_add(1)).saturating_mul(1_000_000) / u64::from(candidate.weight)
            };
            let least = rest.iter().map(|candidate| load(&candidate)).min()?;
            let equals: Vec<_> = rest.iter().filter(|candidate| load(candidate) == least).collect();
            let at = usize::try_from(turn % u64::try_from(equals.len()).ok()?).ok()?;
            equals.get(at).map(|candidate| **candidate)
        }
        // Their difference is in the number that comes in.
        Balance::RoundRobin | Balance::Random => {
            let all: u64 = rest.iter().map(|candidate| u64::from(candidate.weight)).sum();
            let mut at = turn.checked_rem(all)?;
            for candidate in rest {
                match at.checked_sub(u64::from(candidate.weight)) {
                    None => return Some(candidate),
                    Some(left) => at = left,
                }
            }
            None
        }
    }
}
