//! What is known of a server of a pool.

use std::{collections::VecDeque, sync::Arc};

use super::{
    settings::Set,
    statements::{Prepared, Statement},
};

/// What a server still has to answer, in order.
#[derive(Debug)]
pub(crate) enum Expect {
    /// A simple query or a function call: ends with ReadyForQuery.
    Query,
    Sync,
    /// A query of ours: nothing of its answer is for the client.
    Ours,
    /// The client has ended its part of a COPY; answered by nothing.
    CopyEnd,
    Parse(Option<Arc<Statement>>),
    /// Ours, before a client's message that needs the statement.
    ParseOurs(Option<Arc<Statement>>),
    /// Of the statement with this id of ours.
    Bind(Option<u64>),
    Describe(Option<u64>),
    Execute,
    Close,
    CloseOurs,
    /// An answer that we give ourselves, once those before it were given: a tag without a body.
    Inject(u8),
}

#[derive(Debug)]
pub(crate) struct ServerSide {
    /// An incomplete message.
    pub(crate) input: Vec<u8>,
    /// Bytes of a message that has begun to go through.
    pub(crate) streaming: usize,
    /// They are not for the client.
    pub(crate) swallowing: bool,
    pub(crate) expected: VecDeque<Expect>,
    /// `I`, `T` or `E`.
    pub(crate) status: u8,
    pub(crate) prepared: Prepared,
    /// The statement without a name that it has at present, by its id.
    pub(crate) unnamed: Option<u64>,
    /// What differs from a fresh session.
    pub(crate) settings: Set,
    /// What a query of ours was answered with, if that was an error.
    pub(crate) failure: Option<String>,
    /// The first column of the last row that a query of ours returned, and the second.
    pub(crate) answer: Vec<Option<String>>,
    /// The server has said that it ends.
    pub(crate) is_ending: bool,
    /// It has answered something since the client's last message began.
    pub(crate) has_answered: bool,
    /// A statement of the current cycle has failed.
    pub(crate) has_failed: bool,
    /// It reads nothing until the Sync that the client has not sent yet.
    pub(crate) is_skipping: bool,
    /// It has been asked something since the last ReadyForQuery: a transaction may be open although it has not said so.
    pub(crate) is_amid: bool,
    /// It is its client's until that one disconnects (mode `session`): statements have the client's names.
    pub(crate) is_own: bool,
    /// Statements of ours whose plans no longer fit: who prepares them again is given others.
    pub(crate) stale: Vec<u64>,
    /// Tables, types or functions may be others than they were: who prepares from now on gets statements of its own.
    pub(crate) redefined: bool,
    /// The same in a transaction that has not ended.
    pub(crate) is_redefining: bool,
    /// It takes a COPY whose end the client has not sent yet: a Sync before that is overheard.
    pub(crate) is_copying: bool,
    /// It reads for somebody else: what it cannot do, the primary can.
    pub(crate) gives_way: bool,
}

impl Default for ServerSide {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            streaming: 0,
            swallowing: false,
            expected: VecDeque::new(),
            status: b'I',
            prepared: Prepared::default(),
            unnamed: None,
            settings: Set::default(),
            failure: None,
            answer: Vec::new(),
            is_ending: false,
            has_answered: false,
            has_failed: false,
            is_skipping: false,
            is_amid: false,
            is_own: false,
            stale: Vec::new(),
            redefined: false,
            is_redefining: false,
            is_copying: false,
            gives_way: false,
        }
    }
}

impl ServerSide {
    /// Whether another client may have it.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.status == b'I'
            && self.expected.is_empty()
            && self.streaming == 0
            && !(self.is_amid || self.is_skipping || self.is_copying)
    }

    /// Whether it is the client's turn, in a transaction or not.
    #[inline]
    pub(crate) fn has_answered_all(&self) -> bool {
        self.expected.is_empty() && self.streaming == 0 && !self.is_amid
    }

    /// Drops what a server leaves out after an error: everything up to the next Sync, which the client may not have sent yet.
    pub(crate) fn skip_to_sync(&mut self) {
        self.is_copying = false;
        while let Some(next) = self.expected.front() {
            match next {
                Expect::Sync | Expect::Ours => return,
                Expect::Parse(statement) | Expect::ParseOurs(statement) => match statement {
                    Some(statement) => self.prepared.remove(statement.id),
                    None => self.unnamed = None,
                },
                // It was closed for one that is not there now: it is closed again when that one comes.
                Expect::Query
                | Expect::Bind(_)
                | Expect::Describe(_)
                | Expect::Execute
                | Expect::Close
                | Expect::CloseOurs
                | Expect::CopyEnd
                | Expect::Inject(_) => {}
            }
            self.expected.pop_front();
        }
        self.is_skipping = true;
    }

    /// The server takes a COPY now: a Sync before the end of that is answered by nothing.
    pub(crate) fn copy_begins(&mut self) {
        let end = self.expected.iter().position(|expect| matches!(expect, Expect::CopyEnd));
        self.is_copying = end.is_none();
        let until = end.unwrap_or(self.expected.len());
        let mut at = 0;
        self.expected.retain(|expect| {
            at += 1;
            at > until + 1 || !matches!(expect, Expect::Sync | Expect::CopyEnd)
        });
    }

    /// Takes out the ends of COPYs that never began.
    pub(crate) fn past_copy(&mut self) {
        while matches!(self.expected.front(), Some(Expect::CopyEnd)) {
            self.expected.pop_front();
        }
    }
}
