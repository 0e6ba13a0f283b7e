//! 6.D: votes where a quorum decides, and what a position proves.

use std::time::Duration;

use bellwether_types::{Lsn, TimelineId, settings::SyncMode};

use super::{BEFORE, BEYOND, acquires};
use crate::{
    Action,
    testing::{POSITION, Scene, orphan, silence, standby, standby_at},
    view::{AsOf, PeerAnswer, PeerReport},
};

#[test]
fn a_switchover_never_accepts_the_loss_of_what_a_quorum_acknowledged() {
    let scene =
        |candidate| orphan().request(Some("a"), Some(candidate)).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let lagging = scene("b").answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(
        lagging.says("peer_ahead") && !acquires(&lagging),
        "the leader died before it had handed over: {lagging:#?}"
    );
    let alone = scene("b").answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
    let level = scene("b").answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
    assert!(acquires(&level), "{level:#?}");

    // The other side of it: nobody waits for a candidate that will not take the lock.
    let behind_me = scene("c").answers(&[("a", silence()), ("c", standby_at(BEFORE))]).decide();
    assert!(acquires(&behind_me), "{behind_me:#?}");
    let outsider = orphan()
        .request(Some("a"), Some("c"))
        .sync(SyncMode::Quorum, "a", &["b"], 0)
        .answers(&[("a", silence()), ("c", standby_at(POSITION))])
        .decide();
    assert!(acquires(&outsider), "{outsider:#?}");
    let failover = orphan().request(None, Some("b")).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let failover = failover.answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(acquires(&failover), "a failover to a named member accepts the loss: {failover:#?}");
}

#[test]
fn the_writer_of_sync_needs_votes_like_anybody_else() {
    // Since it wrote the list, c may have been promoted by it, and its commits been acknowledged by a.
    let former = orphan().sync(SyncMode::Quorum, "b", &["a", "c"], 1);
    let alone = former.clone().answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
    let ahead = former.clone().answers(&[("a", standby_at(BEYOND)), ("c", silence())]).decide();
    assert!(!acquires(&ahead), "{ahead:#?}");
    let voted = former.answers(&[("a", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(acquires(&voted), "{voted:#?}");
}

#[test]
fn who_has_followed_a_later_promotion_gives_no_vote_whatever_its_position() {
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let later = PeerReport { position: Some(BEFORE), timeline: Some(TimelineId(9)), ..standby() };
    let decision = scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(later))]).decide();
    assert!(decision.says("quorum_unreachable") && !acquires(&decision), "{decision:#?}");
}

fn earlier(position: Lsn) -> PeerAnswer {
    let as_of = AsOf::Earlier { ago: Duration::from_secs(3) };
    PeerAnswer::Answered(PeerReport { position: Some(position), as_of, ..standby() })
}

#[test]
fn where_a_member_was_before_it_was_asked_is_no_vote() {
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let first = scene.clone().answers(&[("a", silence()), ("c", earlier(POSITION))]);
    let again = first.decide();
    assert!(matches!(again.deeds()[..], [Action::PollPeers { .. }]), "{again:#?}");
    // It has stayed so for as long as an answer may take.
    let overdue = first.after(&again).later(Duration::from_secs(2));
    let overdue = overdue.answers(&[("a", silence()), ("c", earlier(POSITION))]).decide();
    assert!(overdue.says("member_position_old") && overdue.says("quorum_unreachable"), "{overdue:#?}");
    assert!(!acquires(&overdue) && overdue.memory.old_positions_since.is_none(), "{overdue:#?}");
    let unsaid = PeerReport { as_of: AsOf::Unsaid, ..standby() };
    let of_patroni = scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(unsaid))]).decide();
    assert!(acquires(&of_patroni), "{of_patroni:#?}");
}

