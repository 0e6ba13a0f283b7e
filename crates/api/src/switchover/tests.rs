use serde_json::json;

use super::*;

use crate::situations::*;

const NOW_WALL: WallTime = WallTime::from_unix_millis(1_795_305_600_000);
use LeaderChange::{Failover, Switchover};

fn read(change: LeaderChange, body: Value, status: &NodeStatus) -> Result<SwitchoverRequest, (u16, String)> {
    let view = status.store.as_ref().unwrap();
    parse(change, body.as_object().unwrap(), status, view, NOW_WALL)
        .map_err(|rejection| (rejection.status, rejection.message))
}

fn with_mode(mode: SyncMode) -> NodeStatus {
    sync_voter(replica(), mode)
}

fn alone() -> NodeStatus {
    let mut status = leader();
    let view = status.store.as_mut().unwrap();
    view.members.retain(|name, _| name.as_str() == "a");
    status
}

fn leaderless() -> NodeStatus {
    let mut status = replica();
    status.store.as_mut().unwrap().leader = None;
    status
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    let past = "2020-01-01T00:00Z";
    let future = "2027-01-01T00:00Z";
    let mut no_voters = with_mode(SyncMode::On);
    no_voters.store.as_mut().unwrap().sync = None;
    for (change, body, status, code, message) in [
        (
            Failover,
            json!({"leader": "a"}),
            replica(),
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            Failover,
            json!({"candidate": ""}),
            replica(),
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            Switchover,
            json!({"candidate": "b"}),
            replica(),
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            Failover,
            json!({"candidate": "b", "scheduled_at": future}),
            replica(),
            400,
            "Failover can't be scheduled",
        ),
        (
            Switchover,
            json!({"leader": "a", "scheduled_at": future}),
            paused(replica()),
            400,
            "Can't schedule switchover in the paused state",
        ),
        (
            Switchover,
            json!({"leader": "a"}),
            paused(replica()),
            400,
            "Switchover is possible only to a specific candidate in a paused state",
        ),
        (
            Switchover,
            json!({"leader": "a", "candidate": "a"}),
            replica(),
            400,
            "Switchover target and source are the same",
        ),
        (
            Switchover,
            json!({"leader": "a", "scheduled_at": "2027-01-01T00:00"}),
            replica(),
            400,
            "Timezone information is mandatory for the scheduled switchover",
        ),
        (
            Switchover,
            json!({"leader": "a", "scheduled_at": past}),
            replica(),
            422,
            "Cannot schedule switchover in the past",
        ),
        (
            Switchover,
            json!({"leader": "a", "scheduled_at": "soon"}),
            replica(),
            422,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
        ),
        (Switchover, json!({"leader": "b"}), replica(), 412, "leader name does not match"),
        (
            Switchover,
            json!({"leader": "a", "candidate": "b"}),
            leaderless(),
            412,
            "leader name does not match",
        ),
        (Failover, json!({"leader": "c", "candidate": "b"}), replica(), 412, "leader name does not match"),
        (
            Switchover,
            json!({"leader": "a", "candidate": "c"}),
            with_mode(SyncMode::On),
            412,
            "candidate name does not match with sync_standby",
        ),
        (Switchover, json!({"leader": "a", "candidate": "z"}), replica(), 412, "candidate does not exists"),
        (Failover, json!({"candidate": "z/1"}), replica(), 412, "candidate does not exists"),
        (
            Switchover,
            json!({"leader": "a"}),
            no_voters,
            412,
            "switchover is not possible: can not find sync_standby",
        ),
        (
            Switchover,
            json!({"leader": "a"}),
            alone(),
            412,
            "switchover is not possible: cluster does not have members except leader",
        ),
    ] {
        assert_eq!(read(change, body.clone(), &status).unwrap_err(), (code, message.to_owned()), "{body}");
    }
}

