//! From a cluster to text. Pure: the same cluster gives the same bytes, and nothing here knows a terminal.

pub(crate) mod history;
pub(crate) mod json;
pub(crate) mod members;
pub(crate) mod output;
pub(crate) mod table;
pub(crate) mod yaml;
