//! The rules of quorum take-over, as `b` and others see them in the cluster of [`crate::testing`].

use std::time::Duration;

use bellwether_types::{
    Lsn, MemberName, Revision, TimelineId, WalPosition,
    cluster::{Keyed, PeerProtocol},
    settings::SyncMode,
    takeover::{EpochState, Heard, Promise, Taken, Takeover, Word},
};

use super::{Off, why_off};
use crate::{
    Action, Decision,
    action::{StartRole, TakeOver},
    testing::{NOW, POSITION, Scene, leader, name, replica, silence, standby},
    view::{FailsafeAcceptance, Hearing, Kept, PeerAnswer, PeerReport, RequestKind, Watchdog},
};

/// The revision at which the epoch of these stories was opened.
const OPENED: Revision = Revision(300);
const LONG_AGO: Duration = Duration::from_millis(1_200);

/// `b` in a cluster of mode quorum: a leads, b and c vote, both are needed.
fn voter() -> Scene {
    let scene = replica().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let mut scene = scene.settings(|settings| settings.quorum_takeover = true);
    for member in scene.cluster.members.values_mut() {
        member.bellwether = Some(PeerProtocol { version: "0.1.0".to_owned(), level: 1 });
    }
    scene.view(|view| {
        view.takeover.hearing = Some(Hearing { upstream: name("a"), heard_at: view.now });
    })
}

/// It has heard nothing from the leader for so long.
fn silent_for(scene: Scene, silence: Duration) -> Scene {
    scene.view(|view| {
        let heard_at = view.now.saturating_sub(silence);
        view.takeover.hearing = Some(Hearing { upstream: name("a"), heard_at });
    })
}

fn deaf(ago_ms: u64) -> PeerReport {
    let heard = Some(Heard { from: name("a"), ago_ms });
    PeerReport { takeover: Word { heard, promise: None }, ..standby() }
}

fn promise(lsn: Lsn) -> Promise {
    let position = WalPosition { timeline: TimelineId(1), lsn };
    Promise { revision: OPENED, epoch: 1, leader: name("a"), position }
}

fn promised(lsn: Lsn) -> PeerReport {
    let word = Word { heard: None, promise: Some(promise(lsn)) };
    PeerReport { takeover: word, position: Some(lsn), ..standby() }
}

fn answer(report: PeerReport) -> PeerAnswer {
    PeerAnswer::Answered(report)
}

fn epoch() -> Takeover {
    Takeover {
        epoch: 1,
        state: EpochState::Open,
        opened_by: name("c"),
        leader: name("a"),
        leader_revision: Revision(100),
        sync_revision: Revision(120),
        taken: None,
    }
}

fn with_epoch(scene: Scene, takeover: Takeover) -> Scene {
    scene.cluster(|cluster| {
        cluster.takeover = Some(Keyed { value: Some(takeover), revision: OPENED });
        cluster.revision = OPENED;
    })
}

/// Deaf for long enough, and nobody else heard from `a` either.
fn sure() -> Scene {
    let scene = silent_for(voter(), LONG_AGO);
    scene.answers(&[("a", silence()), ("c", answer(deaf(1_300)))])
}

/// Bound by a promise that it made so long ago.
fn bound_for(since: Duration) -> Scene {
    let scene = with_epoch(silent_for(voter(), LONG_AGO), epoch());
    scene.view(|view| {
        view.takeover.promise =
            Some(Kept { promise: promise(POSITION), made_at: view.now.saturating_sub(since) });
        view.postgres.upstream = None;
        if let Some(server) = &mut view.postgres.server {
            server.streaming = false;
        }
    })
}

fn taking(decision: &Decision) -> Option<&TakeOver> {
    decision.actions.iter().find_map(|action| match action {
        Action::TakeOver(over) => Some(&**over),
        _ => None,
    })
}

fn attaches(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| {
        matches!(
            action,
            Action::Follow { upstream: Some(_) }
                | Action::Start { role: StartRole::Standby { upstream: Some(_) } }
                | Action::Clone { .. }
                | Action::Rewind { .. }
                | Action::Reinitialize { .. }
        )
    })
}

fn opens(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::OpenEpoch { .. }))
}

fn promises(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::DetachAndPromise { .. }))
}

