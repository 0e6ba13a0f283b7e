use super::*;
use crate::settings::Balance;
use bellwether_sql::effect::Span;
use bellwether_sql::facts::{Access, Because, Class};
use bellwether_sql::hint::Role;
use bellwether_types::{MemberName, Timestamp};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(100_000);
const READ: Class = Class::Read;
const WRITE: Class = Class::Primary(Because::Command);

fn settings(mode: Mode, consistency: Consistency) -> SplitSettings {
    SplitSettings { mode, consistency, ..SplitSettings::default() }
}

fn conservative() -> SplitSettings {
    settings(Mode::Conservative, Consistency::Session)
}

fn plain(class: &Class) -> Statement<'_> {
    Statement { class, hint: None, pinned: false, newest: None, at_least: AtLeast::Anything }
}

fn position(timeline: u32, lsn: u64) -> Position {
    Position { timeline: TimelineId(timeline), lsn: Lsn(lsn) }
}

fn any_replica() -> Place {
    Place::Replica { after: None }
}

fn place(session: &Session, class: &Class, settings: &SplitSettings) -> Place {
    session.decide(&plain(class), settings, NOW).place
}

#[test]
fn reads_go_to_a_replica_and_the_rest_to_the_primary() {
    let session = Session::default();
    assert_eq!(place(&session, &READ, &conservative()), any_replica());
    assert_eq!(place(&session, &WRITE, &conservative()), Place::Primary);
    assert_eq!(place(&session, &Class::Begin(Access::Unstated), &conservative()), Place::Primary);
    assert_eq!(place(&session, &Class::Begin(Access::ReadOnly), &conservative()), any_replica());
    assert_eq!(place(&session, &Class::Begin(Access::NeedsPrimary), &conservative()), Place::Primary);
    assert_eq!(place(&session, &READ, &SplitSettings::default()), Place::Primary, "off unless configured");
}

#[test]
fn a_transaction_stays_where_it_began() {
    let mut session = Session::default();
    session.in_block(None);
    assert_eq!(place(&session, &READ, &conservative()), Place::Primary);
    let member = MemberName::new("b").unwrap();
    session.in_block(Some(&member));
    assert_eq!(
        place(&session, &WRITE, &conservative()),
        Place::This(member.clone()),
        "the replica refuses it"
    );
    let mut pinned = plain(&READ);
    (pinned.pinned, pinned.hint) = (true, Some(Role::Primary));
    assert_eq!(session.decide(&pinned, &conservative(), NOW).place, Place::This(member));
    session.block_ended();
    assert_eq!(place(&session, &READ, &conservative()), any_replica());
}

#[test]
fn the_first_statement_decides_where_it_is_asked_to() {
    let settings = settings(Mode::Transaction, Consistency::Session);
    let mut session = Session::default();
    assert_eq!(place(&session, &Class::Begin(Access::Unstated), &settings), Place::HoldBegin);
    assert_eq!(place(&session, &Class::Begin(Access::NeedsPrimary), &settings), Place::Primary);
    session.begin_held();
    assert!(session.holds_begin());
    assert_eq!(place(&session, &READ, &settings), any_replica());
    assert_eq!(place(&session, &WRITE, &settings), Place::Primary);
    assert_eq!(place(&session, &Class::Primary(Because::EndsTransaction), &settings), Place::Primary);
}

#[test]
fn a_client_sees_its_own_write() {
    let mut session = Session::default();
    session.wrote(NOW);
    let decision = session.decide(&plain(&READ), &conservative(), NOW);
    assert_eq!((decision.place, decision.why), (Place::Primary, Why::PositionUnknown));
    session.write_ended_at(position(3, 500));
    let later = NOW + Duration::from_secs(3600);
    let wanted = Place::Replica { after: Some(position(3, 500)) };
    assert_eq!(session.decide(&plain(&READ), &conservative(), later).place, wanted, "for ever");
    let begin = Class::Begin(Access::ReadOnly);
    assert_eq!(
        session.decide(&plain(&begin), &conservative(), later).place,
        wanted,
        "so do its transactions"
    );
    session.wrote(later);
    assert_eq!(
        session.decide(&plain(&READ), &conservative(), later).place,
        Place::Primary,
        "the token is old"
    );
}

