//! The rules of quorum take-over, as `b` and others see them in the cluster of [`crate::testing`].

mod elections;
mod old_leader;
mod promises;
mod suspicion;
mod switched_off;

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