fn forgets(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::ForgetPromise { .. }))
}

fn closes(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::CloseEpoch { opened_at: OPENED, .. }))
}

// --- suspicion ---

#[test]
fn a_leader_that_is_heard_is_left_alone() {
    let decision = voter().decide();
    assert!(decision.deeds().is_empty(), "{decision:#?}");
    let half = silent_for(voter(), Duration::from_millis(600)).decide();
    assert!(matches!(half.deeds()[..], [Action::PollPeers { .. }]), "asks in good time: {half:#?}");
    assert!(half.says("suspecting_leader") && !opens(&half));
}

#[test]
fn silence_alone_is_no_suspicion() {
    let scene = silent_for(voter(), LONG_AGO);
    let answers =
        [("a", answer(PeerReport { is_running_primary: true, ..standby() })), ("c", answer(deaf(1_300)))];
    let decision = scene.answers(&answers).decide();
    assert!(decision.says("takeover_leader_answers") && !opens(&decision), "{decision:#?}");
}

#[test]
fn a_leader_that_was_silent_and_lived_may_be_silent_for_longer_next_time() {
    let millis = Duration::from_millis;
    // What is seen at each of these times, of a leader that was heard so long before.
    let after = |looks: &[(u64, u64)]| {
        let mut scene = voter();
        for (at, silence) in looks {
            let looked = silent_for(voter().later(millis(*at)), millis(*silence));
            scene = looked.memory(|memory| memory.takeover = scene.view.memory.takeover.clone());
            let decision = scene.decide();
            scene = scene.memory(|memory| *memory = decision.memory);
        }
        scene.view.memory.takeover
    };
    let opens_after = |looks: &[(u64, u64)], at: u64, silence: u64| {
        let memory = after(looks);
        let scene = silent_for(voter().later(millis(at)), millis(silence));
        let scene = scene.answers(&[("a", crate::testing::silence()), ("c", answer(deaf(silence)))]);
        opens(&scene.memory(|before| before.takeover = memory).decide())
    };
    let healthy = [(0, 0), (500, 500), (600, 10)];
    assert!(opens_after(&healthy, 2_000, 1_000), "what keepalives explain is nothing new");
    let slow = [(0, 0), (500, 500), (800, 800), (900, 10)];
    assert!(!opens_after(&slow, 2_200, 1_199));
    assert!(opens_after(&slow, 2_200, 1_200));
    assert!(opens_after(&slow, 700_000, 1_000), "ten minutes later it is forgotten");
    let slower = [(0, 0), (900, 900), (1_900, 1_900), (2_000, 10)];
    assert!(opens_after(&slower, 5_000, 2_000), "no more than twice as long");
    // Nothing has come; when the last message came is told a little differently each time.
    let dead = [(0, 0), (500, 499), (950, 947)];
    assert!(opens_after(&dead, 1_006, 1_001));
}

#[test]
fn who_still_hears_the_leader_has_a_veto() {
    let decision =
        silent_for(voter(), LONG_AGO).answers(&[("a", silence()), ("c", answer(deaf(200)))]).decide();
    assert!(decision.says("takeover_veto") && !opens(&decision), "{decision:#?}");
}

#[test]
fn an_epoch_is_opened_when_enough_have_stopped_hearing_the_leader() {
    let decision = sure().decide();
    let opened = decision.actions.iter().find_map(|action| match action {
        Action::OpenEpoch { expect, takeover } => Some((expect, takeover)),
        _ => None,
    });
    let (expect, takeover) = opened.unwrap_or_else(|| panic!("{decision:#?}"));
    assert_eq!(*expect, None);
    assert_eq!(*takeover, Takeover { opened_by: name("b"), ..epoch() });
    assert!(!promises(&decision), "only what is seen in the store is promised for");

    let alone = silent_for(voter(), LONG_AGO).answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("takeover_too_few") && !opens(&alone), "{alone:#?}");
    // With two votes to spare nobody else is needed.
    let scene = silent_for(voter(), LONG_AGO).sync(SyncMode::Quorum, "a", &["b", "c"], 0);
    assert!(opens(&scene.answers(&[("a", silence()), ("c", silence())]).decide()));
}

