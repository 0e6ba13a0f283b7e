//! When none of it happens.

use super::*;

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
