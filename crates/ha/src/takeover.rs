//! Quorum take-over: replacing a leader that enough voters have stopped hearing, without waiting for its lease.
//!
//! The protocol, its invariants and why they suffice: `docs/src/internals/quorum-takeover.md`. In short: whoever is bound by a promise
//! receives nothing from anybody, so once so many are bound that they can elect, the old leader can acknowledge nothing any more.
//!
//! * [`off`]: when it does not apply, and why;
//! * [`suspicion`]: is the leader gone, as far as the electorate can tell? Asks, and changes nothing;
//! * [`epoch`]: opens and closes an attempt;
//! * [`promise`]: what a promise forbids, and when it is over;
//! * [`election`]: who may take over, and who should.
//!
//! Everything here rests on `/sync` and never on the names in PostgreSQL: see the election property in the protocol.

mod election;
mod epoch;
mod off;
mod promise;
mod suspicion;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    MemberName, Revision,
    cluster::{Cluster, Leader, SyncState},
    takeover::Takeover,
};

use crate::{Reason, View, draft::Draft};

pub use off::{Off, why_off};
pub(crate) use promise::{bound, forbids_copies};

/// How long those who promised wait for somebody to win before the attempt is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The case: who is to be replaced, and by whose consent.
pub(crate) struct Case<'c> {
    pub(crate) leader: &'c Leader,
    pub(crate) sync: &'c SyncState,
    pub(crate) sync_revision: Revision,
    cluster: &'c Cluster,
}

impl<'c> Case<'c> {
    /// Somebody else leads, and `/sync` has an electorate over it.
    pub(crate) fn of(view: &View, cluster: &'c Cluster) -> Option<Self> {
        let leader = cluster.leader.as_ref().filter(|leader| !view.is_me(&leader.name))?;
        let (sync, sync_revision) = (cluster.active_sync()?, cluster.sync_revision()?);
        Some(Self { leader, sync, sync_revision, cluster })
    }

    /// Whose consent counts: who can elect, without the leader that is to be replaced.
    pub(crate) fn elects(&self, name: &MemberName) -> bool {
        self.sync.includes(name) && !self.leader.name.same_standby(name) && !self.has_namesake(name)
    }

    /// PostgreSQL tells these two apart no better than `/sync` does: whose acknowledgement counted, nobody knows.
    fn has_namesake(&self, name: &MemberName) -> bool {
        self.cluster.members.keys().any(|other| other != name && other.same_standby(name))
    }

    /// So many can elect.
    pub(crate) fn is_enough(&self, members: usize) -> bool {
        members > usize::try_from(self.sync.quorum).unwrap_or(usize::MAX)
    }

    /// The electorate but for `me`, and where to ask it.
    fn others(&self, me: &MemberName) -> BTreeMap<MemberName, String> {
        let others = self.cluster.members.values();
        others
            .filter(|member| member.name != *me && self.elects(&member.name))
            .filter_map(|member| Some((member.name.clone(), member.api_url.clone()?)))
            .collect()
    }

    fn live_epoch(&self) -> Option<(&'c Takeover, Revision)> {
        self.cluster.live_epoch()
    }
}

/// As a standby of somebody else that nothing binds: watch the leader; suspect it, open an epoch, or promise. `Some` if that is what this
/// tick is about.
pub(crate) fn watch(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let case = Case::of(view, cluster)?;
    if let Some(why) = off::why_off(&view.settings, cluster, view.store.multi_key_transactions) {
        if case.elects(&view.me.name) && suspicion::is_deaf(view, &case) {
            draft.note(Reason::TakeoverOff { why: why.to_string() });
        }
        return None;
    }
    epoch::notice_end(draft, &case);
    if !case.elects(&view.me.name) || !suspicion::is_silent(draft, &case) {
        return None;
    }
    if !suspicion::is_gone(draft, &case) {
        return None;
    }
    match case.live_epoch() {
        Some((epoch, revision)) => promise::make(draft, &case, epoch, revision),
        None => epoch::open(draft, &case),
    }
}

/// A member that runs as primary although somebody took over from the leadership that it had: what was acknowledged since is not here.
/// `/history` may not tell it yet.
pub(crate) fn not_replaced(view: &View, cluster: &Cluster) -> Result<(), Reason> {
    let takeover = cluster.takeover.as_ref().and_then(|keyed| keyed.value.as_ref());
    let Some(taken) = takeover.and_then(|takeover| takeover.taken.as_ref()) else { return Ok(()) };
    let mine = view.server().and_then(|server| server.timeline);
    if view.is_me(&taken.by) || mine.is_some_and(|mine| mine >= taken.timeline) {
        return Ok(());
    }
    Err(Reason::ReplacedByTakeover { by: taken.by.clone() })
}
