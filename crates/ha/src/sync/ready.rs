//! What is proven about `synchronous_standby_names` on the running primary: who acts by it, and who has caught up.
//!
//! Three questions have to be answered before `/sync` may rely on a new text; [`super::overlap`] says why.
//!
//! **Do commits wait at all?** Backends ask a flag in shared memory, which only the checkpointer sets, when it has read the files. While it
//! is busy (an immediate checkpoint, the fsync phase of any) or stopped, a change from the empty text is shown everywhere, and
//! commits go on without waiting. So the checkpointer is told to read the files, and seen to have come back from that
//! ([`Action::ProveNamesInForce`]); only then is the gate taken. From one text that is not empty to the next the flag stays set.
//!
//! **Does every walsender act by it?** A walsender looks for a new configuration at the top of its loop, before it reads what its
//! standby reported and before it sends more WAL. So one that has sent WAL that did not exist when the text was first shown
//! has been at the top of its loop since, and what its standby wrote proves what it sent. One that is no longer listed says so
//! itself: its row turns `async`, because each walsender publishes its own place in the list. One that is not streaming
//! releases nobody. All others are *stale*. A replaced text that named nobody leaves nobody stale.
//!
//! **Who has caught up?** Once nobody is stale, the end of the WAL is the *gate*: whatever was acknowledged by an earlier text lies
//! before it. A listed standby beyond the gate has all of that.
//!
//! Both need WAL to be written, which an idle primary does not do by itself: hence [`Action::GenerateWal`], which never waits for
//! a standby. The proof starts over with each change of the text, whoever made it.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::settings::SyncMode;

use super::{
    eligible,
    names::{SyncNames, has_any},
};
use crate::{
    Action, Reason, View,
    draft::Draft,
    memory::{Attempt, SyncMemory},
    view::{Process, Server, Standby},
};

/// How often WAL is made for the proof.
const WAL_PACE: Duration = Duration::from_millis(200);
/// How often the checkpointer is asked.
const PROOF_PACE: Duration = Duration::from_millis(100);
/// How soon to look again at the server for something that should show at once.
const SOON: Duration = Duration::from_millis(20);

/// Takes in the server's answer. `false`: it is older than a change of ours, so it says nothing about the present.
pub(super) fn take_in(draft: &mut Draft, server: &Server) -> bool {
    let asked_at = draft.memory.attempts.get(&Attempt::SyncNames).copied().unwrap_or_default();
    if draft.memory.sync.asked_names.is_some() && server.answered_at <= asked_at {
        draft.wake_in(SOON);
        return false;
    }
    let is_new = server.answered_at > draft.memory.sync.seen_at || draft.memory.sync.names_seen.is_none();
    if is_new {
        draft.memory.sync.seen_at = server.answered_at;
        learn(draft, server);
    }
    true
}

fn learn(draft: &mut Draft, server: &Server) {
    let shown = &server.synchronous_standby_names;
    let names = SyncNames::parse(shown);
    let now = draft.now();
    let memory = &mut draft.memory.sync;
    if memory.asked_names.as_ref() == Some(shown) {
        memory.asked_names = None;
    }
    follow_definition(memory, server);
    let may_count = shown.is_empty() || are_in_force(draft);
    let memory = &mut draft.memory.sync;
    if memory.names_seen.as_ref() != Some(shown) {
        let before = memory.names_seen.replace(shown.clone());
        let is_first_look = before.is_none();
        let named_nobody = before.is_some_and(|before| SyncNames::parse(&before).names.is_empty());
        if !named_nobody {
            memory
                .stale
                .extend(server.standbys.iter().filter(|s| may_act(s, &names)).map(|s| s.connection.clone()));
        }
        memory.blind |= is_first_look && !memory.stale.is_empty();
        if !memory.unspent.contains(shown) {
            memory.unspent.push(shown.clone());
        }
        memory.changed_at = server.position;
        memory.gate = None;
        memory.waiting_since = now;
        memory.ready.clear();
        generate_wal(draft);
        return;
    }
    if !memory.stale.is_empty() {
        let changed_at = memory.changed_at;
        let stale: BTreeSet<String> = server
            .standbys
            .iter()
            .filter(|standby| memory.stale.contains(&standby.connection))
            .filter(|standby| may_act(standby, &names))
            .filter(|standby| standby.write.or(standby.flush).is_none_or(|sent| sent <= changed_at))
            .map(|standby| standby.connection.clone())
            .collect();
        memory.stale = stale;
        // The gate comes from a later answer than the last proof: nothing may be acknowledged between the two.
        generate_wal(draft);
        return;
    }
    memory.blind = false;
    if memory.asked_names.is_none() {
        memory.unspent = vec![shown.clone()];
    }
    if !may_count {
        // A commit that did not wait may be anywhere in the WAL until it is proven: the gate must lie behind it. Also after a
        // restart of the server.
        memory.gate = None;
        memory.ready.clear();
        draft.note(Reason::SyncNamesNotInForce { names: shown.clone() });
        draft.wake_in(SOON);
        return;
    }
    if memory.gate.is_none() {
        memory.gate = Some(server.position);
        memory.waiting_since = now;
        generate_wal(draft);
    }
    pass_gate(draft, server, &names);
}

