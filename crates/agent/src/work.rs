//! The long jobs: each a function from what it needs to how it ended. No policy: what is done and how was decided.

mod datadir;
mod rewind;
mod start;
mod stop;
mod upstream;

use bellwether_ha::view::JobOutcome;
pub(crate) use bellwether_types::chain;

pub(crate) use self::{
    datadir::{bootstrap, bootstrap_standby, clone, post_bootstrap, reinitialize, wipe},
    rewind::{EarlierRewind, check_divergence, crash_recovery, rewind},
    start::{checkpoint, copy_slots, promote, restart, start},
    stop::{demote_cluster, demote_request, stop},
    upstream::{address_of, archive_settings, database_of, pg_upstream, target},
};

fn failed(error: &dyn std::error::Error) -> JobOutcome {
    JobOutcome::Failed { why: chain(error), source_unreachable: false }
}
