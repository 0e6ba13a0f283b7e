//! Configuration: file, environment and cluster settings.
//!
//! [`load()`] turns a `patroni.yml` (or ours), a directory of them and `PATRONI_*` variables into a [`Config`], with every
//! problem in one run. [`dynamic::parse`] does the same for the `/config` document in the store, and [`effective()`] merges
//! both into what PostgreSQL is to be run with. [`patch()`] changes such documents as `PATCH /config` does.
//!
//! What was written is a tree of nodes that remember their lines (`node`, `yaml`); what it means is [`Config`]. Between them
//! stands no serde: it stops at the first wrong type, and does not read YAML 1.1 and Patroni's lenient values as Patroni
//! does. A section is read by hand instead (`section`, [`sections`]), every problem goes into one report, and the table in
//! `keys` knows all names, for slips of the keyboard and for [`json_schema()`].
//!
//! It reads files; it connects to nothing, and it does not decide what a running server must do about a change.
//! Start reading with [`load()`].

mod check;
mod config;
mod duration;
pub mod dynamic;
mod effective;
mod environment;
mod initial;
mod keys;
mod legacy;
mod load;
mod node;
mod patch;
mod problem;
mod redact;
mod reference;
mod restart_only;
mod sample;
mod scalar;
mod schema;
mod secret_files;
mod section;
pub mod sections;
mod source;
mod unknown;
mod validate;
mod value;
mod yaml;

pub use bellwether_types::{HostPort, InvalidAddress, Listen};
pub use config::{ClientConfig, Config, DefaultsChoice, ProxyConfig, WitnessConfig};
pub use dynamic::{Dynamic, DynamicError, Floors};
pub use effective::{Effective, effective};
pub use environment::is_recognised;
pub use initial::initial_document;
pub use load::{Loaded, StoreAddress, load, load_client, load_proxy, load_witness};
pub use patch::{patch, same};
pub use problem::{LoadError, LoadErrorKind, Origin, Problem, render};
pub use redact::redacted;
pub use reference::{Setting, settings};
pub use sample::sample;
pub use schema::json_schema;
pub use source::local_document;
pub use validate::{Probe, Validation, validate};
pub use value::{Unit, int_with_unit};
pub use yaml::parse_yaml;