#[test]
fn without_positions_a_client_stays_at_the_primary_for_a_while() {
    let mut session = Session::default();
    session.wrote(NOW);
    for consistency in [Consistency::Eventual, Consistency::Bounded] {
        let settings = settings(Mode::Conservative, consistency);
        let at = |after: u64| session.decide(&plain(&READ), &settings, NOW + Duration::from_millis(after));
        assert_eq!(at(4_999).why, Why::Sticky);
        assert_eq!(at(5_000).place, any_replica());
    }
}

#[test]
fn a_limit_of_lag_holds_besides_the_own_writes() {
    let mut session = Session::default();
    let place = |session: &Session, at_least| {
        session.decide(&Statement { at_least, ..plain(&READ) }, &conservative(), NOW).place
    };
    let replica = |timeline, lsn| Place::Replica { after: Some(position(timeline, lsn)) };
    assert_eq!(place(&session, AtLeast::Unknown), Place::Primary, "how old a replica is cannot be told");
    assert_eq!(place(&session, AtLeast::Position(position(2, 9))), replica(2, 9));
    session.write_ended_at(position(2, 20));
    assert_eq!(place(&session, AtLeast::Position(position(2, 9))), replica(2, 20));
    assert_eq!(
        place(&session, AtLeast::Position(position(3, 9))),
        replica(3, 20),
        "whoever shows it shows both"
    );
}

#[test]
fn global_consistency_needs_the_newest_position() {
    let settings = settings(Mode::Conservative, Consistency::Global);
    let session = Session::default();
    assert_eq!(session.decide(&plain(&READ), &settings, NOW).why, Why::PositionUnknown);
    let statement = Statement { newest: Some(position(1, 9)), ..plain(&READ) };
    let wanted = Place::Replica { after: Some(position(1, 9)) };
    assert_eq!(session.decide(&statement, &settings, NOW).place, wanted);
}

#[test]
fn hints_win_the_nearest_first() {
    let mut session = Session::new(Some(Role::Primary));
    assert_eq!(place(&session, &READ, &conservative()), Place::Primary);
    let statement = Statement { hint: Some(Role::Replica), ..plain(&WRITE) };
    assert_eq!(session.decide(&statement, &conservative(), NOW).place, any_replica(), "the comment");
    session.set_role(Some(Role::Replica), Span::Transaction);
    assert_eq!(session.role(), Role::Primary, "SET LOCAL outside of a transaction");
    session.set_role(None, Span::Session);
    assert_eq!(place(&session, &READ, &conservative()), any_replica());
    session.begin_held();
    session.set_role(Some(Role::Primary), Span::Transaction);
    assert_eq!(place(&session, &READ, &conservative()), Place::Primary);
    session.block_ended();
    assert_eq!(session.role(), Role::Auto);
    let manual = settings(Mode::Manual, Consistency::Eventual);
    assert_eq!(session.decide(&plain(&READ), &manual, NOW).why, Why::NoHint);
    session.set_role(Some(Role::Replica), Span::Session);
    assert_eq!(place(&session, &READ, &manual), any_replica());
}

#[test]
fn who_is_pinned_stays() {
    let statement = Statement { pinned: true, ..plain(&READ) };
    assert_eq!(Session::default().decide(&statement, &conservative(), NOW).why, Why::Pinned);
}

fn names() -> [MemberName; 3] {
    ["a", "b", "c"].map(|name| MemberName::new(name).unwrap())
}

fn candidate(member: &MemberName) -> Candidate<'_> {
    Candidate {
        member,
        weight: 1,
        zone: None,
        busy: 0,
        lag_bytes: Some(0),
        lag: Some(Duration::ZERO),
        replayed: None,
        noloadbalance: false,
        nosync: false,
    }
}

