//! The primary: backends, walsenders, the checkpointer, and what standbys receive.

use crate::sync::names::{Method, SyncNames};

use super::World;

/// One walsender with its standby's connection.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) id: usize,
    pub(super) rule: SyncNames,
    /// The postmaster has passed on the signal to read this.
    pub(super) signalled: Option<SyncNames>,
    /// The next part of its loop.
    pub(super) part: Part,
    pub(super) sent: u64,
    pub(super) reported: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    Read,
    Report,
    Send,
}

impl Sender {
    pub(super) fn is_listed(&self, member: &str) -> bool {
        self.rule.names.contains(member)
    }
}

impl World {
    pub(super) fn commit(&mut self) {
        self.wal += 1;
        self.positions.insert(self.primary, self.wal);
        if !self.waits {
            self.acknowledged = self.wal;
        }
    }

    /// The next part of the checkpointer's loop, which it may be kept from for as long as the story wants.
    pub(super) fn checkpointer(&mut self) {
        if let Some(text) = self.reading.take() {
            self.waits = !text.is_empty();
            if !self.waits {
                self.acknowledged = self.wal;
            }
        } else if std::mem::take(&mut self.signalled) {
            self.reading = Some(self.file.clone());
        }
    }

    pub(super) fn connect(&mut self, member: &'static str) {
        if self.senders.contains_key(member) {
            return;
        }
        let position = self.positions[member];
        self.next_sender += 1;
        let sender = Sender {
            id: self.next_sender,
            rule: SyncNames::parse(&self.shown),
            signalled: None,
            part: Part::Read,
            sent: position,
            reported: position,
        };
        self.senders.insert(member, sender);
    }

    /// The next part of a walsender's loop.
    pub(super) fn walsender(&mut self, member: &'static str) {
        let (position, wal) = (self.positions[member], self.wal);
        let Some(sender) = self.senders.get_mut(member) else { return };
        match sender.part {
            Part::Read => {
                if let Some(rule) = sender.signalled.take() {
                    sender.rule = rule;
                }
                sender.part = Part::Report;
            }
            Part::Report => {
                sender.reported = position;
                sender.part = Part::Send;
                self.release(member);
            }
            Part::Send => {
                sender.sent = wal;
                sender.part = Part::Read;
            }
        }
    }

    /// PostgreSQL's rule: by this walsender's own reading, on what all of them publish.
    fn release(&mut self, member: &str) {
        let rule = self.senders[member].rule.clone();
        let mut counted: Vec<_> =
            self.senders.iter().filter(|(name, sender)| sender.is_listed(name)).collect();
        if rule.method == Method::First {
            counted.truncate(rule.count);
        }
        let is_counted = counted.iter().any(|(name, _)| **name == member);
        if rule.names.is_empty() || counted.len() < rule.count || !is_counted {
            return;
        }
        let mut reported: Vec<u64> = counted.iter().map(|(_, sender)| sender.reported).collect();
        reported.sort_unstable_by(|a, b| b.cmp(a));
        self.acknowledged = self.acknowledged.max(reported[rule.count - 1]);
    }

    pub(super) fn receive(&mut self, member: &'static str, pick: u8) {
        let Some(sender) = self.senders.get(member) else { return };
        let position = self.positions[member];
        let missing = sender.sent.saturating_sub(position);
        let received = if pick.is_multiple_of(3) { missing / 2 } else { missing };
        self.positions.insert(member, position + received);
    }

    /// The postmaster reads the files and signals everybody.
    pub(super) fn reload(&mut self) {
        self.shown = self.file.clone();
        for sender in self.senders.values_mut() {
            sender.signalled = Some(SyncNames::parse(&self.shown));
        }
        self.signalled = true;
    }
}
