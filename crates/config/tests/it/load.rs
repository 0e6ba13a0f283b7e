//! Loading files, directories and variables.

use std::{collections::BTreeMap, fs, path::Path};

use bellwether_config::{
    LoadError, LoadErrorKind, Loaded, load, load_client, load_witness, sections::watchdog::WatchdogMode,
};

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

#[test]
fn the_sample_loads_without_warnings() {
    let (_dir, loaded) = load_text(bellwether_config::sample());
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
}

#[test]
fn later_files_and_then_variables_win_and_a_null_deletes() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("10-base.yml"), MINIMAL);
    write(
        &dir.path().join("20-more.yaml"),
        "name: pg2\nnamespace: /x//y/\npostgresql:\n  authentication:\n    superuser:\n      password: null\nwatchdog: {mode: off}\n",
    );
    write(&dir.path().join("30-ignored.txt"), "name: nobody\n");
    let env = env(&[
        ("PATRONI_NAME", "pg3"),
        ("PATRONI_SUPERUSER_USERNAME", "root"),
        ("PATRONI_CONFIGURATION", "name: x"),
    ]);
    let config = load(Some(dir.path()), &env).unwrap().config;
    assert_eq!(config.name.as_str(), "pg3");
    assert_eq!(config.namespace, "/x/y");
    assert_eq!(config.postgresql.authentication.superuser.username.as_deref(), Some("root"));
    assert!(config.postgresql.authentication.superuser.password.is_none());
    assert_eq!(config.watchdog.mode, WatchdogMode::Off);
}

#[test]
fn a_path_that_is_absent_counts_as_not_given() {
    let absent = Path::new("/nonexistent/patroni.yml");
    let whole = env(&[("PATRONI_CONFIGURATION", MINIMAL), ("PATRONI_NAME", "ignored")]);
    assert_eq!(load(Some(absent), &whole).unwrap().config.name.as_str(), "pg1");
    let variables = env(&[
        ("PATRONI_NAME", "pg9"),
        ("PATRONI_SCOPE", "demo"),
        ("PATRONI_RESTAPI_LISTEN", "127.0.0.1:8008"),
        ("PATRONI_POSTGRESQL_LISTEN", "127.0.0.1:5432"),
        ("PATRONI_POSTGRESQL_DATA_DIR", "/tmp/demo/pg9"),
        ("PATRONI_SUPERUSER_USERNAME", "postgres"),
        ("PATRONI_REPLICATION_USERNAME", "replicator"),
        ("PATRONI_RAFT_SELF_ADDR", "127.0.0.1:2380"),
        ("PATRONI_RAFT_DATA_DIR", "/tmp/demo/raft"),
    ]);
    let loaded = load(Some(absent), &variables).unwrap();
    assert_eq!(loaded.config.name.as_str(), "pg9");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn texts_that_yaml_reads_differently_are_warned_about() {
    for (written, read, reason) in [
        ("no", "no", "is a boolean to YAML, and Patroni would not read it as this text"),
        ("on", "on", "is a boolean to YAML, and Patroni would not read it as this text"),
        ("0600", "384", "is the number 384 to YAML"),
        ("1:30", "90", "is the number 90 to YAML"),
        ("1_0", "10", "is the number 10 to YAML"),
        ("1e3", "1e3", ""),
        ("'0600'", "0600", ""),
        ("17", "17", ""),
    ] {
        let (_dir, loaded) = load_text(&MINIMAL.replace("name: pg1", &format!("name: {written}")));
        let loaded = loaded.unwrap();
        assert_eq!(loaded.config.name.as_str(), read, "{written}");
        let reasons: Vec<&str> = loaded.warnings.iter().map(|warning| warning.reason.as_str()).collect();
        assert_eq!(reasons.join("|"), reason, "{written}");
    }
    let (_dir, loaded) = load_text(&MINIMAL.replacen("s3cret", "0600", 1));
    let warning = loaded.unwrap().warnings[0].to_string();
    assert!(warning.contains("superuser.password: is a number to YAML"), "{warning}");
    assert!(!warning.contains("600") && !warning.contains("384"), "{warning}");
}

#[test]
fn clients_and_witnesses_need_less() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patronictl.yaml");
    write(&file, "scope: demo\nraft: {partner_addrs: ['127.0.0.1:2380'], password: x}\n");
    let client = load_client(Some(&file), &env(&[]), None).unwrap();
    assert!(client.warnings.is_empty(), "{:?}", client.warnings);
    assert!(client.config.store.is_some() && client.config.postgresql.is_none());

    write(&file, MINIMAL);
    assert!(load_client(Some(&file), &env(&[]), None).unwrap().config.restapi.is_some());

    write(
        &file,
        "scope: demo\nname: w\nraft: {self_addr: '127.0.0.1:1', data_dir: /d, witness: true, insecure: true, partner_addrs: ['127.0.0.1:2', '127.0.0.1:3']}\n",
    );
    assert!(load_witness(Some(&file), &env(&[])).unwrap().config.raft.witness);
    let error = load(Some(&file), &env(&[])).unwrap_err().to_string();
    assert!(error.contains("start it with `bellwether witness`"), "{error}");
}

#[test]
fn a_file_with_passwords_that_everybody_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    write(&file, MINIMAL);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load(Some(&file), &env(&[])).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].reason.ends_with("holds passwords and may be read by everybody"), "{warnings:?}");
}