/// How often each member is chosen in 12 turns.
fn shares(candidates: &[Candidate<'_>], settings: &SplitSettings) -> Vec<usize> {
    let bans = Bans::default();
    let chosen = |turn| choose(candidates, None, settings, &bans, NOW, turn).unwrap().member;
    let all: Vec<MemberName> = (0..12).map(chosen).collect();
    candidates.iter().map(|one| all.iter().filter(|member| *member == one.member).count()).collect()
}

#[test]
fn shares_follow_the_weights() {
    let names = names();
    let mut candidates = names.each_ref().map(candidate);
    candidates[2].weight = 2;
    let turns = SplitSettings { balance: Balance::RoundRobin, ..conservative() };
    assert_eq!(shares(&candidates, &turns), [3, 3, 6]);
    assert_eq!(shares(&candidates, &conservative()), [0, 0, 12], "nobody has less to do for its weight");
    candidates[2].busy = 9;
    assert_eq!(shares(&candidates, &conservative()), [6, 6, 0]);
    candidates[0].weight = 0;
    assert_eq!(shares(&candidates, &conservative()), [0, 12, 0]);
}

#[test]
fn the_own_zone_is_preferred_and_not_demanded() {
    let names = names();
    let mut candidates = names.each_ref().map(candidate);
    candidates[1].zone = Some("west");
    let here = SplitSettings { zone: Some("west".into()), ..conservative() };
    assert_eq!(shares(&candidates, &here), [0, 12, 0]);
    let elsewhere = SplitSettings { zone: Some("east".into()), ..conservative() };
    assert_eq!(shares(&candidates, &elsewhere), [4, 4, 4]);
}

#[test]
fn each_rejection_is_told() {
    let names = names();
    let mut candidates = names.each_ref().map(candidate);
    candidates[0].noloadbalance = true;
    candidates[1].lag_bytes = None;
    let mut bans = Bans::default();
    bans.failed(&names[2], NOW, &conservative());
    let rejected = choose(&candidates, None, &conservative(), &bans, NOW, 0).unwrap_err();
    let told: Vec<Rejection> = rejected.0.into_values().collect();
    assert_eq!(told, [Rejection::NoLoadBalance, Rejection::LagUnknown, Rejection::Banned]);
    let eventual = settings(Mode::Conservative, Consistency::Eventual);
    let choice = choose(&candidates, None, &eventual, &bans, NOW, 0).unwrap();
    assert_eq!(choice.member, names[1], "lag does not matter there");
}

#[test]
fn limits_of_lag_hold_in_bytes_and_in_time() {
    let names = names();
    let mut one = [candidate(&names[0])];
    let bans = Bans::default();
    let limits = SplitSettings {
        max_lag_bytes: Some(1_000),
        max_lag: Some(Duration::from_millis(100)),
        ..settings(Mode::Conservative, Consistency::Bounded)
    };
    for (bytes, millis, fits) in [(1_000, 100, true), (1_001, 0, false), (0, 101, false)] {
        (one[0].lag_bytes, one[0].lag) = (Some(bytes), Some(Duration::from_millis(millis)));
        assert_eq!(choose(&one, None, &limits, &bans, NOW, 0).is_ok(), fits, "{bytes} bytes, {millis} ms");
    }
    one[0].lag = None;
    let rejected = choose(&one, None, &limits, &bans, NOW, 0).unwrap_err();
    assert_eq!(rejected.0[&names[0]], Rejection::LagUnknown);
}

#[test]
fn who_has_replayed_the_write_is_preferred_and_need_not_be_asked() {
    let names = names();
    let mut candidates = names.each_ref().map(candidate);
    let (bans, after) = (Bans::default(), Some(position(2, 500)));
    let choice = |candidates: &[Candidate<'_>]| choose(candidates, after, &conservative(), &bans, NOW, 0);
    assert_eq!(choice(&candidates).unwrap().confirm, after, "nothing is known of them");
    candidates[1].replayed = Some(position(2, 500));
    let chosen = choice(&candidates).unwrap();
    assert_eq!((chosen.member, chosen.confirm), (names[1].clone(), None));
    candidates[1].replayed = Some(position(2, 499));
    assert_eq!(choice(&candidates).unwrap().confirm, after);
    // On a later timeline the same position is behind the fork, or the write is lost.
    candidates[1].replayed = Some(position(3, 500));
    assert_eq!(choice(&candidates).unwrap().confirm, None);
    for candidate in &mut candidates {
        candidate.replayed = Some(position(1, 9_000));
    }
    let rejected = choice(&candidates).unwrap_err();
    assert!(rejected.0.values().all(|why| *why == Rejection::OlderTimeline));
    // Who is never synchronous comes last, where positions count.
    let mut candidates = names.each_ref().map(candidate);
    (candidates[0].nosync, candidates[1].nosync) = (true, true);
    assert_eq!(choice(&candidates).unwrap().member, names[2]);
}