#[test]
fn a_member_that_replays_its_own_wal_gives_no_vote_and_blocks_only_with_what_it_shows() {
    let replaying = |position| {
        PeerAnswer::Answered(PeerReport { position: Some(position), as_of: AsOf::AtLeast, ..standby() })
    };
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    // It was restarted, and what it acknowledged lies beyond what it has replayed.
    let behind = scene.clone().answers(&[("a", silence()), ("c", replaying(BEFORE))]).decide();
    assert!(behind.says("member_replays_own_wal") && behind.says("quorum_unreachable"), "{behind:#?}");
    assert!(!acquires(&behind), "{behind:#?}");
    let ahead = scene.answers(&[("a", silence()), ("c", replaying(BEYOND))]).decide();
    assert!(ahead.says("peer_ahead") && !acquires(&ahead), "{ahead:#?}");
    let asynchronous = orphan().answers(&[("a", silence()), ("c", replaying(BEFORE))]).decide();
    assert!(acquires(&asynchronous), "nobody waits for it: {asynchronous:#?}");
}

#[test]
fn where_a_member_was_before_it_was_asked_does_not_show_that_it_is_not_ahead() {
    let first = orphan().answers(&[("a", silence()), ("c", earlier(BEFORE))]);
    let again = first.decide();
    assert!(matches!(again.deeds()[..], [Action::PollPeers { .. }]) && !acquires(&again), "{again:#?}");
    let present =
        first.clone().after(&again).answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(present.says("peer_ahead") && !acquires(&present), "{present:#?}");
    let overdue = first.after(&again).later(Duration::from_secs(2));
    let silent = overdue.clone().answers(&[("a", silence()), ("c", earlier(BEFORE))]).decide();
    assert!(acquires(&silent), "who cannot say where it is blocks nobody: {silent:#?}");
    let ahead = overdue.answers(&[("a", silence()), ("c", earlier(BEYOND))]).decide();
    assert!(ahead.says("peer_ahead") && !acquires(&ahead), "it was ahead already then: {ahead:#?}");
}

/// b leads by `/sync` on timeline 2; timeline 1 ended before [`POSITION`], and c has gone on on it.
fn voted_by_a_diverged_member() -> Scene {
    let stale = PeerReport { position: Some(BEYOND), timeline: Some(TimelineId(1)), ..standby() };
    let scene = orphan().sync(SyncMode::Quorum, "b", &["a", "c"], 1).history(2);
    let scene = scene.server(|server| server.timeline = Some(TimelineId(2)));
    scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(stale))])
}

#[test]
fn wal_that_a_promotion_gave_up_is_no_reason_to_deny_a_vote() {
    let decision = voted_by_a_diverged_member().decide();
    assert!(acquires(&decision) && decision.says("quorum_vote"), "{decision:#?}");
    let unrecorded = voted_by_a_diverged_member().cluster(|cluster| cluster.history = None).decide();
    assert!(!acquires(&unrecorded), "nothing says that c's WAL was given up: {unrecorded:#?}");
}

#[test]
fn without_enough_votes_an_operator_names_who_shall_lead() {
    let alone = |scene: Scene| scene.answers(&[("a", silence()), ("c", silence())]).decide();
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let refused = alone(scene.clone());
    let why = refused.reasons.iter().find(|reason| reason.code() == "quorum_unreachable").expect("a reason");
    assert!(!acquires(&refused) && why.sentence().contains("bellwether failover --candidate"), "{why:?}");
    let named = alone(scene.request(None, Some("b")));
    assert!(acquires(&named), "{named:#?}");
}

#[test]
fn the_vote_of_who_stepped_down_counts() {
    let scene = orphan().request(Some("a"), None).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let decision = scene.answers(&[("a", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(acquires(&decision), "{decision:#?}");
}

#[test]
fn a_list_that_asks_for_votes_does_so_in_any_mode() {
    let changed = orphan().sync(SyncMode::On, "a", &["b", "c"], 1);
    let switched = changed.clone().request(Some("a"), Some("b"));
    for scene in [changed, switched] {
        let alone = scene.clone().answers(&[("a", silence()), ("c", silence())]).decide();
        assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
        let voted = scene.answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
        assert!(acquires(&voted), "{voted:#?}");
    }
}
