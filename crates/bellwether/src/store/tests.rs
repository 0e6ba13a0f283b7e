//! What the sections of stores that are somebody else's become.

use std::collections::BTreeMap;

use bellwether_config::{Config, load};

use super::*;

/// A member's file with this store.
fn config(store: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yml");
    let text = format!(
        "{{scope: s, name: a, restapi: {{listen: '127.0.0.1:8008'}}, {store}, postgresql: {{listen: '127.0.0.1:5432', \
         data_dir: /d, authentication: {{superuser: {{username: u, password: p}}, replication: {{username: r, password: p}}}}}}}}"
    );
    std::fs::write(&file, text).unwrap();
    load(Some(&file), &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}")).config
}

async fn open_it(store: &str) -> Result<(Config, Opened), StartError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = config(store);
    let opened = open(&config).await?;
    Ok((config, opened))
}

/// The sections of the stores, and whether each is in this program.
const STORES: [(&str, &str, bool); 3] = [
    ("etcd3", "etcd3: {hosts: '127.0.0.1:1'}", cfg!(feature = "etcd")),
    ("consul", "consul: {host: '127.0.0.1:1', session_ttl_min: 3s}", cfg!(feature = "consul")),
    ("zookeeper", "zookeeper: {hosts: '127.0.0.1:1', tick_time: 700}", cfg!(feature = "zookeeper")),
];

#[tokio::test]
async fn a_store_is_opened_with_the_floor_that_its_section_says_or_told_to_be_absent() {
    for (kind, section, is_built_in) in STORES {
        match open_it(section).await {
            Ok((config, opened)) => {
                assert!(is_built_in, "{kind}");
                let capabilities = opened.as_store().capabilities();
                assert_eq!(capabilities.kind, kind);
                assert_eq!(capabilities.minimum_ttl, config.store.minimum_ttl(), "{kind}");
                assert!(!matches!(opened, Opened::Node(_) | Opened::Client(_)), "{kind}");
            }
            Err(error) => {
                assert!(!is_built_in, "{kind}: {error}");
                assert!(error.to_string().contains(kind), "{error}");
                assert_eq!(error.failure(), Failure::StoreSettings);
            }
        }
    }
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn another_login_for_etcd_is_taken_by_a_reload() {
    let (first, opened) = open_it("etcd3: {url: 'http://127.0.0.1:1', use_proxies: true}").await.unwrap();
    assert_eq!(opened.renew_credentials(&first.store).await.unwrap(), Renewed::None);
    let second = config("etcd3: {url: 'http://127.0.0.1:1', username: u, password: p}");
    for expected in [Renewed::Login, Renewed::None] {
        assert_eq!(opened.renew_credentials(&second.store).await.unwrap(), expected);
    }
}

#[cfg(feature = "consul")]
#[tokio::test]
async fn certificates_for_consul_are_told_to_need_a_restart() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let section = |scheme: &str, file: &std::path::Path| {
        format!("consul: {{host: '127.0.0.1:1', scheme: {scheme}, cacert: {}}}", file.display())
    };
    for (scheme, expected) in [("https", Renewed::OnlyAtStart), ("http", Renewed::None)] {
        let (config, opened) = open_it(&section(scheme, ca.path())).await.unwrap();
        assert_eq!(opened.renew_credentials(&config.store).await.unwrap(), expected, "{scheme}");
    }
}

#[cfg(feature = "consul")]
#[tokio::test]
async fn a_certificate_that_is_gone_has_the_code_of_credentials() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let config = config(&format!("consul: {{scheme: https, cacert: {}}}", ca.path().display()));
    drop(ca);
    let error = open(&config).await.expect_err("the file is gone");
    assert_eq!(error.failure(), Failure::StoreCredentials, "{error}");
}

#[cfg(feature = "zookeeper")]
#[tokio::test]
async fn the_certificates_for_zookeeper_are_read_when_it_is_to_be_encrypted() {
    let no_authority = tempfile::NamedTempFile::new().unwrap();
    let section = |use_ssl: bool| {
        format!(
            "zookeeper: {{hosts: '127.0.0.1:1', use_ssl: {use_ssl}, cacert: {}}}",
            no_authority.path().display()
        )
    };
    assert!(open_it(&section(false)).await.is_ok(), "in clear text nobody reads it");
    let error = open_it(&section(true)).await.expect_err("there is no authority in it");
    let told = bellwether_types::chain(&error);
    assert!(told.contains("no usable certificate authority") && told.contains("`/"), "{told}");
}