#[test]
fn nobody_is_waited_for_who_did_not_answer() {
    let scene = silent_for(voter(), LONG_AGO).sync(SyncMode::Quorum, "a", &["b", "c"], 0);
    let asked = scene.answers(&[("a", silence()), ("c", silence())]).view(|view| {
        // When half of the time had passed.
        view.peers.polled_at = Some(view.now.saturating_sub(Duration::from_millis(600)));
    });
    assert!(opens(&asked.decide()), "{:#?}", asked.decide());
}

#[test]
fn only_the_electorate_acts() {
    let scene = sure().sync(SyncMode::Quorum, "a", &["c", "d"], 1);
    let decision = scene.decide();
    assert!(!opens(&decision) && !promises(&decision), "{decision:#?}");
}

#[test]
fn an_epoch_is_numbered_and_remembers_the_last_take_over() {
    let taken = Some(Taken { by: name("a"), from: name("c"), timeline: TimelineId(1) });
    let before = Takeover { epoch: 7, state: EpochState::Taken, taken: taken.clone(), ..epoch() };
    let decision = with_epoch(sure(), before).decide();
    let opened = decision.actions.iter().find_map(|action| match action {
        Action::OpenEpoch { expect: Some(OPENED), takeover } => Some((takeover.epoch, &takeover.taken)),
        _ => None,
    });
    assert_eq!(opened, Some((8, &taken)), "{decision:#?}");
}

#[test]
fn an_attempt_that_led_to_nothing_is_not_repeated_in_a_hurry() {
    let closed = Takeover { state: EpochState::Closed, ..epoch() };
    let scene = with_epoch(sure(), closed);
    let first = scene.decide();
    assert!(first.says("takeover_failed_shortly_ago") && !opens(&first), "{first:#?}");
    let later = scene.after(&first).later(Duration::from_secs(6));
    // It lived after the first silence, so the second one must be longer.
    let later = silent_for(later, Duration::from_secs(2));
    let later = later.answers(&[("a", silence()), ("c", answer(deaf(2_000)))]).decide();
    assert!(opens(&later), "{later:#?}");
}

#[test]
fn whoever_may_not_lead_opens_nothing() {
    for (case, scene, reason) in [
        (
            "a leader that was accepted to go on without the store",
            sure()
                .settings(|settings| settings.failsafe_mode = true)
                .view(|view| view.failsafe.accepted = accepted()),
            "leader_alive_by_failsafe",
        ),
        ("nofailover", tagged(sure()), "not_allowed_to_promote"),
        (
            "no watchdog",
            sure().view(|view| view.fencing.watchdog = Watchdog::Required { usable: false, active: false }),
            "watchdog_not_usable",
        ),
        ("an operator chose", sure().request(Some("a"), Some("c")), "takeover_leaves_request"),
    ] {
        let decision = scene.decide();
        assert!(decision.says(reason) && !opens(&decision), "{case}: {decision:#?}");
    }
}

fn tagged(scene: Scene) -> Scene {
    scene.view(|view| {
        view.me.tags.0.insert("nofailover".to_owned(), true.into());
    })
}

fn accepted() -> Option<FailsafeAcceptance> {
    Some(FailsafeAcceptance {
        leader: name("a"),
        conn_url: "postgres://a:5432/postgres".to_owned(),
        api_url: "http://a:8008/patroni".to_owned(),
        until: NOW + Duration::from_secs(3),
        slots: [].into(),
    })
}

// --- promises ---

