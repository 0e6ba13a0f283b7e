//! Secrets that stand in files of their own: `password_file: NAME` beside or instead of `password`.
//!
//! A path that is not absolute names a credential of the service manager: a file in `$CREDENTIALS_DIRECTORY` (systemd's
//! `LoadCredential=`). The secret is put into the document as if it had been written there, so that everything else, the
//! comparison on reload included, sees the secret itself.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bellwether_types::secret::is_secret;

use crate::{
    Origin, Problem,
    node::{Kind, Node},
};

const SUFFIX: &str = "_file";

/// Sections whose secrets may stand in files. The rest of the document belongs to PostgreSQL, to scripts or to the store.
const SECTIONS: [&str; 12] = [
    "restapi",
    "restapi.authentication",
    "ctl",
    "ctl.authentication",
    "postgresql.authentication.superuser",
    "postgresql.authentication.replication",
    "postgresql.authentication.rewind",
    "etcd",
    "etcd3",
    "consul",
    "zookeeper",
    "raft",
];

/// Reads the files that the document names. Returns what cannot be used, and what deserves a look.
pub(crate) fn read(root: &mut Node, env: &BTreeMap<String, String>) -> (Vec<Problem>, Vec<Problem>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let credentials = env.get("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    for section in SECTIONS {
        let Some(node) = section_mut(root, section) else { continue };
        let named =
            node.entries().iter().filter_map(|entry| Some((entry.key.clone(), of(&entry.key)?.to_owned())));
        let named: Vec<(String, String)> = named.collect();
        for (key, secret) in named {
            let path = format!("{section}.{key}");
            match take(node, &key, &secret, credentials.as_deref()) {
                Ok(warning) => warnings.extend(warning.map(|reason| Problem { path, ..reason })),
                Err(problem) => problems.push(Problem { path, ..*problem }),
            }
        }
    }
    (problems, warnings)
}

/// The secret that a key names a file for: `password` of `password_file`.
pub(crate) fn of(key: &str) -> Option<&str> {
    key.strip_suffix(SUFFIX).filter(|secret| is_secret(secret) && *secret != "auth_data" && *secret != "auth")
}

fn section_mut<'a>(root: &'a mut Node, path: &str) -> Option<&'a mut Node> {
    let mut node = root;
    for key in path.split('.') {
        let Kind::Map(entries) = &mut node.kind else { return None };
        node = &mut entries.iter_mut().find(|entry| entry.key == key)?.node;
    }
    Some(node)
}

fn take(
    node: &mut Node,
    key: &str,
    secret: &str,
    credentials: Option<&Path>,
) -> Result<Option<Problem>, Box<Problem>> {
    let Some(entry) = node.entry(key) else { return Ok(None) };
    let (origin, written) = (entry.origin.clone(), entry.node.to_value());
    if let Some(other) = node.entry(secret) {
        match (is_variable(&other.origin), is_variable(&origin)) {
            // A variable wins over the file, as everywhere.
            (true, false) => return Ok(None),
            (false, true) => {}
            _ => {
                let reason = format!("`{secret}` is given as well, and only one of them can count");
                return Err(problem(reason, &origin, &format!("remove `{secret}` or `{key}`")));
            }
        }
    }
    let name = written.as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        problem(
            "expects the name of a file".to_owned(),
            &origin,
            "write an absolute path, or the name of a credential",
        )
    })?;
    let file = match (Path::new(name).is_absolute(), credentials) {
        (true, _) => PathBuf::from(name),
        (false, Some(dir)) => dir.join(name),
        (false, None) => {
            let reason =
                format!("`{name}` is no absolute path, and the service manager passes no credentials");
            let remedy = format!("write an absolute path, or add `LoadCredential={name}:...` to the unit");
            return Err(problem(reason, &origin, &remedy));
        }
    };
    let text = fs::read_to_string(&file).map_err(|error| {
        let reason = format!("could not read {}: {error}", file.display());
        problem(reason, &origin, "check the path, and that the daemon's user may read it")
    })?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(problem(format!("{} is empty", file.display()), &origin, "write the secret into it"));
    }
    node.insert(secret, Node::text(text, origin.clone()));
    let open = fs::metadata(&file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0);
    Ok(open.then(|| {
        let warning = Problem::new("", format!("{} may be read by everybody", file.display())).at(&origin);
        warning.help(format!("run `chmod 0600 {}`", file.display()))
    }))
}

fn is_variable(origin: &Origin) -> bool {
    origin.source.as_ref().is_some_and(|source| source.starts_with("environment variable"))
}

fn problem(reason: String, origin: &Origin, remedy: &str) -> Box<Problem> {
    Box::new(Problem::new("", reason).at(origin).help(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    struct Case {
        root: Node,
        problems: Vec<Problem>,
        warnings: Vec<Problem>,
    }

    fn read_text(text: &str, env: &[(&str, &str)]) -> Case {
        let (mut root, _) = yaml::parse(text, &"t.yml".into()).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (problems, warnings) = read(&mut root, &env);
        Case { root, problems, warnings }
    }

    fn password(root: &Node) -> serde_json::Value {
        root.to_value()["etcd3"]["password"].clone()
    }

    #[test]
    fn a_secret_comes_from_a_file_or_from_the_service_manager() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        fs::write(&file, "top secret \n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let credentials = [("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())];

        let absolute = read_text(&format!("etcd3: {{password_file: {}}}", file.display()), &[]);
        assert_eq!(password(&absolute.root), "top secret ", "one line end is not part of it");
        assert!(absolute.problems.is_empty() && absolute.warnings.is_empty());
        let relative = read_text("etcd3: {password_file: secret}", &credentials);
        assert_eq!(password(&relative.root), "top secret ");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = read_text("etcd3: {password_file: secret}", &credentials);
        assert_eq!(open.warnings[0].path, "etcd3.password_file");
        assert!(open.warnings[0].reason.ends_with("may be read by everybody"), "{:?}", open.warnings);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        for (text, reason) in [
            ("etcd3: {password_file: secret}", "`secret` is no absolute path"),
            ("etcd3: {password_file: /nonexistent/x}", "could not read /nonexistent/x"),
            ("etcd3: {password_file: /dev/null}", "/dev/null is empty"),
            ("etcd3: {password_file: [a]}", "expects the name of a file"),
            ("etcd3: {password: x, password_file: /dev/null}", "`password` is given as well"),
        ] {
            let case = read_text(text, &[]);
            let problem = &case.problems[0];
            assert!(problem.reason.starts_with(reason), "{text}: {problem}");
            assert_eq!(
                (problem.path.as_str(), problem.origin.line),
                ("etcd3.password_file", Some(1)),
                "{text}"
            );
        }
    }

    #[test]
    fn scripts_and_postgresql_keep_their_own_keys() {
        for text in [
            "postgresql: {wal_e: {command: x, password_file: /x}}",
            "bootstrap: {clone: {command: x, password_file: /x}}",
            "postgresql: {parameters: {password_file: /x}}",
        ] {
            assert!(read_text(text, &[]).problems.is_empty(), "{text}");
        }
        assert_eq!(of("password_file"), Some("password"));
        assert_eq!(of("keyfile_password_file"), Some("keyfile_password"));
        assert_eq!(of("hba_file"), None);
    }
}
