//! `citus`: the group of a Citus cluster that this member belongs to.

use crate::section::Section;

/// A part of a Citus cluster. Nothing of it is applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citus {
    /// [`Citus::COORDINATOR`], or a worker's number.
    pub group: u32,
    /// The database that has the extension, on every node.
    pub database: String,
}

impl Citus {
    /// The group of the coordinator.
    pub const COORDINATOR: u32 = 0;

    /// `None` without the section, and with half of one, which has no effect.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        if !root.has("citus") {
            return None;
        }
        let section = root.child("citus");
        if !section.has("group") || !section.has("database") {
            let warning = root.about("citus", "has no effect without both `group` and `database`");
            root.report.warn(warning.help("name both, or remove the section"));
            return None;
        }
        let group = section.integer("group", 0..=i64::from(i32::MAX));
        let database = section.required_text("database", "name the database that has the extension `citus`");
        Some(Self { group: group?.try_into().ok()?, database: database? })
    }

    /// Whether this member is one of the coordinator's.
    pub fn is_coordinator(&self) -> bool {
        self.group == Self::COORDINATOR
    }
}
