//! Loading files, directories and variables.

use std::{collections::BTreeMap, fs, path::Path};

use bellwether_config::{LoadError, LoadErrorKind, Loaded, load, sections::watchdog::WatchdogMode};

pub(crate) const MINIMAL: &str = "\
scope: demo
name: pg1
restapi:
  listen: 127.0.0.1:8008
postgresql:
  listen: 127.0.0.1:5432
  data_dir: /tmp/demo/pg1
  authentication:
    superuser: {username: postgres, password: s3cret}
    replication: {username: replicator, password: s3cret}
raft:
  self_addr: 127.0.0.1:2380
  data_dir: /tmp/demo/raft
";

pub(crate) fn env(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Loads a text as a file that only its owner may read.
pub(crate) fn load_text(text: &str) -> (tempfile::TempDir, Result<Loaded, LoadError>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    write(&file, text);
    let loaded = load(Some(&file), &env(&[]));
    (dir, loaded)
}

pub(crate) fn write(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_minimal_file_loads_without_warnings_and_with_defaults() {
    let (_dir, loaded) = load_text(MINIMAL);
    let loaded = loaded.unwrap();
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.namespace, "/service");
    assert_eq!(config.restapi.api_url(), "http://127.0.0.1:8008/patroni");
    assert_eq!(config.postgresql.connect_address.to_string(), "127.0.0.1:5432");
    assert_eq!(config.postgresql.config_dir, config.postgresql.data_dir);
    assert_eq!(config.watchdog.mode, WatchdogMode::Automatic);
    assert!(config.watchdog.guardian_enabled());
}

#[test]
fn secrets_never_print() {
    let (_dir, loaded) = load_text(MINIMAL);
    let loaded = loaded.unwrap();
    let printed = format!("{loaded:?} {:?} {}", loaded.config, loaded.redacted());
    assert!(!printed.contains("s3cret"), "{printed}");
    assert!(loaded.document.to_string().contains("s3cret"));
}

#[test]
fn nothing_at_all_is_an_empty_configuration() {
    let error = load(None, &env(&[])).unwrap_err();
    assert_eq!(error.to_string(), "Config is empty.");
    assert_eq!(error.kind(), LoadErrorKind::Invalid);
}