#[test]
fn a_promise_is_made_for_a_live_epoch_on_own_evidence() {
    let decision = with_epoch(sure(), epoch()).decide();
    let promised = Action::DetachAndPromise { revision: OPENED, epoch: 1, leader: name("a") };
    assert!(decision.actions.contains(&promised), "{decision:#?}");
    assert!(!attaches(&decision) && taking(&decision).is_none());

    for (case, scene) in [
        ("hears the leader", with_epoch(voter(), epoch())),
        (
            "the leader's agent answers",
            with_epoch(
                silent_for(voter(), LONG_AGO)
                    .answers(&[("a", answer(standby())), ("c", answer(deaf(1_300)))]),
                epoch(),
            ),
        ),
        ("leader changed", with_epoch(sure(), Takeover { leader_revision: Revision(99), ..epoch() })),
        ("/sync changed", with_epoch(sure(), Takeover { sync_revision: Revision(119), ..epoch() })),
        (
            "accepted by failsafe",
            with_epoch(sure(), epoch())
                .settings(|settings| settings.failsafe_mode = true)
                .view(|view| view.failsafe.accepted = accepted()),
        ),
        ("hangs", with_epoch(sure(), epoch()).hanging_for(Duration::from_secs(9))),
        (
            "was restarted, and does not know yet how much it has",
            with_epoch(sure(), epoch()).server(|server| server.has_read_own_wal = false),
        ),
    ] {
        assert!(!promises(&scene.decide()), "{case}: {:#?}", scene.decide());
    }
}

#[test]
fn of_two_members_with_one_name_neither_is_counted() {
    let with_namesake = |scene: Scene| {
        scene.cluster(|cluster| {
            let mut namesake = cluster.members[&name("c")].clone();
            namesake.name = name("C");
            cluster.members.insert(name("C"), namesake);
        })
    };
    let bound = bound_for(Duration::from_millis(150));
    let bound = bound.answers(&[("c", answer(promised(POSITION))), ("C", answer(promised(POSITION)))]);
    let decision = with_namesake(bound).decide();
    assert!(taking(&decision).is_none() && decision.says("takeover_too_few"), "{decision:#?}");
}

#[test]
fn who_may_not_lead_may_promise() {
    assert!(promises(&tagged(with_epoch(sure(), epoch())).decide()));
}

#[test]
fn who_streams_from_another_standby_may_promise_and_opens_nothing() {
    let elsewhere = |scene: Scene| {
        scene.view(|view| {
            view.takeover.hearing = Some(Hearing { upstream: name("c"), heard_at: view.now });
        })
    };
    assert!(promises(&elsewhere(with_epoch(sure(), epoch())).decide()));
    let decision = elsewhere(sure()).decide();
    assert!(!opens(&decision) && decision.deeds().is_empty(), "{decision:#?}");
}

#[test]
fn a_promise_binds_until_the_store_shows_that_the_epoch_is_over() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(deaf(1_300)))]);
    let bound = scene.decide();
    assert!(!attaches(&bound) && !forgets(&bound), "{bound:#?}");
    assert_eq!(bound.code(), "bound_by_promise");

    for (case, scene) in [
        ("closed", with_epoch(scene.clone(), Takeover { state: EpochState::Closed, ..epoch() })),
        ("the key is gone", scene.clone().cluster(|cluster| cluster.takeover = None)),
        (
            "/sync changed",
            scene.clone().sync(SyncMode::Quorum, "a", &["b"], 0).cluster(|cluster| {
                cluster.sync.as_mut().unwrap().revision = Revision(301);
            }),
        ),
        (
            "the lock was resumed",
            scene.clone().cluster(|cluster| {
                cluster.leader.as_mut().unwrap().revision = Revision(301);
            }),
        ),
        ("somebody else leads", scene.clone().leader_is("c")),
    ] {
        let decision = scene.decide();
        assert!(forgets(&decision) && attaches(&decision), "{case}: {decision:#?}");
        let order = |wanted: fn(&Action) -> bool| decision.actions.iter().position(wanted).unwrap();
        assert!(
            order(|action| matches!(action, Action::ForgetPromise { .. }))
                < order(|action| matches!(action, Action::Follow { .. })),
            "{case}"
        );
    }
}

#[test]
fn a_view_from_before_the_promise_frees_nobody() {
    let scene = bound_for(Duration::from_millis(50)).cluster(|cluster| cluster.takeover = None);
    let stale = scene.view(|view| {
        view.store.confirmed_at = view.now.saturating_sub(Duration::from_millis(60));
    });
    let decision = stale.decide();
    assert!(!forgets(&decision) && !attaches(&decision), "{decision:#?}");
}

#[test]
fn a_silent_store_frees_nobody() {
    for silence in [Duration::from_millis(500), Duration::from_secs(60)] {
        let decision = bound_for(Duration::from_secs(70)).silent_for(silence).decide();
        assert!(!forgets(&decision) && !attaches(&decision), "{silence:?}: {decision:#?}");
    }
}

