//! Who holds an address, and until when: plain functions of the situation.

use std::time::Duration;

use bellwether_config::sections::vip::{Fallback, VipEntry, VipKind};
use bellwether_types::{MemberName, Timestamp};

use crate::situation::{Local, Peer, Situation};

/// How long before the lease ends an address is taken back. The lease as we know it ends half a second before the one in the store at
/// the earliest, and the kernel may be as much as a second late with an address whose lifetime has ended.
pub const RELEASE_BEFORE: Duration = Duration::from_millis(500);

/// What is with this host at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    No,
    /// An agent before this one has left it, with a lifetime that the kernel counts.
    Adopted,
    Yes,
}

/// What should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Here, and gone at that instant unless it is wanted longer by then.
    Held {
        until: Timestamp,
        because: &'static str,
    },
    /// Soon: the lease is ours, and PostgreSQL does not take writes yet.
    Coming,
    /// Whatever is here stays until the kernel drops it.
    AsItIs,
    NotHere {
        because: &'static str,
    },
}

/// What should be with the addresses of an entry.
pub fn wanted(entry: &VipEntry, situation: &Situation, holding: Holding) -> Wanted {
    match entry.kind {
        VipKind::Leader => leader(situation, holding),
        VipKind::Replica | VipKind::Sync => reader(entry, situation, holding),
    }
}

/// Whole seconds that the kernel is to keep an address; it cannot count less than one.
pub fn kernel_seconds(now: Timestamp, until: Timestamp) -> u32 {
    u32::try_from(now.until(until).as_secs()).unwrap_or(u32::MAX).max(1)
}

fn leader(situation: &Situation, holding: Holding) -> Wanted {
    if !situation.is_decided {
        return undecided(holding);
    }
    let until = situation.lease_until.map(|until| until.saturating_sub(RELEASE_BEFORE));
    match (until.filter(|until| situation.now < *until), situation.local) {
        (Some(until), Local::Leads) => Wanted::Held { until, because: "this member leads and takes writes" },
        // A restart of a leader's server is no reason to send its clients away.
        (Some(until), Local::Restarts) if holding != Holding::No => {
            Wanted::Held { until, because: "this member leads; its PostgreSQL restarts" }
        }
        (Some(_), Local::IsPromoted | Local::Unknown | Local::Restarts) => Wanted::Coming,
        (Some(_), Local::Other) => Wanted::NotHere { because: "this member does not take writes" },
        // Nobody is promoted in a pause: the address stays with the running primary, even without a lease.
        (None, Local::Leads) if situation.paused && !situation.another_leads() => {
            let until = situation.taken_at + situation.ttl;
            if situation.now < until {
                Wanted::Held { until, because: "paused, and this member's PostgreSQL is the primary" }
            } else {
                Wanted::NotHere { because: "the agent's loop stands still" }
            }
        }
        // An agent that was just started again has not got its lease back yet; the kernel keeps the deadline meanwhile.
        (None, local)
            if holding == Holding::Adopted && !situation.another_leads() && local != Local::Other =>
        {
            Wanted::AsItIs
        }
        (None, _) => Wanted::NotHere { because: "this member does not hold the lease" },
    }
}

fn undecided(holding: Holding) -> Wanted {
    match holding {
        Holding::No => Wanted::NotHere { because: "the agent has just been started" },
        Holding::Adopted | Holding::Yes => Wanted::AsItIs,
    }
}

/// Every member comes to the same result by the same picture; two pictures may differ for a moment, and so may the holders. For reads
/// that is harmless: announcements of the later one win.
fn reader(entry: &VipEntry, situation: &Situation, holding: Holding) -> Wanted {
    if !situation.is_decided {
        return undecided(holding);
    }
    if !situation.is_believable() {
        return Wanted::NotHere { because: "the store has not been heard for too long" };
    }
    let until = situation.believable_until;
    match reader_of(entry, situation) {
        Some(name) if *name == situation.me => {
            Wanted::Held { until, because: "this member is the first of those that fit, by name" }
        }
        Some(_) => Wanted::NotHere { because: "another member fits, and comes first by name" },
        None => Wanted::NotHere { because: "no member fits" },
    }
}

