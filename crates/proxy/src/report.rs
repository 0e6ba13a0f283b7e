//! What a worker tells of its pools when it is asked: for the console, the statistics and people.

use std::{collections::BTreeSet, sync::Arc};

use crate::{routes::Target, settings::Mode};

/// Everything that one worker tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerReport {
    pub(crate) pools: Vec<PoolReport>,
    pub(crate) clients: Vec<crate::admin::Client>,
    pub(crate) servers: Vec<crate::admin::Server>,
    pub(crate) is_paused: bool,
    pub(crate) paused: BTreeSet<String>,
    pub(crate) disabled: BTreeSet<String>,
}

/// One pool at one instant, in the terms of PgBouncer's `SHOW POOLS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub target: Target,
    pub mode: Mode,
    /// Clients that have a server, or are between transactions.
    pub clients_active: usize,
    pub clients_waiting: usize,
    /// Servers that a client has.
    pub servers_active: usize,
    pub servers_idle: usize,
    /// Servers that are being opened.
    pub servers_login: usize,
    /// Servers from which what a client left behind is being taken away.
    pub servers_reset: usize,
    /// Servers that nobody has, and that a request to cancel may still reach.
    pub servers_being_cancelled: usize,
    /// Clients that keep their server for something that stays in its session.
    pub pinned: usize,
    /// How long the client at the head of the queue has waited, in microseconds.
    pub longest_wait_micros: u64,
    /// What has been counted since the start.
    pub totals: crate::admin::Totals,
    /// Why the last attempt to open a server failed, if none has succeeded since.
    pub last_error: Option<String>,
}

impl PoolReport {
    /// Those of several threads, and those whose servers were started differently, are one to people.
    pub(crate) fn together(reports: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for report in reports {
            let is_same = |known: &&mut Self| {
                (&known.database, &known.user, known.target, known.mode)
                    == (&report.database, &report.user, report.target, report.mode)
            };
            match all.iter_mut().find(is_same) {
                Some(known) => known.add(report),
                None => all.push(report),
            }
        }
        all
    }

    /// All that are open.
    pub(crate) fn servers(&self) -> usize {
        self.servers_active
            + self.servers_idle
            + self.servers_login
            + self.servers_reset
            + self.servers_being_cancelled
    }

    fn add(&mut self, other: Self) {
        self.clients_active += other.clients_active;
        self.clients_waiting += other.clients_waiting;
        self.servers_active += other.servers_active;
        self.servers_idle += other.servers_idle;
        self.servers_login += other.servers_login;
        self.servers_reset += other.servers_reset;
        self.servers_being_cancelled += other.servers_being_cancelled;
        self.pinned += other.pinned;
        self.longest_wait_micros = self.longest_wait_micros.max(other.longest_wait_micros);
        self.totals += other.totals;
        self.last_error = self.last_error.take().or(other.last_error);
    }
}
