//! PostgreSQL's part: streaming, and which walsender releases what.

use crate::{
    overlap::{Names, bit, size},
    state::{OLD, Pos, Primary, Sender, State},
};

impl Primary {
    /// Up to where the walsender of `member` may release commits, by its own list and what all of them know. A walsender publishes whether
    /// it is listed by its own list, too.
    pub fn released_by(&self, member: usize) -> Option<u8> {
        let me = self.senders[member]?;
        let listed = |index: usize, sender: &Sender| {
            sender.text.names & bit(u8::try_from(index).expect("few members")) != 0
        };
        if me.text.count == 0 || !listed(member, &me) {
            return None;
        }
        let all = self.senders.iter().enumerate();
        let mut known: Vec<u8> = all
            .filter_map(|(index, sender)| sender.as_ref().filter(|sender| listed(index, sender)))
            .map(|sender| sender.known)
            .collect();
        known.sort_unstable_by(|a, b| b.cmp(a));
        known.get(usize::from(me.text.count) - 1).copied()
    }

    pub fn acknowledge(&mut self, upto: Option<u8>) {
        self.acknowledged = self.acknowledged.max(upto.unwrap_or(0));
    }

    /// The texts that some walsender still acts by, mixed: the smallest count with all names.
    pub fn mixed_with(&self, wanted: Names) -> Names {
        let effective = |text: Names| Names { count: text.count.min(size(text.names)), ..text };
        let texts = self.senders.iter().flatten().map(|sender| sender.text).chain([self.shown]);
        texts.filter(|text| text.names != 0).map(effective).fold(effective(wanted), |mixed, text| Names {
            count: mixed.count.min(text.count),
            names: mixed.names | text.names,
        })
    }

    pub fn is_spent(&self) -> bool {
        self.senders.iter().flatten().all(|sender| sender.text == self.shown)
    }
}

impl State {
    /// The WAL receiver of `member` connects to what its files name.
    pub fn connect(&mut self, member: u8) {
        let this = &mut self.members[usize::from(member)];
        this.receiver = this.upstream;
        if this.receiver == Some(OLD) {
            let (lsn, text) = (this.wal.lsn, self.old.shown);
            self.old.senders[usize::from(member)] = Some(Sender { text, reported: lsn, known: 0 });
        }
    }

    /// Could `member` stream from `upstream`? Its WAL must be part of the upstream's.
    pub fn can_stream(&self, member: u8, upstream: u8) -> bool {
        let (from, to) = (self.members[usize::from(upstream)].wal, self.members[usize::from(member)].wal);
        let fits = match (from.timeline, to.timeline) {
            (2, 1) => self.branch.is_some_and(|branch| to.lsn <= branch),
            (from, to) => from == to,
        };
        self.members[usize::from(upstream)].is_primary && fits && to.lsn <= from.lsn
    }

    /// `member` receives one more record, flushes it and reports it.
    pub fn stream(&mut self, member: u8, upstream: u8) {
        let timeline = self.members[usize::from(upstream)].wal.timeline;
        let this = &mut self.members[usize::from(member)];
        this.wal = Pos { timeline, lsn: this.wal.lsn + 1 };
        if upstream == OLD
            && let Some(sender) = &mut self.old.senders[usize::from(member)]
        {
            sender.reported = this.wal.lsn;
        }
    }
}