#[test]
fn a_server_that_ends_while_bound_is_started_as_a_standby_of_nobody() {
    let decision = bound_for(Duration::from_millis(50)).stopped().decide();
    let start = Action::Start { role: StartRole::Standby { upstream: None } };
    assert!(decision.actions.contains(&start), "{decision:#?}");
    let missing = bound_for(Duration::from_millis(50)).stopped().empty().decide();
    assert!(!attaches(&missing), "{missing:#?}");
}

#[test]
fn a_bound_member_is_not_made_anew() {
    let scene = bound_for(Duration::from_millis(50));
    let scene = scene.asked(RequestKind::Reinitialize { force: true, from_leader: true });
    assert!(!attaches(&scene.decide()), "{:#?}", scene.decide());
}

// --- the election ---

#[test]
fn whoever_covers_enough_promises_takes_over() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    let decision = scene.decide();
    let over = taking(&decision).unwrap_or_else(|| panic!("{decision:#?}"));
    assert_eq!((over.opened_at, over.leader, over.sync), (OPENED, Revision(100), Revision(120)));
    assert_eq!(over.timeline.timeline, TimelineId(2));
    let taken = Some(Taken { by: name("b"), from: name("a"), timeline: TimelineId(2) });
    assert_eq!(over.takeover, Takeover { state: EpochState::Taken, taken, ..epoch() });
    assert_eq!(decision.code(), "taking_over");
}

#[test]
fn too_few_promises_are_no_election() {
    let earlier = PeerReport {
        takeover: Word {
            heard: None,
            promise: Some(Promise { revision: Revision(299), ..promise(POSITION) }),
        },
        ..standby()
    };
    let later_timeline = PeerReport {
        takeover: Word {
            heard: None,
            promise: Some(Promise {
                position: WalPosition { timeline: TimelineId(2), lsn: Lsn(1) },
                ..promise(POSITION)
            }),
        },
        ..standby()
    };
    for (case, report) in [
        ("no promise", deaf(1_300)),
        ("a promise for an earlier epoch", earlier),
        ("beyond this member", promised(Lsn(POSITION.0 + 1))),
        ("on another timeline", later_timeline),
    ] {
        let decision = bound_for(Duration::from_secs(1)).answers(&[("c", answer(report))]).decide();
        assert!(taking(&decision).is_none() && decision.says("takeover_too_few"), "{case}: {decision:#?}");
    }
    // Promises of members that do not elect count for nothing.
    let stranger = bound_for(Duration::from_secs(1)).answers(&[("d", answer(promised(POSITION)))]).decide();
    assert!(taking(&stranger).is_none(), "{stranger:#?}");
    let leader = bound_for(Duration::from_secs(1)).answers(&[("a", answer(promised(POSITION)))]).decide();
    assert!(taking(&leader).is_none(), "{leader:#?}");
}

/// Seed 9010806 of the simulator: the leader came back, and shrank `/sync` to another voter while promises were collected.
#[test]
fn an_epoch_that_is_over_is_not_won_by_the_sync_that_ended_it() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    assert!(taking(&scene.decide()).is_some());
    for voters in [&["b"][..], &["c"], &["b", "c"]] {
        let changed = scene.clone().sync(SyncMode::Quorum, "a", voters, 0).cluster(|cluster| {
            cluster.sync.as_mut().unwrap().revision = Revision(301);
        });
        // Heard of by a watch, so that the view is not known to be newer than the promise.
        let decision = changed
            .view(|view| view.store.confirmed_at = view.now.saturating_sub(Duration::from_millis(60)))
            .decide();
        assert!(taking(&decision).is_none() && !forgets(&decision), "{voters:?}: {decision:#?}");
        assert_eq!(decision.code(), "bound_by_promise");
    }
}

