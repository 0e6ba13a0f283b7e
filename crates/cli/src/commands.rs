//! One file per command, or per family of commands that do nearly the same.

pub(crate) mod cluster_role;
pub(crate) mod dsn;
pub(crate) mod edit_config;
pub(crate) mod explain;
pub(crate) mod explain_failure;
pub(crate) mod flush;
pub(crate) mod history;
pub(crate) mod interop;
pub(crate) mod leader_change;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod query;
pub(crate) mod reinit;
pub(crate) mod reload;
pub(crate) mod remove;
pub(crate) mod restart;
pub(crate) mod routing;
pub(crate) mod shell;
pub(crate) mod show_config;
pub(crate) mod support_bundle;
pub(crate) mod timing;
pub(crate) mod version;
pub(crate) mod what_if;
