//! Which changes are safe *now*: the one place that decides whether a step may be taken.
//!
//! # What must hold
//!
//! Let `a` be the actual leader, this member. A commit is acknowledged once `count` of the listed standbys have it; `a` has it
//! anyway. A set of members can elect once it contains `quorum + 1` of the voters and the recorded leader. Every set that can
//! elect must contain a member that has every acknowledged commit. A set with `a` in it always does, so only the others matter,
//! and by the pigeonhole principle it suffices that [`Electorate::meets`]: together the two groups are smaller than what both
//! need at least.
//!
//! # Why it is not enough to look at the two texts
//!
//! PostgreSQL has no instant at which a new `synchronous_standby_names` comes into force. Each walsender decides by its own copy
//! whether it may release waiting commits, and reads the new text when it gets to it; a walsender that is stopped in the middle
//! of that may wake up later and release by the old text once more. And commits acknowledged *earlier* were acknowledged by the
//! old text: they are on whom that one named. So behind the shown text stand all texts that it replaced, until it is proven
//! that they are of no effect any more. The rules below keep every one of them overlapping with `/sync`, without knowing them:
//!
//! While walsenders read a new text, texts even *mix*: each walsender publishes by its own text whether it is listed, and
//! counts by its own text how many of those who list themselves suffice. So the smallest count of the texts in force goes with
//! the names of all of them; `ANY 1 (b)` on its way to `ANY 2 (b,c)` may be satisfied by c alone.
//!
//! * [`may_set_names`]: that mixture must overlap with `/sync` as it is, and with each write of `/sync` that is under way and may
//!   yet land. If it does not, `/sync` is made stricter first.
//! * [`may_write`]: a new `/sync` must overlap with the shown text, and either
//!   * everybody who can elect by it can elect by the present one too ([`Electorate::is_no_looser_than`]): then what holds for all
//!     replaced texts goes on holding; or
//!   * it is proven that the replaced texts are spent: no walsender can still act by one of them (`stale` is empty) and
//!     everything acknowledged up to then lies before the gate, so that standbys beyond it have it. Among the voters there
//!     may be no more than `quorum` others, or they could elect by themselves; or
//!   * it has no voters: then nobody can elect without `a`.
//!
//! The proofs come from [`super::ready`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Who can elect: `/sync`, in the names that PostgreSQL uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Electorate {
    pub leader: String,
    /// Votes that a voter needs from the others.
    pub quorum: usize,
    pub voters: BTreeSet<String>,
}

/// Who acknowledges: `count` of these names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledging {
    pub count: usize,
    pub names: BTreeSet<String>,
}

/// What is known about the shown names.
#[derive(Clone, Debug, Default)]
pub struct Proof<'p> {
    /// No walsender can act by an earlier text any more, and no change of ours is under way.
    pub replaced_texts_are_spent: bool,
    /// Members that have everything that was ever acknowledged by an earlier text.
    pub complete: BTreeSet<&'p str>,
}

impl Electorate {
    /// Whoever can elect has somebody in common with whoever can acknowledge. `actual`: the leader in office.
    pub fn meets(&self, acknowledging: &Acknowledging, actual: &str) -> bool {
        if self.voters.is_empty() && self.leader == actual {
            return true;
        }
        let mut all: BTreeSet<&str> = self.voters.iter().map(String::as_str).collect();
        all.extend(acknowledging.names.iter().map(String::as_str));
        all.extend([self.leader.as_str(), actual]);
        all.len() <= self.quorum + acknowledging.count.min(acknowledging.names.len()) + 1
    }

    /// One of the two groups contains the other: what an orderly sequence keeps.
    pub fn is_nested(&self, acknowledging: &Acknowledging, actual: &str) -> bool {
        let contains = |group: &BTreeSet<String>, leader: &str, other: &BTreeSet<String>, others: &str| {
            let has = |name: &str| name == leader || group.contains(name);
            other.iter().all(|name| has(name)) && has(others)
        };
        let sync = &acknowledging.names;
        contains(&self.voters, &self.leader, sync, actual)
            || contains(sync, actual, &self.voters, &self.leader)
    }

    /// The members that can elect without the leader in office.
    fn without<'e>(&'e self, actual: &str) -> BTreeSet<&'e str> {
        let all = self.voters.iter().map(String::as_str).chain([self.leader.as_str()]);
        all.filter(|&name| name != actual).collect()
    }

    /// Nobody can elect without the leader in office.
    fn needs(&self, actual: &str) -> bool {
        self.without(actual).len() <= self.quorum
    }

    /// Everybody who can elect by `self` can elect by `present` too.
    fn is_no_looser_than(&self, present: &Electorate, actual: &str) -> bool {
        let before = present.without(actual);
        let added = self.without(actual).into_iter().filter(|name| !before.contains(name)).count();
        self.quorum >= present.quorum + added
    }

    /// The same voters, asking for as many votes as it takes to be no looser than `present`.
    pub fn tightened(&self, present: &Electorate, actual: &str) -> Electorate {
        let before = present.without(actual);
        let added = self.without(actual).into_iter().filter(|name| !before.contains(name)).count();
        Electorate { quorum: self.quorum.max(present.quorum + added), ..self.clone() }
    }
}

/// Whether `/sync` may go from `present` to `wanted` while PostgreSQL shows `shown`.
pub fn may_write(
    present: &Electorate,
    wanted: &Electorate,
    shown: &Acknowledging,
    proof: &Proof,
    actual: &str,
) -> bool {
    if wanted.needs(actual) {
        return true;
    }
    if !wanted.meets(shown, actual) {
        return false;
    }
    let incomplete = wanted.without(actual).into_iter().filter(|name| !proof.complete.contains(name)).count();
    wanted.is_no_looser_than(present, actual) || proof.replaced_texts_are_spent && incomplete <= wanted.quorum
}

/// Whether `synchronous_standby_names` may become `wanted` while `/sync` is, or may yet become, one of these.
pub fn may_set_names<'e>(
    electorates: impl IntoIterator<Item = &'e Electorate>,
    wanted: &Acknowledging,
    actual: &str,
) -> bool {
    electorates.into_iter().all(|electorate| electorate.needs(actual) || electorate.meets(wanted, actual))
}