#[test]
fn the_best_one_is_waited_for_but_not_for_ever() {
    let wide = |since| {
        let mut scene = bound_for(since).sync(SyncMode::Quorum, "a", &["b", "c", "d"], 1);
        scene.cluster.sync.as_mut().unwrap().revision = Revision(120);
        scene
    };
    let more = Lsn(POSITION.0 + 0x100);
    let first = |since, c: PeerReport, d: PeerReport| {
        let decision = wide(since).answers(&[("c", answer(c)), ("d", answer(d))]).decide();
        (taking(&decision).is_some(), decision.says("takeover_left_to"))
    };
    let soon = Duration::from_millis(150);
    let late = Duration::from_millis(350);
    assert_eq!(first(soon, promised(more), promised(POSITION)), (false, true), "c has more");
    assert_eq!(first(late, promised(more), promised(POSITION)), (true, false), "b and d suffice without it");
    let favoured = PeerReport { failover_priority: 2, ..promised(POSITION) };
    assert_eq!(first(soon, favoured, promised(POSITION)), (false, true), "c is preferred");
    assert_eq!(first(soon, promised(POSITION), promised(POSITION)), (true, false), "b comes first by name");
    let barred = PeerReport { nofailover: true, ..promised(more) };
    assert_eq!(first(soon, barred, promised(POSITION)), (true, false), "c may not lead");
    let alone = promised(Lsn(more.0 + 1));
    assert_eq!(first(late, promised(more), alone), (false, false), "both have more: b does not suffice");
}

#[test]
fn those_who_have_not_promised_yet_are_waited_for_a_moment() {
    let wide = |since| {
        let mut scene = bound_for(since).sync(SyncMode::Quorum, "a", &["b", "c", "d"], 1);
        scene.cluster.sync.as_mut().unwrap().revision = Revision(120);
        let answers = [("c", answer(promised(POSITION))), ("d", answer(deaf(1_300)))];
        scene.answers(&answers).decide()
    };
    assert!(taking(&wide(Duration::from_millis(20))).is_none());
    assert!(taking(&wide(Duration::from_millis(120))).is_some());
}

#[test]
fn who_lacks_what_it_promised_or_a_timeline_does_not_lead() {
    let scene = || bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    for (case, scene, reason) in [
        ("lost WAL", scene().server(|server| server.position = Lsn(POSITION.0 - 1)), "takeover_not_replayed"),
        ("a newer timeline was taken", scene().claimed(2, "a"), "timeline_behind"),
        (
            "the leader published a newer one",
            scene().member("a", |member| member.timeline = Some(TimelineId(2))),
            "timeline_behind",
        ),
        ("nofailover", tagged(scene()), "not_allowed_to_promote"),
    ] {
        let decision = scene.decide();
        assert!(taking(&decision).is_none() && decision.says(reason), "{case}: {decision:#?}");
    }
}

#[test]
fn an_attempt_that_leads_nowhere_is_closed() {
    for (case, scene) in [
        ("nobody won", bound_for(Duration::from_millis(2_100)).answers(&[("c", answer(deaf(1_300)))])),
        ("c hears the leader", bound_for(Duration::from_millis(50)).answers(&[("c", answer(deaf(100)))])),
        ("pause", bound_for(Duration::from_millis(50)).settings(|settings| settings.pause = true)),
        ("the mode", bound_for(Duration::from_millis(50)).settings(|s| s.synchronous_mode = SyncMode::On)),
        ("switched off", bound_for(Duration::from_millis(50)).settings(|s| s.quorum_takeover = false)),
    ] {
        let decision = scene.decide();
        assert!(closes(&decision) && !attaches(&decision) && !forgets(&decision), "{case}: {decision:#?}");
        assert!(taking(&decision).is_none(), "{case}");
    }
}

#[test]
fn whoever_was_given_the_lock_is_bound_no_more() {
    let mut scene = bound_for(Duration::from_millis(50)).holding();
    scene.cluster.leader = crate::testing::leader().cluster.leader;
    scene.cluster.leader.as_mut().unwrap().revision = Revision(100);
    let decision = scene.decide();
    assert!(forgets(&decision) && decision.code() != "bound_by_promise", "{decision:#?}");
}

// --- the old leader ---

fn taken_by_b(scene: Scene) -> Scene {
    let taken = Some(Taken { by: name("b"), from: name("a"), timeline: TimelineId(2) });
    with_epoch(scene, Takeover { state: EpochState::Taken, taken, ..epoch() })
}