#[test]
fn what_can_work_is_passed_on() {
    let wanted = |change, leader: Option<&str>, candidate: Option<&str>| SwitchoverRequest {
        change,
        leader: leader.map(name),
        candidate: candidate.map(name),
        scheduled_at: None,
    };
    for (case, change, body, status, expected) in [
        ("to anybody", Switchover, json!({"leader": "a"}), replica(), wanted(Switchover, Some("a"), None)),
        (
            "the old name of candidate",
            Switchover,
            json!({"leader": "a", "member": "b"}),
            replica(),
            wanted(Switchover, Some("a"), Some("b")),
        ),
        (
            "a failover that names the leader",
            Failover,
            json!({"leader": "a", "candidate": "b"}),
            replica(),
            wanted(Switchover, Some("a"), Some("b")),
        ),
        (
            "a failover past the sync standby",
            Failover,
            json!({"candidate": "c"}),
            with_mode(SyncMode::On),
            wanted(Failover, None, Some("c")),
        ),
        (
            "quorum mode does not check here",
            Switchover,
            json!({"leader": "a", "candidate": "c"}),
            with_mode(SyncMode::Quorum),
            wanted(Switchover, Some("a"), Some("c")),
        ),
        (
            "paused, to a candidate",
            Switchover,
            json!({"leader": "a", "candidate": "b"}),
            paused(replica()),
            wanted(Switchover, Some("a"), Some("b")),
        ),
        (
            "a cluster without a leader",
            Failover,
            json!({"candidate": "b"}),
            leaderless(),
            wanted(Failover, None, Some("b")),
        ),
    ] {
        assert_eq!(read(change, body, &status), Ok(expected), "{case}");
    }
    let body = json!({"leader": "wrong", "candidate": "later", "scheduled_at": "2027-01-01 02:00+02"});
    let request = read(Switchover, body, &replica()).unwrap();
    assert_eq!(
        request.scheduled_at.unwrap().text,
        "2027-01-01T02:00:00+02:00",
        "scheduled: nothing is checked yet"
    );
}

#[test]
fn eligible_members_follow_the_mode() {
    let names = |status: &NodeStatus, candidate: Option<&str>| -> Vec<String> {
        let view = status.store.as_ref().unwrap();
        let members = eligible(view, &status.settings, candidate);
        members.iter().map(|member| member.name.to_string()).collect()
    };
    assert_eq!(names(&replica(), None), ["b", "c"]);
    assert_eq!(names(&replica(), Some("c")), ["c"]);
    assert_eq!(names(&with_mode(SyncMode::On), None), ["b"]);
    assert_eq!(names(&with_mode(SyncMode::Quorum), None), ["b", "c"]);
}

#[test]
fn outcomes_are_worded_like_the_reference() {
    let request = |change, candidate: Option<&str>| SwitchoverRequest {
        change,
        leader: None,
        candidate: candidate.map(name),
        scheduled_at: None,
    };
    let done = |to: &str| SwitchoverOutcome::Done { new_leader: name(to) };
    for (request, outcome, status, text) in [
        (request(Switchover, Some("b")), done("b"), 200, "Successfully switched over to \"b\""),
        (request(Switchover, None), done("c"), 200, "Successfully switched over to \"c\""),
        (request(Failover, Some("b")), done("b"), 200, "Successfully failed over to \"b\""),
        (request(Switchover, Some("b")), done("c"), 200, "Switched over to \"c\" instead of \"b\""),
        (request(Failover, Some("b")), done("c"), 200, "Failed over to \"c\" instead of \"b\""),
        (request(Switchover, None), SwitchoverOutcome::Scheduled, 202, "Switchover scheduled"),
        (
            request(Failover, Some("b")),
            SwitchoverOutcome::NoGoodCandidates,
            412,
            "failover is not possible: no good candidates have been found",
        ),
        (
            request(Switchover, None),
            SwitchoverOutcome::NotWritten,
            503,
            "failed to write failover key into DCS",
        ),
        (request(Failover, Some("b")), SwitchoverOutcome::Failed, 503, "Failover failed"),
        (
            request(Switchover, None),
            SwitchoverOutcome::Unknown { after_secs: 20 },
            503,
            "Switchover status unknown after 20 seconds; operation may still be in progress",
        ),
    ] {
        assert_eq!(reply(&request, outcome), Reply::message(status, text));
    }
}
