//! `what_if`: the elections after a loss, as the core would hold them.

use std::collections::BTreeMap;

use bellwether_types::{
    Lsn, MemberName, Tags, WallTime,
    cluster::Cluster,
    settings::{Settings, SyncMode},
};
use serde_json::json;

use crate::{
    testing::{POSITION, Scene, leader, name, standby},
    view::PeerReport,
    what_if::{Commits, Outlook, Situation, Told, Verdict},
};

/// The healthy cluster with what its members tell.
struct Case {
    cluster: Cluster,
    settings: Settings,
    told: BTreeMap<MemberName, Told>,
}

impl Case {
    fn of(scene: Scene) -> Self {
        let view = scene.clone().build();
        let told = ["a", "b", "c"].map(|member| {
            let is_leader = member == "a";
            let role =
                if is_leader { bellwether_types::Role::Primary } else { bellwether_types::Role::Replica };
            let told = Told {
                report: PeerReport { role, is_running_primary: is_leader, ..standby() },
                is_running: true,
                is_streaming: !is_leader,
                tags: Tags::default(),
                system_id: view.postgres.system_id,
                server_version: 150_018,
            };
            (name(member), told)
        });
        Self { cluster: scene.cluster, settings: view.settings, told: told.into() }
    }

    fn told(mut self, member: &str, change: impl FnOnce(&mut Told)) -> Self {
        change(self.told.get_mut(&name(member)).unwrap());
        self
    }

    fn without(&self, lost: &str) -> Outlook {
        let situation = Situation {
            cluster: &self.cluster,
            settings: &self.settings,
            told: &self.told,
            wall: WallTime::from_unix_millis(1_800_000_000_000),
            multi_key_transactions: true,
        };
        situation.after_loss_of(&name(lost))
    }
}

fn elected(names: &[&str]) -> Verdict {
    match names {
        [] => Verdict::Nobody,
        names => Verdict::Elected { candidates: names.iter().map(|text| name(text)).collect() },
    }
}

fn codes(outlook: &Outlook, member: &str) -> Vec<&'static str> {
    outlook.others[&name(member)].reasons.iter().map(|reason| reason.code()).collect()
}

#[test]
fn equals_race_and_nobody_else_is_asked_for() {
    let outlook = Case::of(leader()).without("a");
    assert_eq!(outlook.verdict, elected(&["b", "c"]));
    assert_eq!(outlook.others.len(), 2);
    let risk = outlook.risk.unwrap();
    assert!(!risk.is_synchronous && risk.behind == 0 && risk.tolerated == 1_048_576);
}

#[test]
fn each_member_that_is_passed_over_says_why() {
    let behind = |told: &mut Told| told.report.position = Some(Lsn(POSITION.0 - 0x100));
    let far_behind = |told: &mut Told| told.report.position = Some(Lsn(POSITION.0 - 0x20_0000));
    let barred = |told: &mut Told| {
        told.tags = Tags([("nofailover".to_owned(), json!(true))].into());
        told.report.nofailover = true;
    };
    let preferred = |told: &mut Told| told.report.failover_priority = 2;
    let down = |told: &mut Told| {
        told.is_running = false;
        told.report.position = None;
    };
    let case = || Case::of(leader());
    for (what, case, member, winners, code) in [
        ("behind", case().told("c", behind), "c", &["b"][..], "peer_ahead"),
        ("far behind", case().told("b", far_behind).told("c", far_behind), "c", &[][..], "lag_too_high"),
        ("nofailover", case().told("b", barred), "b", &["c"][..], "not_allowed_to_promote"),
        ("priority", case().told("b", preferred), "c", &["b"][..], "peer_priority"),
        (
            "no watchdog",
            case().told("b", |told| told.report.watchdog_failed = true),
            "b",
            &["c"][..],
            "watchdog_not_usable",
        ),
        ("stopped", case().told("b", down), "b", &["c"][..], "starting_secondary"),
        (
            "two primaries",
            case().told("c", |told| told.report.is_running_primary = true),
            "b",
            &["c"][..],
            "primary_alive",
        ),
    ] {
        let outlook = case.without("a");
        assert!(codes(&outlook, member).contains(&code), "{what}: {:?}", outlook.others);
        assert_eq!(outlook.verdict, elected(winners), "{what}: {:?}", outlook.others);
    }
}

#[test]
fn a_member_that_does_not_answer_is_not_counted_on() {
    let mut case = Case::of(leader());
    case.told.remove(&name("b"));
    let outlook = case.without("a");
    assert_eq!(outlook.verdict, elected(&["c"]));
    assert_eq!(codes(&outlook, "b"), ["member_unreachable"]);
}

#[test]
fn with_a_quorum_the_votes_must_come_together() {
    let scene = || leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let outlook = Case::of(scene()).without("a");
    assert_eq!(outlook.verdict, elected(&["b", "c"]));
    assert!(outlook.risk.unwrap().is_synchronous);
    let mut alone = Case::of(scene());
    alone.told.remove(&name("b"));
    let outlook = alone.without("a");
    assert_eq!(outlook.verdict, Verdict::Nobody);
    assert!(codes(&outlook, "c").contains(&"quorum_unreachable"), "{outlook:?}");
    assert_eq!(outlook.risk, None);
}

#[test]
fn what_the_winner_lacks_is_at_risk() {
    let case = Case::of(leader()).told("a", |told| told.report.position = Some(Lsn(POSITION.0 + 0x80)));
    assert_eq!(case.without("a").risk.unwrap().behind, 0x80);
}

#[test]
fn in_pause_nobody_is_elected() {
    let outlook = Case::of(leader().settings(|settings| settings.pause = true)).without("a");
    assert_eq!(outlook.verdict, Verdict::Nobody);
}

#[test]
fn the_loss_of_a_replica_is_felt_by_commits_only() {
    let stays = Verdict::LeaderStays { leader: name("a") };
    let quorum = || leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let both = || leader().sync(SyncMode::Quorum, "a", &["b", "c"], 0);
    let on = || leader().sync(SyncMode::On, "a", &["b"], 0);
    let strict = |scene: Scene| scene.settings(|settings| settings.synchronous_mode_strict = true);
    for (what, case, commits) in [
        ("asynchronous", Case::of(leader()), Commits::GoOn),
        ("one of two acknowledges", Case::of(quorum()), Commits::GoOn),
        ("both acknowledge", Case::of(both()), Commits::WaitForList),
        ("replaced", Case::of(strict(on())), Commits::WaitForList),
        (
            "nobody to replace it",
            Case::of(strict(on())).told("c", |told| told.is_streaming = false),
            Commits::WaitForStandby,
        ),
        ("not one of the list", Case::of(leader().sync(SyncMode::On, "a", &["c"], 0)), Commits::GoOn),
    ] {
        let outlook = case.without("b");
        assert_eq!(outlook.verdict, stays, "{what}");
        assert_eq!(outlook.commits, commits, "{what}");
        assert!(outlook.others.is_empty() && outlook.risk.is_none(), "{what}");
    }
}
