//! The situation of one tick, in the words of synchronous replication, and the two writes that change it.

use std::collections::BTreeSet;

use bellwether_types::{
    MemberName,
    cluster::{Cluster, SyncState},
    settings::SyncMode,
};

use super::{
    eligible::{self, Replica},
    names::{Method, SyncNames},
    overlap::{self, Acknowledging, Electorate, Proof},
    ready,
};
use crate::{
    Action, Reason, View,
    draft::Draft,
    memory::{Attempt, PendingSync},
    view::Server,
};

/// How soon `synchronous_standby_names` is set again if the change does not show.
const NAMES_PACE: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) struct Scene<'v> {
    pub(super) view: &'v View,
    pub(super) cluster: &'v Cluster,
    pub(super) server: &'v Server,
    pub(super) me: String,
    /// `/sync` as it is; `None` while the mode is not active.
    pub(super) electorate: Option<Electorate>,
    /// `synchronous_standby_names` as the server shows it, with members spelled as they spell themselves.
    pub(super) shown: SyncNames,
    pub(super) replicas: Vec<Replica>,
}

impl<'v> Scene<'v> {
    pub(super) fn new(view: &'v View, cluster: &'v Cluster, server: &'v Server) -> Self {
        let shown = SyncNames::parse(&server.synchronous_standby_names);
        let names = shown.names.iter().map(|name| spell(view, cluster, name)).collect();
        Self {
            view,
            cluster,
            server,
            me: view.me.name.as_str().to_owned(),
            electorate: cluster.active_sync().map(|state| electorate(view, cluster, state)),
            shown: SyncNames { names, ..shown },
            replicas: eligible::replicas(view, cluster, server),
        }
    }

    pub(super) fn acknowledging(&self) -> Acknowledging {
        Acknowledging { count: self.shown.acknowledging(), names: self.shown.names.clone() }
    }

    /// The nobody who leads nothing, for when `/sync` is not active.
    pub(super) fn present(&self) -> Electorate {
        self.electorate.clone().unwrap_or_default()
    }

    pub(super) fn version(&self) -> u32 {
        self.view.postgres.server_version
    }

    /// Names of the replicas whose connection has passed the gate.
    pub(super) fn ready(&self, draft: &Draft) -> BTreeSet<&str> {
        let memory = &draft.memory.sync;
        let passed = self.replicas.iter().filter(|replica| memory.ready.contains(&replica.connection));
        passed.map(|replica| replica.name.as_str()).collect()
    }

    fn proof<'s>(&'s self, draft: &Draft, present: &'s Electorate) -> Proof<'s> {
        let memory = &draft.memory.sync;
        let spent = memory.stale.is_empty() && memory.gate.is_some() && memory.asked_names.is_none();
        let mut complete = self.ready(draft);
        // Where each voter alone can elect, each has everything.
        if present.quorum == 0 && present.meets(&self.acknowledging(), &self.me) {
            complete.extend(present.voters.iter().map(String::as_str));
        }
        Proof { replaced_texts_are_spent: spent, complete }
    }

    /// Writes `/sync` if that is safe now. `false`: it is not, and nothing was done.
    pub(super) fn write(&self, draft: &mut Draft, wanted: &Electorate, reason: Reason) -> bool {
        let present = self.present();
        let proof = self.proof(draft, &present);
        if !overlap::may_write(&present, wanted, &self.acknowledging(), &proof, &self.me) {
            return false;
        }
        let Some(state) = state(wanted) else { return false };
        self.write_state(draft, state, Some(reason));
        true
    }

    /// Writes `/sync` with no voters: nobody may follow this leader without asking it, which is always safe.
    pub(super) fn write_alone(&self, draft: &mut Draft, reason: Reason) {
        let leader = Some(self.view.me.name.clone());
        self.write_state(draft, SyncState { leader, ..SyncState::default() }, Some(reason));
    }

    fn write_state(&self, draft: &mut Draft, state: SyncState, reason: Option<Reason>) {
        let expect = self.cluster.sync_revision();
        if draft.attempt(Attempt::WriteSync, Action::WriteSync { expect, state: state.clone() }) {
            let pending = draft.memory.sync.pending.get_or_insert_default();
            if pending.on != expect {
                *pending = PendingSync { on: expect, ..PendingSync::default() };
            }
            if !pending.states.contains(&state) {
                pending.states.push(state);
            }
            if let Some(reason) = reason {
                draft.note(reason);
            }
        }
    }

    /// Sets `synchronous_standby_names` if that is safe now and they differ. `false`: nothing was done.
    pub(super) fn set_names(&self, draft: &mut Draft, wanted: &SyncNames) -> bool {
        self.set_text(draft, wanted, wanted.to_text(self.version()))
    }

