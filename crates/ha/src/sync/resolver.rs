//! The quorum resolver: by which steps `/sync` and `synchronous_standby_names` get from where they are to where they shall be.
//!
//! A pure function of the two observed states. It says what an unhurried sequence would be; who carries it out takes the first
//! step that is safe now (see [`super::overlap`]) and asks again with what is then observed. So an interruption after any step
//! needs no repair: the next run starts from whatever it finds.
//!
//! Rule of thumb in every phase: what makes the system *stricter* comes first, what relaxes it comes last.

use std::collections::BTreeSet;

use super::overlap::{Acknowledging, Electorate};

type Names = BTreeSet<String>;

/// What was observed, and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// `/sync`.
    pub electorate: Electorate,
    /// `synchronous_standby_names`.
    pub acknowledging: Acknowledging,
    /// How many active standbys have passed the gate (see [`super::ready`]).
    pub confirmed: usize,
    /// The standbys that shall count.
    pub active: Names,
    /// How many of them shall acknowledge each commit; at least 1.
    pub wanted: usize,
    /// Who shall be recorded as the leader: this member.
    pub leader: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write `/sync`.
    Electorate(Electorate),
    /// Set `synchronous_standby_names`.
    Acknowledging(Acknowledging),
    /// Nothing can be published before a standby has passed the gate: look again soon.
    Restart,
}

/// A step that would have broken the overlap: a state that no sequence of ours produces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken;

/// The steps in order. Empty: everything is as it shall be, or nothing can be done before something else changes.
pub fn resolve(situation: &Situation) -> Vec<Step> {
    let mut resolver = Resolver::new(situation);
    // After a broken step the sequence ends with what was found so far; the next look starts from there.
    let _ = resolver.run();
    resolver.steps
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Adjust {
    /// Ask for more votes while fewer standbys than needed have caught up.
    Yes,
    No,
}

impl From<bool> for Adjust {
    fn from(adjust: bool) -> Self {
        if adjust { Self::Yes } else { Self::No }
    }
}

struct Resolver<'s> {
    situation: &'s Situation,
    recorded_leader: String,
    quorum: usize,
    voters: Names,
    numsync: usize,
    sync: Names,
    confirmed: usize,
    steps: Vec<Step>,
}

