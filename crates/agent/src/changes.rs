//! Telling people, in Patroni's words, what a new configuration changes in PostgreSQL.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_config::Effective;
use bellwether_postgres::pending::PresentValue;
use bellwether_types::ServerRole;
use tracing::{info, warn};

use crate::agent::Agent;

/// The loop waits no longer than this for the running server to tell its present values: only words depend on them.
const PATIENCE: Duration = Duration::from_millis(300);

/// A parameter whose value the configuration gives anew; `None`: it is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Changed {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

/// Whether PostgreSQL is to be run differently in any respect.
pub(crate) fn differs(before: &Effective, after: &Effective) -> bool {
    let bare = |effective: &Effective| Effective {
        settings: bellwether_types::settings::Settings::default(),
        messages: Vec::new(),
        ..effective.clone()
    };
    bare(before) != bare(after)
}

fn changed(before: &Effective, after: &Effective, role: ServerRole) -> Vec<Changed> {
    let (before, after) = (before.parameters_for(role), after.parameters_for(role));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = |name: &String| Changed {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    names.into_iter().map(changed).filter(|changed| changed.before != changed.after).collect()
}

/// The line about one parameter; `None` where the server does not know it.
fn line(changed: &Changed, present: Option<&BTreeMap<String, PresentValue>>) -> Option<String> {
    let value = present.and_then(|present| present.get(&changed.name.to_ascii_lowercase()));
    if present.is_some() && value.is_none() && !changed.name.contains('.') {
        return None;
    }
    let before = value.map(|value| value.text.as_str()).or(changed.before.as_deref()).unwrap_or("None");
    let after = changed.after.as_deref().unwrap_or("None");
    let later =
        if value.is_some_and(|value| value.needs_restart) { " (restart might be required)" } else { "" };
    Some(format!("Changed {} from '{before}' to '{after}'{later}", changed.name))
}

impl Agent {
    /// Logs what is about to change, and what has been waiting for a restart since an earlier change.
    pub(crate) async fn tell_changes(&self, before: &Effective) {
        let changes = changed(before, &self.effective, ServerRole::from(self.local.role));
        let asked = async {
            self.local.postmaster.as_ref()?;
            let names = changes.iter().map(|changed| changed.name.as_str());
            tokio::time::timeout(PATIENCE, self.server.present_values(names)).await.ok()?.ok()
        };
        let present = asked.await;
        for changed in &changes {
            match line(changed, present.as_ref()) {
                Some(line) => info!("{line}"),
                None if changed.after.is_some() => {
                    warn!("Removing invalid parameter `{}` from postgresql.parameters", changed.name);
                }
                None => {}
            }
        }
        let told = |name: &str| changes.iter().any(|changed| changed.name.eq_ignore_ascii_case(name));
        for waiting in self.local.pending_restart.iter().filter(|waiting| !told(&waiting.name)) {
            let (name, old, new) = (&waiting.name, &waiting.old_value, &waiting.new_value);
            info!("Changed {name} from '{old}' to '{new}' (restart might be required)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(name: &str, before: Option<&str>, after: Option<&str>) -> Changed {
        Changed { name: name.to_owned(), before: before.map(str::to_owned), after: after.map(str::to_owned) }
    }

    #[test]
    fn lines_are_those_that_people_know() {
        let value = |text: &str, needs_restart| PresentValue { text: text.to_owned(), needs_restart };
        let present = BTreeMap::from([
            ("work_mem".to_owned(), value("4MB", false)),
            ("shared_buffers".to_owned(), value("32MB", true)),
            ("timezone".to_owned(), value("UTC", false)),
        ]);
        for (change, expected) in [
            (changed("work_mem", None, Some("8MB")), Some("Changed work_mem from '4MB' to '8MB'")),
            (changed("work_mem", Some("4MB"), None), Some("Changed work_mem from '4MB' to 'None'")),
            (
                changed("shared_buffers", Some("32MB"), Some("64MB")),
                Some("Changed shared_buffers from '32MB' to '64MB' (restart might be required)"),
            ),
            (changed("TimeZone", None, Some("CET")), Some("Changed TimeZone from 'UTC' to 'CET'")),
            (changed("foo.bar", None, Some("baz")), Some("Changed foo.bar from 'None' to 'baz'")),
            (changed("nonsense", None, Some("5")), None),
        ] {
            assert_eq!(line(&change, Some(&present)).as_deref(), expected, "{change:?}");
        }
        let unknown = line(&changed("work_mem", Some("4096kB"), Some("8MB")), None);
        assert_eq!(unknown.as_deref(), Some("Changed work_mem from '4096kB' to '8MB'"), "no server to ask");
    }
}
