use bellwether_types::{
    LeaseId, MemberName, Revision, SystemId, Term,
    cluster::{Keyed, Leader, PeerProtocol},
};
use serde_json::json;

use super::*;
use crate::adopt::findings::{Data, Server};

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn system_id(text: &str) -> SystemId {
    text.parse().unwrap()
}

fn member(text: &str, version: &str, ours: bool) -> Member {
    let bellwether = ours.then(|| PeerProtocol { version: "1".into(), level: 1 });
    Member { version: Some(version.into()), bellwether, ..Member::unknown(name(text)) }
}

/// A healthy Patroni cluster of a (the leader), b and c, seen from b.
fn patroni() -> Findings {
    let members = ["a", "b", "c"].map(|text| (name(text), member(text, "4.1.5", false)));
    let cluster = Cluster {
        members: members.into_iter().collect(),
        initialize: Some(Keyed {
            value: Initialize::Done(system_id("7421833905512378144")),
            revision: Revision(1),
        }),
        leader: Some(Leader {
            name: name("a"),
            term: Term(1),
            revision: Revision(1),
            lease: None::<LeaseId>,
        }),
        ..Cluster::default()
    };
    Findings {
        me: name("b"),
        scope: "main".into(),
        store_is_embedded: false,
        doubts: vec![],
        cluster: Ok(cluster),
        agent: Some(json!({"patroni": {"version": "4.1.5", "scope": "main"}})),
        data: Data {
            path: "/data".into(),
            major: Some(15),
            system_id: Some(system_id("7421833905512378144")),
            allows_rewind: Some(true),
            postmaster: Some(7),
            ..Data::default()
        },
        server: Some(Ok(Server { in_recovery: true, ..Server::default() })),
        units: vec![],
    }
}

fn cluster(findings: &mut Findings) -> &mut Cluster {
    findings.cluster.as_mut().unwrap()
}

#[test]
fn nothing_stands_in_the_way_of_a_healthy_replica() {
    let plan = make(&patroni());
    assert_eq!(plan.obstacles, Vec::<String>::new());
    assert!(plan.facts.iter().any(|fact| fact.contains("Patroni 4.1.5 runs this node")), "{plan:?}");
    assert!(plan.steps.iter().any(|step| step.contains("disable --now patroni.service")), "{plan:?}");
    assert!(!plan.steps.iter().any(|step| step.contains("switchover")), "{plan:?}");
}

#[test]
fn a_leader_is_switched_over_first_unless_the_cluster_is_paused() {
    let mut findings = patroni();
    findings.me = name("a");
    let plan = make(&findings);
    assert!(plan.steps.iter().any(|step| step.contains("switchover")), "{plan:?}");
    let document = bellwether_types::cluster::ConfigDocument::Valid(json!({"pause": true}));
    cluster(&mut findings).config = Some(Keyed { value: document, revision: Revision(2) });
    let plan = make(&findings);
    assert!(!plan.steps.iter().any(|step| step.contains("switchover")), "{plan:?}");
    assert!(plan.steps.iter().any(|step| step.contains("resume")), "{plan:?}");
}

#[test]
fn each_obstacle_is_told() {
    type Change = fn(&mut Findings);
    let cases: [(&str, Change, &str); 9] = [
        (
            "a silent store",
            |findings| findings.cluster = Err("timed out".into()),
            "the store does not answer",
        ),
        ("Patroni's raft", |findings| findings.store_is_embedded = true, "do not understand each other"),
        (
            "foreign data",
            |findings| findings.data.system_id = Some(system_id("7000000000000000001")),
            "belongs to another cluster",
        ),
        ("an old server", |findings| findings.data.major = Some(11), "PostgreSQL 11 is not supported"),
        (
            "an old Patroni",
            |findings| {
                cluster(findings).members.insert(name("c"), member("c", "3.3.2", false));
            },
            "c runs Patroni 3.3.2",
        ),
        (
            "a standby without its primary",
            |findings| {
                findings.cluster = Ok(Cluster::default());
                findings.agent = None;
            },
            "begin with the primary",
        ),
        (
            "a stopped primary that nobody knows",
            |findings| {
                findings.cluster = Ok(Cluster::default());
                findings.agent = None;
                findings.data.postmaster = None;
                findings.server = None;
            },
            "only a running primary founds",
        ),
        (
            "a missing role",
            |findings| {
                let missing_roles = vec!["replication role: CREATE ROLE r".to_owned()];
                findings.server = Some(Ok(Server { missing_roles, ..Server::default() }));
            },
            "CREATE ROLE r",
        ),
        ("no login", |findings| findings.server = Some(Err("no password".into())), "cannot be asked"),
    ];
    for (case, change, expected) in cases {
        let mut findings = patroni();
        change(&mut findings);
        let plan = make(&findings);
        assert!(plan.obstacles.iter().any(|text| text.contains(expected)), "{case}: {plan:?}");
    }
}

#[test]
fn a_bare_primary_is_told_what_changes() {
    let mut findings = patroni();
    findings.cluster = Ok(Cluster::default());
    findings.agent = None;
    findings.server = Some(Ok(Server {
        standbys: vec!["c".into()],
        other_values: vec![("cluster_name".into(), "empty".into(), "main".into())],
        slots: ["mine".to_owned()].into(),
        ..Server::default()
    }));
    let plan = make(&findings);
    assert_eq!(findings.situation(), Situation::Bare);
    assert_eq!(plan.obstacles, Vec::<String>::new());
    assert!(plan.facts.iter().any(|fact| fact == "the server is a primary, followed by c"), "{plan:?}");
    assert!(
        plan.not_kept.iter().any(|text| text.starts_with("cluster_name is empty and becomes main")),
        "{plan:?}"
    );
    assert!(plan.not_kept.iter().any(|text| text.contains("ignore_slots` (mine)")), "{plan:?}");
    assert!(plan.steps.iter().any(|step| step.contains("without --now")), "{plan:?}");
}
