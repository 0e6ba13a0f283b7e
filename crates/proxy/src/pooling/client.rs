//! What is known of a client of a pool.

use std::sync::Arc;

use super::{
    effects::{Effects, Pin},
    settings::Session,
    statements::{Names, Statement},
};

/// What is longer is not kept for a second attempt.
const LONGEST_REPEAT: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(crate) struct ClientSide {
    /// An incomplete message, or messages that wait for a server.
    pub(crate) input: Vec<u8>,
    /// Bytes of a message that has begun to go through.
    pub(crate) streaming: usize,
    pub(crate) session: Session,
    pub(crate) pin: Option<Pin>,
    /// Its named statements; most clients have none.
    pub(crate) names: Option<Box<Names>>,
    pub(crate) unnamed: Option<Arc<Statement>>,
    /// What was passed on of a transaction, as long as the server has not answered any of it.
    pub(crate) repeat: Vec<u8>,
    /// It has prepared statements on a server of its own.
    pub(crate) has_prepared: bool,
    /// Not all of it was kept.
    pub(crate) is_too_long: bool,
    /// A transaction, or a statement of its own, has begun.
    pub(crate) is_busy: bool,
    /// The last COMMIT or ROLLBACK of this statement was a ROLLBACK.
    pub(crate) rolled_back: bool,
}

impl ClientSide {
    #[inline]
    pub(crate) fn leave_behind(&mut self, effects: &Effects) {
        if effects.is_none() {
            return;
        }
        self.pin = self.pin.or(effects.pin);
        self.session.stage(&effects.changes);
    }

    pub(crate) fn statement(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.names.as_ref()?.get(name) }
    }

    pub(crate) fn define(&mut self, name: &[u8], statement: Arc<Statement>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.names.get_or_insert_default().insert(name.into(), statement);
        }
    }

    pub(crate) fn forget(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else if let Some(names) = &mut self.names {
            names.remove(name);
            if names.is_empty() {
                self.names = None;
            }
        }
    }

    /// `DISCARD ALL` and `DEALLOCATE ALL`.
    pub(crate) fn forget_statements(&mut self) {
        self.names = None;
        self.unnamed = None;
    }

    /// Keeps a message until the server shows that it has seen it.
    #[inline]
    pub(crate) fn keep(&mut self, message: &[u8]) {
        if self.repeat.len() + message.len() <= LONGEST_REPEAT {
            self.repeat.extend_from_slice(message);
        } else {
            self.is_too_long = true;
        }
    }

    /// What can be sent to another server, if none has seen it.
    pub(crate) fn take_repeat(&mut self) -> Vec<u8> {
        self.session.failed();
        std::mem::take(&mut self.repeat)
    }

    /// The transaction is over.
    #[inline]
    pub(crate) fn at_rest(&mut self) {
        self.is_busy = false;
        self.is_too_long = false;
        self.repeat.clear();
        if self.repeat.capacity() > 512 {
            self.repeat = Vec::new();
        }
    }
}