impl<'s> Resolver<'s> {
    fn new(situation: &'s Situation) -> Self {
        let Situation { electorate, acknowledging, .. } = situation;
        Self {
            situation,
            recorded_leader: electorate.leader.clone(),
            quorum: electorate.quorum,
            voters: electorate.voters.clone(),
            numsync: acknowledging.count.min(acknowledging.names.len()),
            sync: acknowledging.names.clone(),
            confirmed: situation.confirmed,
            steps: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), Broken> {
        if self.recorded_leader == self.situation.leader {
            if self.check(&self.electorate(), &self.acknowledging()).is_err() {
                self.trust_names()?;
            }
        } else {
            if self.take_office().is_err() {
                self.trust_names()?;
            }
            if self.sync.is_disjoint(&self.situation.active) {
                // Replicas get time to reconnect before they are evicted.
                return Ok(());
            }
        }
        let present = self.sync.intersection(&self.situation.active).count();
        if self.confirmed == 0 && present > 0 {
            // This agent is new here and has not seen anybody pass the gate; the recorded state stands for itself.
            self.confirmed = present.min(self.voters.len().saturating_sub(self.quorum));
        }
        self.finish_interrupted()?;
        self.remove_gone()?;
        self.add_new()?;
        self.change_count()
    }

    // --- the two primitives ---

    /// Writes `/sync`, unless it says so already.
    fn set_electorate(&mut self, quorum: Option<usize>, voters: Names, adjust: Adjust) -> Result<(), Broken> {
        let mut quorum = quorum.ok_or(Broken)?;
        let mut voters = voters;
        if quorum > 0 && quorum >= voters.len() {
            return Err(Broken);
        }
        let leader = &self.situation.leader;
        if self.recorded_leader == *leader {
            if self.confirmed == 0 && self.voters.is_empty() {
                (quorum, voters) = (0, Names::new());
            } else if adjust == Adjust::Yes {
                quorum += self.numsync.saturating_sub(self.confirmed);
            }
            if quorum == self.quorum && voters == self.voters {
                if self.voters.is_empty() {
                    self.push(Step::Restart);
                }
                return Ok(());
            }
        }
        let electorate = Electorate { leader: leader.clone(), quorum, voters };
        self.check(&electorate, &self.acknowledging())?;
        self.recorded_leader.clone_from(&electorate.leader);
        self.quorum = electorate.quorum;
        self.voters.clone_from(&electorate.voters);
        self.push(Step::Electorate(electorate));
        Ok(())
    }

    /// Sets `synchronous_standby_names`.
    fn set_names(&mut self, count: Option<usize>, names: Names) -> Result<(), Broken> {
        let count = count.filter(|&count| count <= names.len()).ok_or(Broken)?;
        let acknowledging = Acknowledging { count, names };
        self.check(&self.electorate(), &acknowledging)?;
        self.numsync = acknowledging.count;
        self.sync.clone_from(&acknowledging.names);
        self.push(Step::Acknowledging(acknowledging));
        Ok(())
    }

    /// Adds a step; one of the same kind replaces the last, and nothing follows a restart.
    fn push(&mut self, step: Step) {
        match (self.steps.last_mut(), &step) {
            (Some(Step::Restart), _) => {}
            (Some(last @ Step::Electorate(_)), Step::Electorate(_))
            | (Some(last @ Step::Acknowledging(_)), Step::Acknowledging(_)) => *last = step,
            _ => self.steps.push(step),
        }
    }

    fn electorate(&self) -> Electorate {
        Electorate { leader: self.recorded_leader.clone(), quorum: self.quorum, voters: self.voters.clone() }
    }

    fn acknowledging(&self) -> Acknowledging {
        Acknowledging { count: self.numsync, names: self.sync.clone() }
    }

    /// Whoever can elect has somebody in common with whoever can acknowledge, and the two groups were not mixed up.
    fn check(&self, electorate: &Electorate, acknowledging: &Acknowledging) -> Result<(), Broken> {
        let leader = &self.situation.leader;
        if electorate.meets(acknowledging, leader) && electorate.is_nested(acknowledging, leader) {
            Ok(())
        } else {
            Err(Broken)
        }
    }

    // --- the phases ---

    /// A new leader replaces the old one in `/sync`, which stays in the electorate as a voter.
    fn take_office(&mut self) -> Result<(), Broken> {
        let mut voters = self.voters.clone();
        voters.remove(&self.situation.leader);
        voters.insert(self.recorded_leader.clone());
        if self.sync.is_empty() {
            self.set_names(voters.len().checked_sub(self.quorum), voters.clone())?;
        }
        self.set_electorate(Some(self.quorum), voters, Adjust::Yes)
    }

    /// The overlap is broken, so somebody else changed something: what commits wait for *now* decides.
    fn trust_names(&mut self) -> Result<(), Broken> {
        self.set_electorate(self.sync.len().checked_sub(self.numsync), self.sync.clone(), Adjust::Yes)
    }

    /// A sequence was interrupted if voters and synchronous standbys differ: make them equal, then straighten the numbers.
    fn finish_interrupted(&mut self) -> Result<(), Broken> {
        let active = &self.situation.active;
        if self.sync.is_subset(&self.voters) && self.sync != self.voters {
            let kept: Names = self
                .voters
                .iter()
                .filter(|&v| self.sync.contains(v) || active.contains(v))
                .cloned()
                .collect();
            if kept != self.voters {
                let adjust = self.sync.is_subset(active).into();
                self.set_electorate(kept.len().checked_sub(self.numsync), kept, adjust)?;
            }
            if self.sync != self.voters {
                self.set_names(Some(self.numsync), self.voters.clone())?;
            }
        } else if self.voters.is_subset(&self.sync) && self.sync != self.voters {
            let extra: Names = self.sync.difference(&self.voters).cloned().collect();
            let kept: Names = self
                .sync
                .iter()
                .filter(|&s| self.voters.contains(s) || active.contains(s))
                .cloned()
                .collect();
            if kept != self.sync && !kept.is_empty() {
                self.set_names(Some(self.numsync.min(kept.len())), kept)?;
            }
            let alive: Names = extra.intersection(active).cloned().collect();
            if !alive.is_empty() {
                let voters = &self.voters | &alive;
                self.set_electorate(voters.len().checked_sub(self.numsync), voters, Adjust::Yes)?;
            }
            let rest = &self.sync & &self.voters;
            if rest != self.sync {
                self.set_names(Some(self.numsync.min(rest.len())), rest)?;
            }
        }
        let wanted = self.situation.wanted;
        let proven = self.numsync.min(self.confirmed);
        if self.quorum + proven > self.voters.len() {
            if self.numsync > wanted {
                let count = self.voters.len().saturating_sub(self.quorum).max(wanted);
                self.set_names(Some(count), self.sync.clone())?;
            } else {
                self.trust_names()?;
            }
        } else if self.numsync == wanted
            && self.quorum + self.numsync > self.voters.len()
            && self.numsync > self.confirmed
        {
            self.trust_names()?;
        }
        Ok(())
    }

    /// Standbys that are gone stop counting.
    fn remove_gone(&mut self) -> Result<(), Broken> {
        let (active, wanted) = (&self.situation.active, self.situation.wanted);
        let mut gone: Names = self.sync.difference(active).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        if gone == self.sync {
            self.set_electorate(Some(0), Names::new(), Adjust::No)?;
            return self.set_names(Some(0), Names::new());
        }
        if self.quorum > 0 {
            let now: Names = gone.iter().rev().take(self.quorum).cloned().collect();
            gone = &gone - &now;
            let left = &self.sync - &now;
            let count = self.numsync.max(wanted).min(left.len());
            self.set_names(Some(count), left)?;
            let voters = &self.voters - &now;
            let quorum = voters.len().checked_sub(self.numsync);
            self.set_electorate(quorum, voters, gone.is_empty().into())?;
        }
        if !gone.is_empty() && self.quorum == 0 {
            let left = &self.sync - &gone;
            let count = self.numsync.checked_sub(gone.len()).ok_or(Broken)?;
            let to_spare = count.saturating_sub(wanted.min(left.len()));
            let quorum = to_spare.min(left.len() - 1);
            self.set_electorate(Some(quorum), &self.voters - &gone, Adjust::No)?;
            self.set_names(Some(count), left)?;
        }
        Ok(())
    }

    /// Standbys that are new begin to count.
    fn add_new(&mut self) -> Result<(), Broken> {
        let mut new: Names = self.situation.active.difference(&self.sync).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let count = self.situation.wanted.min(self.sync.len() + new.len());
        if count > self.numsync {
            let missing = if self.sync.is_empty() { new.len() } else { count - self.numsync };
            let now: Names = new.iter().take(missing).cloned().collect();
            new = &new - &now;
            self.set_names(Some(count), &self.sync | &now)?;
            let voters = &self.voters | &now;
            self.set_electorate(voters.len().checked_sub(count), voters, Adjust::Yes)?;
        }
        if !new.is_empty() {
            let voters = &self.voters | &new;
            let adjust = count > self.confirmed;
            self.set_electorate(voters.len().checked_sub(count), voters, adjust.into())?;
            self.set_names(Some(count), &self.sync | &new)?;
        }
        Ok(())
    }

    /// The number of acknowledgements follows `synchronous_node_count`.
    fn change_count(&mut self) -> Result<(), Broken> {
        let wanted = self.situation.wanted;
        let count = wanted.min(self.sync.len());
        if count > self.numsync {
            self.set_names(Some(count), self.sync.clone())?;
            self.set_electorate(self.voters.len().checked_sub(count), self.voters.clone(), Adjust::Yes)?;
        } else if count < self.numsync {
            if self.quorum + self.numsync - count < self.voters.len() {
                let adjust = wanted > self.confirmed;
                let quorum = self.voters.len().checked_sub(count);
                self.set_electorate(quorum, self.voters.clone(), adjust.into())?;
            }
            self.set_names(Some(count), self.sync.clone())?;
        }
        Ok(())
    }
}