/// This walsender may release waiting commits, by some text or other.
fn may_act(standby: &Standby, names: &SyncNames) -> bool {
    standby.state == "streaming" && (standby.sync_state != "async" || is_listed(standby, names))
}

fn is_listed(standby: &Standby, names: &SyncNames) -> bool {
    names.names.iter().any(|name| name.eq_ignore_ascii_case(&standby.application_name))
}

fn pass_gate(draft: &mut Draft, server: &Server, names: &SyncNames) {
    let view = draft.view;
    let expected = match view.settings.sync_mode() {
        SyncMode::Quorum if has_any(view.postgres.server_version) => ["quorum", "quorum"],
        SyncMode::Quorum => ["sync", "potential"],
        SyncMode::On | SyncMode::Off => ["sync", "sync"],
    };
    let memory = &mut draft.memory.sync;
    let Some(gate) = memory.gate else { return };
    memory.ready.retain(|connection| server.standbys.iter().any(|standby| standby.connection == *connection));
    let passed = server
        .standbys
        .iter()
        .filter(|standby| standby.state == "streaming" && is_listed(standby, names))
        .filter(|standby| expected.contains(&standby.sync_state.as_str()))
        .filter(|standby| eligible::position(server, standby).is_some_and(|position| position >= gate));
    memory.ready.extend(passed.map(|standby| standby.connection.clone()));
}

/// Notes since when the server has shown nothing but texts by which commits wait.
pub(super) fn follow_definition(memory: &mut SyncMemory, server: &Server) {
    if server.synchronous_standby_names.is_empty() {
        memory.defined_since = None;
        memory.unproven_since = None;
    } else if memory.asked_names.is_none() {
        memory.defined_since.get_or_insert(server.answered_at);
    }
}

/// Whether commits are known to wait for standbys. If not, the checkpointer is asked.
pub(super) fn are_in_force(draft: &mut Draft) -> bool {
    if is_read(draft.view, &draft.memory.sync) {
        draft.memory.sync.unproven_since = None;
        return true;
    }
    let now = draft.now();
    if draft.memory.sync.defined_since.is_some() {
        let since = *draft.memory.sync.unproven_since.get_or_insert(now);
        // The longer it takes, the more rarely: a look holds up the loop.
        let pace = (now.since(since) / 4).clamp(PROOF_PACE, draft.view.settings.loop_wait.max(PROOF_PACE));
        draft.every(pace, Attempt::ProveNamesInForce, Action::ProveNamesInForce);
    }
    false
}

/// The checkpointer has read the files after every text but those by which commits wait was gone from them.
fn is_read(view: &View, memory: &SyncMemory) -> bool {
    let Process::Running { since } = view.postgres.process else { return false };
    match (view.postgres.checkpointer_read_at, memory.defined_since) {
        (Some(read_at), Some(defined_since)) => read_at >= defined_since.max(since),
        _ => false,
    }
}

fn generate_wal(draft: &mut Draft) {
    draft.every(WAL_PACE, Attempt::GenerateWal, Action::GenerateWal);
}

/// Looks again soon; the longer it takes, the more rarely.
pub(super) fn look_again(draft: &mut Draft) {
    let waiting_for = draft.now().since(draft.memory.sync.waiting_since);
    draft.wake_in((waiting_for / 4).clamp(SOON, draft.view.settings.loop_wait.max(SOON)));
}
