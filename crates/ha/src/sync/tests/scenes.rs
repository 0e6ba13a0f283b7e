//! A primary with its standbys, and what is decided about them.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{Lsn, Term, cluster::SyncState, settings::SyncMode};

use crate::{
    Action, Decision, Reason,
    draft::Draft,
    sync,
    testing::{POSITION, Scene, leader},
    view::Standby,
};

/// A connection of `member` at the common position.
pub(super) fn standby(member: &str, sync_state: &str) -> Standby {
    standby_at(member, sync_state, POSITION)
}

pub(super) fn standby_at(member: &str, sync_state: &str, position: Lsn) -> Standby {
    Standby {
        application_name: member.to_owned(),
        connection: format!("connection of {member}"),
        state: "streaming".to_owned(),
        sync_state: sync_state.to_owned(),
        write: Some(position),
        flush: Some(position),
        replay: Some(position),
    }
}

/// `a` leads in this mode; these stream from it, and these names are shown.
pub(super) fn primary(mode: SyncMode, names: &str, standbys: &[Standby]) -> Scene {
    let scene = leader().settings(|settings| settings.synchronous_mode = mode).server(|server| {
        server.synchronous_standby_names = names.to_owned();
        server.standbys = standbys.to_vec();
    });
    // It has led for a while, so it knows what was tried.
    scene.memory(|memory| {
        memory.sync.term = Some(Term(100));
        memory.sync.names_seen = names.is_empty().then(String::new);
    })
}

pub(super) fn process(scene: &Scene) -> Decision {
    let view = scene.clone().build();
    let cluster = view.store.cluster.clone().expect("a cluster");
    let mut draft = Draft::new(&view);
    sync::process(&view, &cluster, &mut draft);
    draft.finish(Reason::Paused)
}

pub(super) fn prepare(scene: &Scene) -> (bool, Decision) {
    let view = scene.clone().build();
    let cluster = view.store.cluster.clone().expect("a cluster");
    let mut draft = Draft::new(&view);
    let reason = sync::prepare_promotion(&view, &cluster, &mut draft);
    (reason.is_ok(), draft.finish(Reason::Paused))
}

/// The next look at the same server, a while later.
pub(super) fn next(scene: Scene, decision: &Decision) -> Scene {
    let scene = scene.after(decision).later(Duration::from_millis(500));
    let now = scene.view.now;
    scene.lease(crate::testing::held(now)).server(|server| server.answered_at = now)
}

/// The same server, looked at so often that everything that can be proven is.
pub(super) fn proven(scene: Scene) -> Scene {
    let mut scene = scene;
    for _ in 0..4 {
        let mut decision = process(&scene);
        decision.actions.clear();
        decision.memory.sync.pending = None;
        decision.memory.sync.asked_names = None;
        scene = next(scene, &decision);
    }
    scene
}

pub(super) fn writes(decision: &Decision) -> Option<&SyncState> {
    decision.actions.iter().find_map(|action| match action {
        Action::WriteSync { state, .. } => Some(state),
        _ => None,
    })
}

pub(super) fn assigns(decision: &Decision) -> Option<&str> {
    decision.actions.iter().find_map(|action| match action {
        Action::SetSyncNames { names } => Some(names.as_str()),
        _ => None,
    })
}

pub(super) fn voters(decision: &Decision) -> Option<Vec<&str>> {
    writes(decision).map(|state| state.voters.iter().map(|voter| voter.as_str()).collect())
}

pub(super) fn tag(scene: Scene, of: &str, key: &str, value: serde_json::Value) -> Scene {
    scene.member(of, |member| member.tags.0 = BTreeMap::from([(key.to_owned(), value)]))
}