    /// The same with a text of the caller's, for what names nobody.
    pub(super) fn set_text(&self, draft: &mut Draft, wanted: &SyncNames, text: String) -> bool {
        if text == self.server.synchronous_standby_names {
            return false;
        }
        let present = self.present();
        if draft.memory.sync.blind {
            ready::look_again(draft);
            return false;
        }
        let wanted = self.mixed(draft, wanted);
        if !overlap::may_set_names([&present], &wanted, &self.me) {
            return self.make_room(draft, &present, &wanted);
        }
        let pending =
            draft.memory.sync.pending.as_ref().filter(|pending| pending.on == self.cluster.sync_revision());
        let is_unknown = pending.is_some_and(|pending| pending.others);
        let pending: Vec<Electorate> = pending
            .into_iter()
            .flat_map(|pending| &pending.states)
            .map(|state| electorate(self.view, self.cluster, state))
            .collect();
        if is_unknown || !overlap::may_set_names(&pending, &wanted, &self.me) {
            // A write that may yet land does not fit. Writing what is there moves the revision on, and the other is refused.
            if let Some(sync) = &self.cluster.sync {
                self.write_state(draft, sync.value.clone(), None);
            }
            return true;
        }
        assign(draft, text);
        true
    }
}

impl Scene<'_> {
    /// What may acknowledge while walsenders read `wanted`: a walsender counts by its own text, but whoever lists *itself* by
    /// its own text is counted. So the smallest count goes with all names.
    fn mixed(&self, draft: &Draft, wanted: &SyncNames) -> Acknowledging {
        let mut mixed = Acknowledging { count: wanted.acknowledging(), names: wanted.names.clone() };
        let texts = draft.memory.sync.unspent.iter().map(|text| SyncNames::parse(text));
        for earlier in texts.chain([self.shown.clone()]).filter(|earlier| !earlier.names.is_empty()) {
            // A walsender releases only what its own standby has. By a list of one, that is the one who was listed before.
            let is_one = earlier.method == Method::First && earlier.acknowledging() == 1;
            if is_one && wanted.method == Method::First && earlier.names.is_subset(&wanted.names) {
                continue;
            }
            mixed.count = mixed.count.min(earlier.acknowledging());
            mixed.names.extend(earlier.names.iter().map(|name| spell(self.view, self.cluster, name)));
        }
        mixed
    }

    /// Makes `/sync` so strict that the names may be changed.
    fn make_room(&self, draft: &mut Draft, present: &Electorate, mixed: &Acknowledging) -> bool {
        if present.leader != self.me {
            return false;
        }
        let mut voters = &present.voters | &mixed.names;
        voters.remove(&self.me);
        let quorum = voters.len().saturating_sub(mixed.count);
        let wanted = Electorate { leader: self.me.clone(), quorum, voters }.tightened(present, &self.me);
        let reason = Reason::QuorumChanged {
            leader: self.me.clone(),
            quorum: wanted.quorum,
            of: wanted.voters.len(),
            voters: list(&wanted.voters),
        };
        let is_quorum = self.view.settings.sync_mode() == SyncMode::Quorum;
        if !is_quorum || wanted.quorum >= wanted.voters.len() || !self.write(draft, &wanted, reason) {
            let (from, to) = (quoted(&present.voters), String::new());
            self.write_alone(draft, Reason::SyncShrunk { from, to });
        }
        true
    }
}

/// Asks for a text of `synchronous_standby_names`; again only after a while, unless it is another one.
pub(super) fn assign(draft: &mut Draft, text: String) {
    let is_again = draft.memory.sync.asked_names.as_ref() == Some(&text);
    if !is_again {
        draft.memory.attempts.remove(&Attempt::SyncNames);
    }
    if draft.every(NAMES_PACE, Attempt::SyncNames, Action::SetSyncNames { names: text.clone() }) {
        draft.note(Reason::SyncNamesAssigned { names: text.clone() });
        if text.is_empty() {
            draft.memory.sync.defined_since = None;
        }
        if !draft.memory.sync.unspent.contains(&text) {
            draft.memory.sync.unspent.push(text.clone());
        }
        draft.memory.sync.asked_names = Some(text);
        let now = draft.now();
        draft.memory.sync.waiting_since = now;
    }
    ready::look_again(draft);
}

/// `/sync` in names as members spell them.
pub(super) fn electorate(view: &View, cluster: &Cluster, state: &SyncState) -> Electorate {
    let spell = |name: &MemberName| spell(view, cluster, name.as_str());
    Electorate {
        leader: state.leader.as_ref().map(spell).unwrap_or_default(),
        quorum: usize::try_from(state.quorum).unwrap_or(usize::MAX),
        voters: state.voters.iter().map(spell).collect(),
    }
}

/// `None` if somebody in it cannot be a member.
pub(super) fn state(electorate: &Electorate) -> Option<SyncState> {
    let voters = electorate.voters.iter().map(|name| MemberName::new(name.clone()).ok());
    Some(SyncState {
        leader: Some(MemberName::new(electorate.leader.clone()).ok()?),
        quorum: u32::try_from(electorate.quorum).ok()?,
        voters: voters.collect::<Option<_>>()?,
    })
}

/// PostgreSQL folds case when it compares names: one spelling for all, that of the member.
fn spell(view: &View, cluster: &Cluster, name: &str) -> String {
    let known = [&view.me.name].into_iter().chain(cluster.members.keys());
    let mut same = known.map(MemberName::as_str).filter(|known| known.eq_ignore_ascii_case(name));
    same.next().unwrap_or(name).to_owned()
}

/// For log lines: `a, b`.
pub(super) fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// For log lines that have them in brackets: `'a', 'b'`.
pub(super) fn quoted(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
