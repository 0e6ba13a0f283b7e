//! Strict mode: rather no commit than one that only this server has.

use super::{
    names::{self, Method, SyncNames},
    scene::Scene,
};
use crate::{Reason, draft::Draft};

/// Too few standbys are there: keep commits waiting for those that might hold the last one, or for nobody that exists.
/// `true`: this is so, and nothing else may be changed.
pub(super) fn holds(draft: &mut Draft, scene: &Scene, active: usize, method: Method) -> bool {
    let least = usize::try_from(scene.view.settings.min_sync()).unwrap_or(usize::MAX);
    if active >= least {
        draft.memory.sync.strict_warned = false;
        return false;
    }
    let electorate = scene.present();
    let count = electorate.voters.len().saturating_sub(electorate.quorum).max(least);
    let wanted = SyncNames { method, count, names: electorate.voters };
    let text = match wanted.to_text(scene.version()) {
        text if text.is_empty() => names::placeholder(method, scene.version()),
        text => text,
    };
    if !draft.memory.sync.strict_warned {
        draft.memory.sync.strict_warned = true;
        let shown = &scene.server.synchronous_standby_names;
        let keeping = match *shown == text {
            true => format!("Continue using old value of synchronous_standby_names=\"{shown}\". "),
            false => String::new(),
        };
        draft.note(Reason::SyncStrictDelays { keeping });
    }
    scene.set_text(draft, &wanted, text);
    true
}
