//! Write-ahead log as it forks: timelines are branches of one tree, and a position is a number of records of a branch.
//!
//! A data directory holds a [`Pos`], not a copy, so that "does this WAL contain that record", divergence, loss and rewind are
//! exact and cheap. A branch is written by one data directory only; whoever promotes begins a new one.

use bellwether_types::{Lsn, TimelineId, TimelineSwitch};

/// The first `count` records of a branch, after everything that the branch grew from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    pub branch: u32,
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A transaction of a client.
    Commit,
    Checkpoint,
    ShutdownCheckpoint,
    /// The first record of a timeline, or the last one of crash recovery.
    EndOfRecovery,
    /// Something small that nobody waits for.
    Noise,
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Where the record ends.
    pub end: Lsn,
    pub kind: RecordKind,
}

#[derive(Debug)]
struct Branch {
    timeline: TimelineId,
    parent: Option<Pos>,
    /// Where the first record begins.
    start: Lsn,
    records: Vec<Record>,
    history: Vec<TimelineSwitch>,
    /// The data directory that writes it.
    writer: usize,
}

/// All WAL that was ever written in a world.
#[derive(Debug, Default)]
pub struct Forest {
    branches: Vec<Branch>,
}

impl Forest {
    /// WAL of a new database (initdb), on timeline 1.
    pub fn plant(&mut self, writer: usize) -> Pos {
        let branch = self.push(Branch {
            timeline: TimelineId(1),
            parent: None,
            start: Lsn(0x100_0000),
            records: Vec::new(),
            history: Vec::new(),
            writer,
        });
        self.append(Pos { branch, count: 0 }, 0x100, RecordKind::Checkpoint, writer)
    }

    /// A new timeline that begins at `at`. Its number is the one after the newest that its writer knows of, as PostgreSQL counts: the one
    /// that it forks from, or `known` if that is later.
    pub fn fork(&mut self, at: Pos, writer: usize, known: Option<TimelineId>) -> Pos {
        let parent = &self.branches[at.branch as usize];
        let newest = known.map_or(parent.timeline, |known| known.max(parent.timeline));
        let (timeline, start) = (TimelineId(newest.0 + 1), self.lsn(at));
        let mut history = parent.history.clone();
        history.push(TimelineSwitch {
            timeline: parent.timeline,
            end: start,
            reason: "no recovery target specified".to_owned(),
        });
        let branch =
            self.push(Branch { timeline, parent: Some(at), start, records: Vec::new(), history, writer });
        self.append(Pos { branch, count: 0 }, 0x40, RecordKind::EndOfRecovery, writer)
    }

    fn push(&mut self, branch: Branch) -> u32 {
        self.branches.push(branch);
        u32::try_from(self.branches.len() - 1).expect("few branches")
    }

    /// Writes a record after `at`. Records that the writer lost in a crash are written over. Who writes on a timeline that is not
    /// its own makes a second timeline of the same number, as PostgreSQL does.
    pub fn append(&mut self, at: Pos, size: u64, kind: RecordKind, writer: usize) -> Pos {
        let start = self.lsn(at);
        let branch = &self.branches[at.branch as usize];
        if branch.writer != writer {
            let (timeline, history) = (branch.timeline, branch.history.clone());
            let branch =
                self.push(Branch { timeline, parent: Some(at), start, records: Vec::new(), history, writer });
            return self.append(Pos { branch, count: 0 }, size, kind, writer);
        }
        let records = &mut self.branches[at.branch as usize].records;
        records.truncate(at.count as usize);
        records.push(Record { end: Lsn(start.0 + size), kind });
        Pos { branch: at.branch, count: at.count + 1 }
    }

    pub fn lsn(&self, at: Pos) -> Lsn {
        let branch = &self.branches[at.branch as usize];
        match at.count {
            0 => branch.start,
            count => branch.records[count as usize - 1].end,
        }
    }

    pub fn timeline(&self, at: Pos) -> TimelineId {
        self.branches[at.branch as usize].timeline
    }

    /// The switches that led to the timeline of `at`, as its history file tells.
    pub fn history(&self, at: Pos) -> &[TimelineSwitch] {
        &self.branches[at.branch as usize].history
    }