#[test]
fn a_leader_whose_key_bears_another_name_stops_before_its_renewal_is_refused() {
    // The key keeps the revision of its creation when it changes hands.
    let decision = leader()
        .cluster(|cluster| {
            let leader = cluster.leader.as_mut().unwrap();
            leader.name = name("b");
            leader.revision = Revision(500);
        })
        .decide();
    assert_eq!(decision.code(), "lost_leader_lock", "{decision:#?}");
}

#[test]
fn by_a_view_from_before_its_take_over_a_successor_follows_nobody() {
    let crate::view::LeaseView::Held { until, demote_at, term, .. } = crate::testing::held(NOW) else {
        unreachable!()
    };
    let revision = Revision(OPENED.0 + 1);
    let given = crate::view::LeaseView::Held { until, demote_at, term, revision, unavailable_since: None };
    let tries = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    let has_it = bound_for(Duration::from_millis(50)).lease(given);
    for (case, before) in [("it has tried", tries.decide()), ("it was given the lock", has_it.decide())] {
        // It gave the lock up without having read the store since; what it sees still names the leader that it replaced.
        let without = with_epoch(silent_for(voter(), LONG_AGO), epoch()).after(&before).view(|view| {
            view.memory.released_at = None;
            view.now = view.now + Duration::from_millis(20);
        });
        let blind = without.decide();
        assert!(blind.says("view_older_than_our_lock") && !attaches(&blind), "{case}: {blind:#?}");
        assert!(blind.deeds().is_empty(), "{case}: {blind:#?}");
        // Read since: it is as it seems.
        let read = without.clone().later(Duration::from_millis(1)).decide();
        assert!(!read.says("view_older_than_our_lock"), "{case}: {read:#?}");
        let later = without.leader_is("a").cluster(|cluster| cluster.revision = Revision(900)).decide();
        assert!(!later.says("view_older_than_our_lock"), "{case}: {later:#?}");
    }
}

#[test]
fn i7_who_was_replaced_does_not_take_the_lock_as_it_runs() {
    let answers = [("b", answer(standby())), ("c", answer(standby()))];
    let stale = |scene: Scene| {
        let scene = scene.sync(SyncMode::Quorum, "a", &["b", "c"], 1).unlocked();
        scene.lease(crate::view::LeaseView::NotHeld).answers(&answers)
    };
    assert!(stale(leader()).decide().actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
    let decision = taken_by_b(stale(leader())).decide();
    assert!(decision.says("replaced_by_takeover"), "{decision:#?}");
    assert!(!decision.actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
    let paused = taken_by_b(stale(leader()).settings(|settings| settings.pause = true)).decide();
    assert!(paused.says("replaced_by_takeover"), "{paused:#?}");
    assert!(!paused.actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
}

// --- off ---

#[test]
fn it_is_off_with_a_reason() {
    let on = sure();
    assert_eq!(why_off(&on.view.settings, &on.cluster, true), None);
    let foreign = |scene: Scene| scene.member("c", |member| member.bellwether = None);
    for (scene, keys, expected) in [
        (sure().settings(|s| s.quorum_takeover = false), true, Off::Setting),
        (sure().settings(|s| s.synchronous_mode = SyncMode::On), true, Off::Mode),
        (sure().settings(|s| s.pause = true), true, Off::Pause),
        (sure(), false, Off::Store),
        (foreign(sure()), true, Off::Foreign(MemberName::new("c").unwrap())),
        (sure().cluster(|cluster| cluster.sync = None), true, Off::NoVoters),
    ] {
        assert_eq!(why_off(&scene.view.settings, &scene.cluster, keys), Some(expected.clone()));
        let decision = scene.view(|view| view.store.multi_key_transactions = keys).decide();
        assert!(!opens(&decision), "{expected:?}: {decision:#?}");
        let is_case = expected != Off::NoVoters;
        assert_eq!(decision.says("takeover_off"), is_case, "{expected:?}: {decision:#?}");
    }
}

#[test]
fn nothing_of_it_runs_while_it_is_off() {
    let off = |scene: Scene| scene.settings(|settings| settings.quorum_takeover = false);
    let (with, without) = (off(with_epoch(sure(), epoch())).decide(), off(sure()).decide());
    for decision in [with, without] {
        assert!(decision.deeds().is_empty(), "{decision:#?}");
    }
}
