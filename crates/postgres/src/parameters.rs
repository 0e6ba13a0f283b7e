//! PostgreSQL's parameters: which the cluster controls, their defaults and limits, and what the others may be.
//!
//! Names compare without case, so they are lower-cased on the way in.

use std::collections::BTreeMap;

use crate::{config::RaisedParameter, control::ControlData, settings::PgSettings};

/// Parameters as the settings want them, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitParameters {
    pub parameters: BTreeMap<String, String>,
    pub controlled: BTreeMap<String, String>,
    /// For people.
    pub warnings: Vec<String>,
}

/// What values a controlled parameter may have.
#[derive(Clone, Copy)]
enum Rule {
    /// From the local configuration or the cluster's name: never settable.
    Fixed,
    AtLeast(u32),
    Bool,
    OnlyOn,
    WalLevel,
    /// A size in megabytes.
    Megabytes(u32),
}

/// Name, default and rule of everything the cluster controls.
const CONTROLLED: [(&str, &str, Rule); 14] = [
    ("listen_addresses", "", Rule::Fixed),
    ("port", "", Rule::Fixed),
    ("cluster_name", "", Rule::Fixed),
    ("hot_standby", "on", Rule::OnlyOn),
    ("wal_level", "replica", Rule::WalLevel),
    ("max_connections", "100", Rule::AtLeast(25)),
    ("max_wal_senders", "10", Rule::AtLeast(3)),
    ("max_prepared_transactions", "0", Rule::AtLeast(0)),
    ("max_locks_per_transaction", "64", Rule::AtLeast(32)),
    ("max_replication_slots", "10", Rule::AtLeast(4)),
    ("max_worker_processes", "8", Rule::AtLeast(2)),
    ("track_commit_timestamp", "off", Rule::Bool),
    ("wal_log_hints", "on", Rule::Bool),
    (WAL_KEEP_SIZE, "128MB", Rule::Megabytes(16)),
];

const WAL_KEEP_SIZE: &str = "wal_keep_size";
const WAL_KEEP_SEGMENTS: &str = "wal_keep_segments";

/// Recovery settings, which live in a block of their own.
pub(crate) const RECOVERY: [&str; 15] = [
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
];

/// Targets of a recovery: a stray one would promote or stop a standby.
pub(crate) const RECOVERY_TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
];

/// Whether only the dynamic configuration (or nobody) may set `name`.
pub fn is_controlled(name: &str) -> bool {
    name.eq_ignore_ascii_case(WAL_KEEP_SEGMENTS)
        || CONTROLLED.iter().any(|(controlled, ..)| controlled.eq_ignore_ascii_case(name))
}

/// Merges local over dynamic parameters and separates those that only the cluster may set. Local values for these are dropped.
pub fn split(dynamic: &BTreeMap<String, String>, local: &BTreeMap<String, String>) -> SplitParameters {
    let mut result = SplitParameters::default();
    for (name, value) in dynamic {
        let name = name.to_ascii_lowercase();
        let target = if is_controlled(&name) { &mut result.controlled } else { &mut result.parameters };
        target.insert(name, value.clone());
    }
    for (name, value) in local {
        let name = name.to_ascii_lowercase();
        if is_controlled(&name) {
            result
                .warnings
                .push(format!("parameter {name} is controlled by the cluster: its local value is ignored"));
        } else {
            result.parameters.insert(name, value.clone());
        }
    }
    result
}

/// The controlled parameters in force: defaults, valid dynamic values, and what the local configuration fixes.
pub(crate) fn controlled(settings: &PgSettings, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, default, rule) in CONTROLLED {
        let wanted = match name {
            WAL_KEEP_SIZE => keep_size(&settings.controlled),
            _ => settings.controlled.get(name).cloned(),
        };
        let value = match (name, rule, wanted) {
            ("listen_addresses", ..) => settings.listen_addresses.clone(),
            ("port", ..) => settings.port.to_string(),
            ("cluster_name", ..) => settings.cluster.to_string(),
            (_, _, None) => default.to_owned(),
            (_, rule, Some(wanted)) => rule.accept(&wanted).unwrap_or_else(|| {
                warnings.push(format!(
                    "postgresql parameter {name}={wanted} failed validation, defaulting to {default}"
                ));
                default.to_owned()
            }),
        };
        values.insert(name.to_owned(), value);
    }
    values
}

/// `wal_keep_size`, or the old name for it at 16 MB per segment.
fn keep_size(controlled: &BTreeMap<String, String>) -> Option<String> {
    controlled.get(WAL_KEEP_SIZE).cloned().or_else(|| {
        let segments = controlled.get(WAL_KEEP_SEGMENTS)?;
        Some(
            integer(segments)
                .map_or_else(|| segments.clone(), |count| format!("{}MB", count.saturating_mul(16))),
        )
    })
}

impl Rule {
    /// The value to write, or `None` if it breaks the rule.
    fn accept(self, value: &str) -> Option<String> {
        match self {
            Rule::Fixed => None,
            Rule::AtLeast(least) => {
                integer(value).filter(|number| *number >= u64::from(least)).map(|n| n.to_string())
            }
            Rule::Bool => boolean(value).map(|on| if on { "on" } else { "off" }.to_owned()),
            Rule::OnlyOn => boolean(value).filter(|on| *on).map(|_| "on".to_owned()),
            Rule::WalLevel => match value.trim().to_ascii_lowercase().as_str() {
                "replica" | "hot_standby" => Some("replica".to_owned()),
                "logical" => Some("logical".to_owned()),
                _ => None,
            },
            Rule::Megabytes(least) => kilobytes(value)
                .filter(|size| *size >= u64::from(least) * 1024)
                .map(|_| value.trim().to_owned()),
        }
    }
}

