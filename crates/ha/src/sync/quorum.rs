//! Mode `quorum`: any `synchronous_node_count` of all replicas acknowledge, and a promotion asks enough of them to meet each commit.

use super::{
    eligible,
    names::{Method, SyncNames, has_any},
    overlap::Electorate,
    ready,
    resolver::{self, Situation, Step},
    scene::{Scene, list},
    strict,
};
use crate::{Reason, draft::Draft};

/// One step on the running primary.
pub(super) fn step(draft: &mut Draft, scene: &Scene) {
    let Some(electorate) = &scene.electorate else {
        scene.write_alone(draft, Reason::SyncEnabled);
        return;
    };
    let settings = &scene.view.settings;
    let wanted = usize::try_from(settings.wanted_sync()).unwrap_or(usize::MAX).max(1);
    let active = eligible::active(settings.sync_mode(), wanted, &scene.replicas);
    if electorate.leader == scene.me && strict::holds(draft, scene, active.len(), Method::Any) {
        return;
    }
    if write_as_any(draft, scene) {
        return;
    }
    let ready = scene.ready(draft);
    let situation = Situation {
        electorate: electorate.clone(),
        acknowledging: scene.acknowledging(),
        confirmed: active.iter().filter(|name| ready.contains(name.as_str())).count(),
        active,
        wanted,
        leader: scene.me.clone(),
    };
    let steps = resolver::resolve(&situation);
    for step in &steps {
        if take(draft, scene, electorate, step) {
            return;
        }
    }
    if !steps.is_empty() {
        let names = scene.server.synchronous_standby_names.clone();
        draft.note(Reason::SyncNotYetProven { names });
        ready::look_again(draft);
        return;
    }
    if situation.active.is_empty() && electorate.voters.is_empty() && electorate.leader == scene.me {
        // Nobody is there, and nobody is relied on: what is left is a text that names nobody.
        scene.set_names(draft, &SyncNames::default());
    }
}

/// Takes a step if it is safe now. `false`: it is not, or there is nothing to do.
fn take(draft: &mut Draft, scene: &Scene, present: &Electorate, step: &Step) -> bool {
    match step {
        Step::Electorate(wanted) => {
            // Before everything is proven more votes may do: that is no looser than what is in force.
            let tight = wanted.tightened(present, &scene.me);
            scene.write(draft, wanted, changed(wanted))
                || tight != *present
                    && tight.quorum < tight.voters.len()
                    && scene.write(draft, &tight, changed(&tight))
        }
        Step::Acknowledging(wanted) => {
            scene.set_names(draft, &SyncNames::any(wanted.count, wanted.names.clone()))
        }
        Step::Restart => false,
    }
}

fn changed(electorate: &Electorate) -> Reason {
    Reason::QuorumChanged {
        leader: electorate.leader.clone(),
        quorum: electorate.quorum,
        of: electorate.voters.len(),
        voters: list(&electorate.voters),
    }
}

/// A text of mode `on`, or somebody's own: the same names in the form of this mode, by which standbys are told to be ready.
fn write_as_any(draft: &mut Draft, scene: &Scene) -> bool {
    let shown = &scene.shown;
    let is_foreign = !shown.names.is_empty() && shown.method != Method::Any && has_any(scene.version());
    is_foreign && scene.set_names(draft, &SyncNames::any(shown.acknowledging(), shown.names.clone()))
}
