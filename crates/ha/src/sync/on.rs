//! Mode `on`: a fixed list of standbys, every one of which has every commit, and each of which may lead alone.
//!
//! Adding: `synchronous_standby_names` first, `/sync` second. Removing: `/sync` first, `synchronous_standby_names` second.

use std::collections::BTreeSet;

use super::{
    eligible,
    names::{Method, SyncNames},
    overlap::Electorate,
    ready,
    scene::{Scene, quoted},
    strict,
};
use crate::{Reason, draft::Draft};

/// One step on the running primary.
pub(super) fn step(draft: &mut Draft, scene: &Scene) {
    let Some(electorate) = &scene.electorate else {
        scene.write_alone(draft, Reason::SyncEnabled);
        return;
    };
    let voters = &electorate.voters;
    if electorate.leader != scene.me || electorate.quorum != 0 {
        // Somebody else's list, or one of quorum mode, whose voters do not each have everything.
        scene.write_alone(draft, Reason::SyncShrunk { from: quoted(voters), to: String::new() });
        return;
    }
    let settings = &scene.view.settings;
    let wanted = usize::try_from(settings.wanted_sync()).unwrap_or(usize::MAX);
    let picked = eligible::active(settings.sync_mode(), wanted, &scene.replicas);
    let confirmed = confirmed(draft, scene, &picked, voters);
    if picked == *voters && confirmed != *voters {
        // Somebody else changed the names: what they say now is what commits wait for.
        write(draft, scene, voters, confirmed);
        return;
    }
    if strict::holds(draft, scene, picked.len(), Method::First) {
        return;
    }
    let shown = &scene.shown;
    let is_in_place = is_mine(shown, picked.len()) && shown.names == picked;
    if picked == *voters && is_in_place {
        if picked.is_empty() {
            scene.set_names(draft, &SyncNames::default());
        }
        return;
    }
    let kept: BTreeSet<String> = voters & &confirmed;
    if kept != *voters {
        write(draft, scene, voters, kept);
        return;
    }
    if !is_in_place {
        if is_being_read(draft, scene, picked.len()) {
            ready::look_again(draft);
            return;
        }
        scene.set_names(draft, &SyncNames::all(picked));
        return;
    }
    if confirmed != *voters && !confirmed.is_empty() {
        write(draft, scene, voters, confirmed);
    } else if confirmed != picked {
        let names = scene.server.synchronous_standby_names.clone();
        draft.note(Reason::SyncNotYetProven { names });
        ready::look_again(draft);
    }
}

/// The names are others than those picked, but good enough, and walsenders are still reading them: until each has, the states
/// that standbys are picked by are those of an earlier text, and picking by them would go back and forth.
fn is_being_read(draft: &Draft, scene: &Scene, count: usize) -> bool {
    let streams = |name: &String| scene.replicas.iter().any(|replica| replica.name.as_str() == name);
    let is_good = is_mine(&scene.shown, count) && scene.shown.names.iter().all(streams);
    is_good && !draft.memory.sync.stale.is_empty()
}

/// A text of this mode with so many names, all of which acknowledge.
fn is_mine(shown: &SyncNames, count: usize) -> bool {
    shown.names.len() == count && shown.acknowledging() == count && shown.method == Method::First
}

/// The picked standbys that have every commit and go on acknowledging each.
fn confirmed(
    draft: &Draft,
    scene: &Scene,
    picked: &BTreeSet<String>,
    voters: &BTreeSet<String>,
) -> BTreeSet<String> {
    let ready = scene.ready(draft);
    let is_confirmed = |name: &str| ready.contains(name) || voters.contains(name);
    scene
        .replicas
        .iter()
        .filter(|replica| replica.sync_state == "sync")
        .map(|replica| replica.name.as_str())
        .filter(|&name| picked.contains(name) && is_confirmed(name))
        .map(str::to_owned)
        .collect()
}

fn write(draft: &mut Draft, scene: &Scene, from: &BTreeSet<String>, to: BTreeSet<String>) {
    let reason = if to.is_subset(from) {
        Reason::SyncShrunk { from: quoted(from), to: quoted(&to) }
    } else {
        Reason::SyncStatusAssigned { standbys: quoted(&to) }
    };
    let is_smaller = to.is_subset(from);
    let wanted = Electorate { leader: scene.me.clone(), quorum: 0, voters: to };
    if scene.write(draft, &wanted, reason.clone()) {
        return;
    }
    if is_smaller {
        // Not even the smaller list is what commits wait for.
        scene.write_alone(draft, reason);
    } else {
        ready::look_again(draft);
    }
}
