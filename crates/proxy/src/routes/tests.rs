use std::time::Duration;

use bellwether_types::{Lsn, Tags, TimelineId};
use serde_json::json;

use super::*;

fn member(name: &str, role: Role) -> TopologyMember {
    TopologyMember {
        name: name.parse().unwrap(),
        role: Some(role),
        state: Some(PostgresState::Running),
        timeline: Some(TimelineId(3)),
        lsn: Some(Lsn(0x0300_0000)),
        lag_bytes: Some(0),
        conn_url: Some(format!("postgres://{name}:5432/postgres")),
        api_url: None,
        is_leader: false,
        is_sync: false,
        is_quorum: false,
        tags: Tags::default(),
        duty: Default::default(),
    }
}

/// `a` leads; confirmed at 100 s, for 10 s.
fn healthy() -> Topology {
    Topology {
        cluster: "shop".parse().unwrap(),
        me: "b".parse().unwrap(),
        leader: Some("a".parse().unwrap()),
        term: None,
        lease_until: None,
        members: vec![member("a", Role::Primary), member("b", Role::Replica), member("c", Role::Replica)],
        paused: false,
        taken_at: at(100),
        confirmed_at: at(100),
        believable_until: at(110),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn routes(topology: &Topology) -> Routes {
    Routes::of(topology, &RoutingSettings::default(), |_| vec![])
}

fn names(routes: &[Arc<Route>]) -> Vec<&str> {
    routes.iter().map(|route| route.member.as_str()).collect()
}

#[test]
fn the_leader_takes_writes_and_replicas_take_reads() {
    let routes = routes(&healthy());
    assert_eq!(names(routes.candidates(Target::Primary, at(101))), ["a"]);
    assert_eq!(names(routes.candidates(Target::Replicas, at(101))), ["b", "c"]);
    assert_eq!(routes.primary.unwrap().timeline, 3);
}

#[test]
fn what_the_tags_say_of_sharing_is_kept() {
    let mut topology = healthy();
    for (tag, value) in [("weight", json!(3)), ("zone", json!("west")), ("nosync", json!(true))] {
        topology.members[1].tags.0.insert(tag.into(), value);
    }
    let routes = routes(&topology);
    let now = at(101);
    let of = |at: usize| {
        let route = &routes.candidates(Target::Replicas, now)[at];
        (route.weight, route.zone.clone(), route.nosync)
    };
    assert_eq!(of(0), (3, Some("west".to_owned()), true));
    assert_eq!(of(1), (1, None, false));
}

#[test]
fn a_leader_that_is_not_promoted_yet_takes_none() {
    let mut topology = healthy();
    topology.leader = Some("b".parse().unwrap());
    let routes = routes(&topology);
    assert_eq!(routes.primary_at(at(101)), Err(NoPrimary::NotPromoted));
    assert_eq!(names(&routes.replicas), ["c"], "nor does it count as a replica");
}

#[test]
fn a_former_primary_that_still_runs_is_no_target_at_all() {
    let mut topology = healthy();
    topology.leader = None;
    let routes = routes(&topology);
    assert_eq!(routes.primary_at(at(101)), Err(NoPrimary::NoLeader));
    assert_eq!(names(&routes.replicas), ["b", "c"]);
}

#[test]
fn new_sessions_end_with_half_of_the_lease_and_old_ones_with_all_of_it() {
    let routes = routes(&healthy());
    let a = "a".parse().unwrap();
    assert!(routes.primary_at(at(104)).is_ok());
    assert_eq!(routes.primary_at(at(105)), Err(NoPrimary::NotHeard));
    assert!(routes.allows(Target::Primary, &a, at(109)));
    assert!(!routes.allows(Target::Primary, &a, at(110)));
    assert_eq!(routes.candidates(Target::Replicas, at(200)).len(), 2, "reads go on");
}

#[test]
fn the_holder_of_the_lease_trusts_its_lease() {
    let mut topology = healthy();
    topology.me = "a".parse().unwrap();
    topology.lease_until = Some(at(120));
    let own = routes(&topology);
    assert!(own.primary_at(at(119)).is_ok(), "failsafe answers have renewed it");
    assert!(own.primary_at(at(120)).is_err());
    topology.leader = Some("b".parse().unwrap());
    assert!(
        routes(&topology).primary_at(at(101)).is_err(),
        "a lease of its own is nothing under another's lock"
    );
}

#[test]
fn in_pause_the_primary_stays() {
    let mut topology = healthy();
    topology.paused = true;
    assert!(routes(&topology).primary_at(at(500)).is_ok());
}

#[test]
fn a_replica_must_run_be_near_and_be_willing() {
    type Change = fn(&mut TopologyMember);
    let cases: [(&str, Change); 5] = [
        ("too far behind", |member| member.lag_bytes = Some((100 << 20) + 1)),
        ("a lag that nobody knows", |member| member.lag_bytes = None),
        ("not running", |member| member.state = Some(PostgresState::Starting)),
        ("a primary without the lock", |member| member.role = Some(Role::Primary)),
        ("noloadbalance", |member| {
            member.tags.0.insert("noloadbalance".into(), json!(true));
        }),
    ];
    for (case, change) in cases {
        let mut topology = healthy();
        change(&mut topology.members[1]);
        assert_eq!(names(&routes(&topology).replicas), ["c"], "{case}");
    }
}

#[test]
fn synchronous_and_asynchronous_replicas_are_told_apart() {
    let mut topology = healthy();
    topology.members[1].is_quorum = true;
    let routes = routes(&topology);
    assert_eq!((names(&routes.sync), names(&routes.asynchronous)), (vec!["b"], vec!["c"]));
}

#[test]
fn readers_reach_the_primary_only_where_that_is_wanted() {
    let mut topology = healthy();
    topology.members.truncate(1);
    assert!(routes(&topology).replicas.is_empty());
    let settings = RoutingSettings { fall_back_to_primary: true, ..RoutingSettings::default() };
    assert_eq!(names(&Routes::of(&topology, &settings, |_| vec![]).replicas), ["a"]);
}

#[test]
fn a_picture_may_be_limited_to_a_shorter_life() {
    let settings =
        RoutingSettings { max_view_age: Some(Duration::from_secs(2)), ..RoutingSettings::default() };
    let routes = Routes::of(&healthy(), &settings, |_| vec![]);
    assert!(routes.primary_at(at(101)).is_ok());
    assert!(routes.primary_at(at(102)).is_err());
}

#[test]
fn a_leader_that_stops_in_order_keeps_its_sessions_and_gets_no_new_ones() {
    let mut topology = healthy();
    topology.members[0].state = Some(PostgresState::Stopping);
    topology.members[0].role = Some(Role::Demoted);
    let a = "a".parse().unwrap();
    let leaving = routes(&topology);
    assert_eq!(leaving.primary_at(at(101)), Err(NoPrimary::HandingOver));
    assert!(leaving.allows(Target::Primary, &a, at(101)));
    topology.leader = Some("b".parse().unwrap());
    assert!(!routes(&topology).allows(Target::Primary, &a, at(101)), "once another one leads, they are cut");
    topology.leader = None;
    assert!(!routes(&topology).allows(Target::Primary, &a, at(101)));
}

#[test]
fn members_that_are_taken_out_get_nobody_new_and_the_leader_keeps_its_writers() {
    let (a, b, c): (MemberName, MemberName, MemberName) =
        ("a".parse().unwrap(), "b".parse().unwrap(), "c".parse().unwrap());
    let mut topology = healthy();
    for (member, duty) in topology.members.iter_mut().zip([Duty::Maint, Duty::Drain, Duty::Maint]) {
        member.duty = duty;
    }
    let taken_out = routes(&topology);
    assert_eq!(names(taken_out.candidates(Target::Primary, at(101))), ["a"]);
    assert!(taken_out.allows(Target::Primary, &a, at(101)) && !taken_out.sends_away(Target::Primary, &a));
    assert!(taken_out.candidates(Target::Replicas, at(101)).is_empty());
    assert!(taken_out.allows(Target::Replicas, &b, at(101)), "who is there may stay");
    assert!(!taken_out.leads_to(Target::Replicas, &b, at(101)));
    assert!(!taken_out.sends_away(Target::Replicas, &b));
    assert!(!taken_out.allows(Target::Replicas, &c, at(101)) && taken_out.sends_away(Target::Replicas, &c));
    topology.members[1].duty = Duty::Ready;
    assert_eq!(names(routes(&topology).candidates(Target::Replicas, at(101))), ["b"]);
}
