//! When the leader is suspected, and an epoch opened.

use super::*;

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
