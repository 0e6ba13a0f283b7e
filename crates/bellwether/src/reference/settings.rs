//! Settings of the local file and of the dynamic configuration.

use std::fmt::Write;

use bellwether_config::{Setting, settings};

use super::{code, head, row};

const INTRO: &str = "\
# Settings

Every key of the configuration file, with what it takes, its default, and when a change takes effect: at a *reload* (SIGHUP,
`POST /reload`), at a *restart of the agent* (PostgreSQL goes on meanwhile), or only when a *new cluster* is created.

A key `a.b` can be given as environment variable `PATRONI_A_B` as Patroni's users know it. `bellwether config check FILE`
tells every problem of a file, `bellwether config show FILE` what is in force, `bellwether config schema` prints a schema for editors.
Times are in seconds unless a unit is written (`500ms`, `1min`).
";

const DYNAMIC: &str = "\
These keys live in the store and are the same for all members. In a file they are read below `bootstrap.dcs`, and only when a new cluster
is created. Change them with `bellwether edit-config`, `PATCH /config` or `PUT /config`: every member takes the change into use
at once, and says so if it cannot. A new cluster on the embedded store begins with other values for some of
them, see [Three servers](../guides/three-servers.md).
";

/// The dynamic configuration, as it stands in a file.
const DCS: &str = "bootstrap.dcs";

pub(super) fn page() -> String {
    let all = settings();
    let mut page = INTRO.to_owned();
    let is_dynamic = |setting: &Setting| setting.path.starts_with(&format!("{DCS}."));
    let local: Vec<&Setting> = all.iter().filter(|setting| !is_dynamic(setting)).collect();
    let top = |setting: &Setting| setting.path.split('.').next().unwrap_or_default().to_owned();
    let has_keys = |name: &str| local.iter().any(|setting| setting.path.starts_with(&format!("{name}.")));

    page.push_str("\n## At the top\n\n");
    let single = local.iter().filter(|setting| !setting.path.contains('.') && !has_keys(&setting.path));
    table(&mut page, single.copied(), 0);
    let sections = local.iter().filter(|setting| !setting.path.contains('.') && has_keys(&setting.path));
    for section in sections {
        let _ = write!(page, "\n## `{}`\n\n{}\n\n", section.path, section.doc);
        let keys = local.iter().filter(|setting| setting.path.contains('.') && top(setting) == section.path);
        table(&mut page, keys.copied(), section.path.len() + 1);
    }
    let _ = write!(page, "\n## Dynamic configuration\n\n{DYNAMIC}\n");
    page.push_str(&head(&["key", "takes", "default", "meaning"]));
    for setting in all.iter().filter(|setting| is_dynamic(setting)) {
        let name = code(&setting.path[DCS.len() + 1..]);
        page.push_str(&row(&[&name, &setting.form, &code(setting.default), setting.doc]));
    }
    page
}

fn table<'a>(page: &mut String, settings: impl Iterator<Item = &'a Setting>, strip: usize) {
    page.push_str(&head(&["key", "takes", "default", "change at", "meaning"]));
    for setting in settings {
        let (name, default) = (code(&setting.path[strip..]), code(setting.default));
        page.push_str(&row(&[&name, &setting.form, &default, setting.applies, setting.doc]));
    }
}