/// The member that an address for reads belongs to.
fn reader_of<'a>(entry: &VipEntry, situation: &'a Situation) -> Option<&'a MemberName> {
    let fits = |peer: &&Peer| {
        let lag_is_fine = peer.lag_bytes.is_some_and(|lag| lag <= entry.max_lag);
        let is_of_kind = entry.kind == VipKind::Replica || peer.is_sync;
        peer.is_running && peer.is_replica && !peer.wants_no_reads && lag_is_fine && is_of_kind
    };
    let first = situation.members.iter().filter(fits).map(|peer| &peer.name).min();
    match entry.fallback {
        Fallback::Leader => first.or(situation.leader.as_ref()),
        Fallback::Nobody => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn name(text: &str) -> MemberName {
        text.parse().unwrap()
    }

    fn entry(kind: VipKind) -> VipEntry {
        VipEntry {
            kind,
            addresses: vec![],
            interface: None,
            max_lag: 100,
            fallback: Fallback::Nobody,
            provider: None,
        }
    }

    fn peer(text: &str, lag_bytes: Option<u64>) -> Peer {
        Peer {
            name: name(text),
            api_url: None,
            conn_url: None,
            zone: None,
            is_running: true,
            is_replica: true,
            is_sync: false,
            wants_no_reads: false,
            lag_bytes,
        }
    }

    /// Member `b` at 10 s, believed until 15 s, without a lease.
    fn situation() -> Situation {
        Situation {
            now: at(10_000),
            taken_at: at(10_000),
            believable_until: at(15_000),
            ttl: TTL,
            me: name("b"),
            zone: None,
            is_decided: true,
            lease_until: None,
            local: Local::Leads,
            paused: false,
            leader: Some(name("b")),
            term: None,
            members: vec![],
        }
    }

    fn leads(until: u64) -> Situation {
        Situation { lease_until: Some(at(until)), ..situation() }
    }

    fn held_until(wanted: Wanted) -> Option<Timestamp> {
        if let Wanted::Held { until, .. } = wanted { Some(until) } else { None }
    }

    #[test]
    fn the_leader_holds_it_until_shortly_before_its_lease_ends() {
        let entry = entry(VipKind::Leader);
        assert_eq!(held_until(wanted(&entry, &leads(14_500), Holding::No)), Some(at(14_000)));
        // A name in the store is no lease.
        assert_eq!(held_until(wanted(&entry, &situation(), Holding::Yes)), None);
        for now in [14_000, 14_500, 20_000] {
            let late = Situation { now: at(now), ..leads(14_500) };
            assert!(matches!(wanted(&entry, &late, Holding::Yes), Wanted::NotHere { .. }), "{now}");
        }
    }

    #[test]
    fn it_comes_with_the_first_write_and_goes_when_the_server_steps_down() {
        let entry = entry(VipKind::Leader);
        let with = |local| Situation { local, ..leads(14_500) };
        assert_eq!(wanted(&entry, &with(Local::IsPromoted), Holding::No), Wanted::Coming);
        assert_eq!(wanted(&entry, &with(Local::Restarts), Holding::No), Wanted::Coming);
        assert!(held_until(wanted(&entry, &with(Local::Restarts), Holding::Yes)).is_some());
        assert!(matches!(wanted(&entry, &with(Local::Other), Holding::Yes), Wanted::NotHere { .. }));
    }

    #[test]
    fn in_a_pause_it_stays_with_the_primary_unless_somebody_else_leads() {
        let entry = entry(VipKind::Leader);
        let paused = Situation { paused: true, leader: None, ..situation() };
        assert_eq!(held_until(wanted(&entry, &paused, Holding::Yes)), Some(at(15_000)));
        let other = Situation { leader: Some(name("a")), ..paused.clone() };
        assert!(matches!(wanted(&entry, &other, Holding::Yes), Wanted::NotHere { .. }));
        let replica = Situation { local: Local::Other, ..paused.clone() };
        assert!(matches!(wanted(&entry, &replica, Holding::Yes), Wanted::NotHere { .. }));
        let stuck = Situation { now: at(15_000), ..paused };
        assert!(matches!(wanted(&entry, &stuck, Holding::Yes), Wanted::NotHere { .. }));
    }

    #[test]
    fn what_an_agent_before_has_left_is_the_kernels_until_something_is_known() {
        let entry = entry(VipKind::Leader);
        let new = Situation { is_decided: false, local: Local::Unknown, leader: None, ..situation() };
        assert_eq!(wanted(&entry, &new, Holding::Adopted), Wanted::AsItIs);
        assert!(matches!(wanted(&entry, &new, Holding::No), Wanted::NotHere { .. }));
        let decided = Situation { is_decided: true, ..new };
        assert_eq!(wanted(&entry, &decided, Holding::Adopted), Wanted::AsItIs);
        assert!(matches!(wanted(&entry, &decided, Holding::Yes), Wanted::NotHere { .. }));
        let other_leads = Situation { leader: Some(name("a")), ..decided.clone() };
        assert!(matches!(wanted(&entry, &other_leads, Holding::Adopted), Wanted::NotHere { .. }));
        let replica = Situation { local: Local::Other, ..decided };
        assert!(matches!(wanted(&entry, &replica, Holding::Adopted), Wanted::NotHere { .. }));
    }

    #[test]
    fn reads_go_to_the_first_replica_that_fits() {
        let replica = entry(VipKind::Replica);
        let with = |members: Vec<Peer>| Situation { leader: Some(name("c")), members, ..situation() };
        let both = with(vec![peer("b", Some(0)), peer("a", Some(0))]);
        assert!(matches!(wanted(&replica, &both, Holding::Yes), Wanted::NotHere { .. }));
        let lags = with(vec![peer("b", Some(100)), peer("a", Some(101))]);
        assert_eq!(held_until(wanted(&replica, &lags, Holding::No)), Some(at(15_000)));
        for change in [
            |peer: &mut Peer| peer.is_running = false,
            |peer: &mut Peer| peer.wants_no_reads = true,
            |peer: &mut Peer| peer.is_replica = false,
            |peer: &mut Peer| peer.lag_bytes = None,
        ] {
            let mut one = peer("b", Some(0));
            change(&mut one);
            assert_eq!(held_until(wanted(&replica, &with(vec![one]), Holding::Yes)), None);
        }
        let unheard = Situation { now: at(15_000), ..with(vec![peer("b", Some(0))]) };
        assert_eq!(held_until(wanted(&replica, &unheard, Holding::Yes)), None);
        let sync = entry(VipKind::Sync);
        assert_eq!(held_until(wanted(&sync, &with(vec![peer("b", Some(0))]), Holding::No)), None);
        let voter = Peer { is_sync: true, ..peer("b", Some(0)) };
        assert!(held_until(wanted(&sync, &with(vec![voter]), Holding::No)).is_some());
    }

    #[test]
    fn without_a_replica_the_fallback_counts() {
        let mut entry = entry(VipKind::Replica);
        assert_eq!(held_until(wanted(&entry, &leads(14_500), Holding::No)), None);
        entry.fallback = Fallback::Leader;
        assert!(held_until(wanted(&entry, &leads(14_500), Holding::No)).is_some());
    }

    #[test]
    fn the_kernel_counts_whole_seconds() {
        assert_eq!(kernel_seconds(at(10_000), at(13_999)), 3);
        assert_eq!(kernel_seconds(at(10_000), at(10_400)), 1);
        assert_eq!(kernel_seconds(at(10_000), at(9_000)), 1);
    }
}
