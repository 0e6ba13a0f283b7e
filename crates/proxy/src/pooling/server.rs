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
    Parse(Option<Arc<Statement>>),
    /// Ours, before a client's message that needs the statement.
    ParseOurs(Option<Arc<Statement>>),
    Bind,
    Describe,
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
        }
    }
}

impl ServerSide {
    /// Whether another client may have it.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.status == b'I' && self.expected.is_empty() && self.streaming == 0
    }

    /// Drops what a server leaves out after an error: everything up to the next Sync.
    pub(crate) fn skip_to_sync(&mut self) {
        while let Some(next) = self.expected.front() {
            match next {
                Expect::Query | Expect::Sync | Expect::Ours => return,
                Expect::Parse(statement) | Expect::ParseOurs(statement) => match statement {
                    Some(statement) => self.prepared.remove(statement.id),
                    None => self.unnamed = None,
                },
                // It was closed for one that is not there now: it is closed again when that one comes.
                Expect::Bind
                | Expect::Describe
                | Expect::Execute
                | Expect::Close
                | Expect::CloseOurs
                | Expect::Inject(_) => {}
            }
            self.expected.pop_front();
        }
    }
}