    /// The last record before `at`.
    pub fn last_record(&self, at: Pos) -> Option<Record> {
        (at.count > 0).then(|| self.branches[at.branch as usize].records[at.count as usize - 1])
    }

    /// Whether everything in `part` is in `whole` too.
    pub fn contains(&self, whole: Pos, part: Pos) -> bool {
        self.on_branch(whole, part.branch).is_some_and(|count| part.count <= count)
    }

    /// How many records of `branch` are in `whole`; `None` if it did not come by there.
    fn on_branch(&self, whole: Pos, branch: u32) -> Option<u32> {
        let mut at = whole;
        loop {
            if at.branch == branch {
                return Some(at.count);
            }
            at = self.branches[at.branch as usize].parent?;
        }
    }

    /// The longest WAL that both contain; `None` if they come from different initdbs.
    pub fn common(&self, a: Pos, b: Pos) -> Option<Pos> {
        let mut at = a;
        loop {
            if let Some(count) = self.on_branch(b, at.branch) {
                return Some(Pos { branch: at.branch, count: count.min(at.count) });
            }
            at = self.branches[at.branch as usize].parent?;
        }
    }

    /// Whether both have records that the other lacks.
    pub fn diverged(&self, a: Pos, b: Pos) -> bool {
        !self.contains(a, b) && !self.contains(b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeline with five records, forked after the third; the old one goes on with a sixth.
    fn forked() -> (Forest, Pos, Pos, Pos) {
        let mut forest = Forest::default();
        let mut old = forest.plant(0);
        for _ in 0..2 {
            old = forest.append(old, 100, RecordKind::Commit, 0);
        }
        let fork_point = old;
        for _ in 0..3 {
            old = forest.append(old, 100, RecordKind::Commit, 0);
        }
        let new = forest.fork(fork_point, 1, None);
        (forest, old, fork_point, new)
    }

    #[test]
    fn both_sides_of_a_fork_diverge_and_share_the_rest() {
        let (forest, old, fork_point, new) = forked();
        assert!(forest.diverged(old, new));
        assert!(!forest.diverged(fork_point, new) && !forest.diverged(fork_point, old));
        assert_eq!(forest.common(old, new), Some(fork_point));
        assert!(forest.contains(new, fork_point) && !forest.contains(new, old));
        assert_eq!(forest.timeline(new), TimelineId(2));
        assert_eq!(forest.history(new)[0].end, forest.lsn(fork_point));
    }

    #[test]
    fn a_fork_is_numbered_after_the_newest_timeline_that_its_writer_knows() {
        let (mut forest, old, fork_point, new) = forked();
        let unaware = forest.fork(old, 2, None);
        assert_eq!(forest.timeline(unaware), forest.timeline(new), "two timelines of one number");
        let aware = forest.fork(fork_point, 2, Some(TimelineId(2)));
        assert_eq!(forest.timeline(aware), TimelineId(3));
        assert_eq!(forest.history(aware).len(), 1, "timeline 2 is not part of its past");
    }

    #[test]
    fn records_lost_in_a_crash_are_written_over() {
        let (mut forest, old, _, _) = forked();
        let survived = Pos { count: old.count - 2, ..old };
        let again = forest.append(survived, 7, RecordKind::EndOfRecovery, 0);
        assert_eq!(forest.lsn(again).0, forest.lsn(survived).0 + 7);
        assert_eq!(forest.last_record(again).unwrap().kind, RecordKind::EndOfRecovery);
    }

    #[test]
    fn a_stranger_on_a_timeline_makes_another_of_the_same_number() {
        let (mut forest, old, fork_point, _) = forked();
        let stray = forest.append(fork_point, 7, RecordKind::Noise, 3);
        assert_eq!(forest.timeline(stray), forest.timeline(old));
        assert!(forest.diverged(stray, old) && forest.contains(stray, fork_point));
    }

    #[test]
    fn databases_of_different_origin_have_nothing_in_common() {
        let mut forest = Forest::default();
        let (a, b) = (forest.plant(0), forest.plant(1));
        assert_eq!(forest.common(a, b), None);
        assert!(forest.diverged(a, b));
    }
}
