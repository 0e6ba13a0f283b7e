//! The scripts that users hang on events.

use std::sync::Arc;

use bellwether_types::Role;

use crate::settings::{CallbackAction, PgSettings};

/// Runs callbacks: at most one that is not `on_reload`; a new one kills the one still running, with all its children.
#[derive(Debug)]
pub struct CallbackRunner {
    settings: Arc<PgSettings>,
}

impl CallbackRunner {
    pub fn new(settings: Arc<PgSettings>) -> Self {
        Self { settings }
    }

    pub fn set_settings(&mut self, settings: Arc<PgSettings>) {
        self.settings = settings;
    }

    /// Starts the script for `action`, if there is one, and does not wait for it.
    pub fn run(&mut self, _action: CallbackAction, _role: Role) {}
}