/// A whole number; quotes around it are accepted.
fn integer(text: &str) -> Option<u64> {
    text.trim().trim_matches(['\'', '"']).trim().parse().ok()
}

/// PostgreSQL's spellings of truth, unambiguous prefixes included.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let is_prefix_of = |word: &str, least: usize| text.len() >= least && word.starts_with(text.as_str());
    if text == "1" || is_prefix_of("true", 1) || is_prefix_of("yes", 1) || text == "on" {
        Some(true)
    } else if text == "0" || is_prefix_of("false", 1) || is_prefix_of("no", 1) || is_prefix_of("off", 2) {
        Some(false)
    } else {
        None
    }
}

/// A size with a unit; without one it is in megabytes (the unit of `wal_keep_size`).
fn kilobytes(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches(['\'', '"']);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "MB" => 1024,
        "kB" => 1,
        "GB" => 1024 * 1024,
        "TB" => 1024 * 1024 * 1024,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// For a standby: a value below the control file's would keep it from starting, so the larger one is used.
pub(crate) fn raise_to_control(
    values: &mut BTreeMap<String, String>,
    control: &ControlData,
    warnings: &mut Vec<String>,
) -> Vec<RaisedParameter> {
    let mut raised = Vec::new();
    for (name, in_control) in [
        ("max_connections", control.max_connections),
        ("max_prepared_transactions", control.max_prepared_transactions),
        ("max_locks_per_transaction", control.max_locks_per_transaction),
        ("max_worker_processes", control.max_worker_processes),
        ("max_wal_senders", control.max_wal_senders),
    ] {
        let configured = values.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        if in_control > configured {
            values.insert(name.to_owned(), in_control.to_string());
            warnings.push(format!(
                "{name} value in pg_controldata: {in_control}, in the global configuration: {configured}. \
                 pg_controldata value will be used. Setting 'Pending restart' flag"
            ));
            raised.push(RaisedParameter { name: name.to_owned(), configured, control: in_control });
        }
    }
    raised
}

/// The controlled parameters that go onto the postmaster's command line, where ALTER SYSTEM can't override them.
pub(crate) fn command_line(controlled: &BTreeMap<String, String>) -> Vec<(String, String)> {
    controlled
        .iter()
        .filter(|(name, _)| *name != WAL_KEEP_SIZE)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn local_values_win_except_for_what_the_cluster_controls() {
        let dynamic = map(&[("work_mem", "4MB"), ("max_connections", "200")]);
        let split = split(&dynamic, &map(&[("Work_Mem", "8MB"), ("MAX_CONNECTIONS", "300")]));
        assert_eq!(split.parameters, map(&[("work_mem", "8MB")]));
        assert_eq!(split.controlled, map(&[("max_connections", "200")]));
        assert_eq!(split.warnings.len(), 1);
    }

    #[test]
    fn an_invalid_controlled_value_falls_back_to_its_default() {
        for (name, value, expected, warned) in [
            ("max_connections", "'300'", "300", false),
            ("max_connections", "24", "100", true),
            ("max_connections", "many", "100", true),
            ("max_wal_senders", "3", "3", false),
            ("max_prepared_transactions", "0", "0", false),
            ("wal_level", "logical", "logical", false),
            ("wal_level", "hot_standby", "replica", false),
            ("wal_level", "minimal", "replica", true),
            ("hot_standby", "off", "on", true),
            ("wal_log_hints", "false", "off", false),
            ("track_commit_timestamp", "maybe", "off", true),
            ("wal_keep_size", "15MB", "128MB", true),
            ("wal_keep_size", "1GB", "1GB", false),
            ("wal_keep_segments", "4", "64MB", false),
            ("port", "1", "5432", false),
            ("cluster_name", "other", "demo", false),
        ] {
            let mut settings = crate::config::tests::settings();
            settings.controlled = map(&[(name, value)]);
            let mut warnings = Vec::new();
            let values = controlled(&settings, &mut warnings);
            let name = if name == WAL_KEEP_SEGMENTS { WAL_KEEP_SIZE } else { name };
            assert_eq!((values[name].as_str(), !warnings.is_empty()), (expected, warned), "{name}={value}");
        }
    }

    #[test]
    fn booleans_are_spelled_like_postgresql_does() {
        for (text, value) in [
            ("on", Some(true)),
            ("T", Some(true)),
            ("of", Some(false)),
            ("o", None),
            ("0", Some(false)),
            ("", None),
        ] {
            assert_eq!(boolean(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_kept_in_wal_is_not_passed_on_the_command_line() {
        let line = command_line(&controlled(&crate::config::tests::settings(), &mut Vec::new()));
        assert!(line.iter().any(|(name, value)| name == "wal_log_hints" && value == "on"));
        assert!(!line.iter().any(|(name, _)| name == WAL_KEEP_SIZE));
        assert_eq!(line.len(), 13);
    }
}
