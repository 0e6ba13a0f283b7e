//! PostgreSQL's parameters: which the cluster controls, their defaults and limits.

use std::collections::BTreeMap;

/// Parameters as the settings want them, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitParameters {
    pub parameters: BTreeMap<String, String>,
    pub controlled: BTreeMap<String, String>,
    /// For people.
    pub warnings: Vec<String>,
}

/// Merges local over dynamic parameters and separates those that only the cluster may set.
pub fn split(dynamic: &BTreeMap<String, String>, local: &BTreeMap<String, String>) -> SplitParameters {
    let mut parameters = dynamic.clone();
    parameters.extend(local.clone());
    SplitParameters { parameters, ..SplitParameters::default() }
}
