//! Files that are not what they were.

use std::{fs, path::PathBuf};

use bellwether_dcs_raft::{StartError, StorageError};

use crate::{
    cluster::{Cluster, put, start},
    peers::chain,
};

/// A store of one node with some data, stopped.
async fn stopped() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(1).await;
    for number in 0..20 {
        put(&**cluster.nodes[0].store(), "a", &number.to_string()).await;
    }
    cluster.nodes[0].shut_down().await;
    let directory = cluster.nodes[0].config.data_dir.clone();
    (cluster, directory)
}

async fn refusal(cluster: &Cluster) -> StorageError {
    match start(&cluster.nodes[0].config).await {
        Err(StartError::Storage(error)) => error,
        other => panic!("it should refuse its files: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_an_error_and_never_an_empty_store() {
    let (cluster, directory) = stopped().await;
    fs::rename(directory.join("log.redb"), directory.join("elsewhere")).expect("it is there");
    let error = refusal(&cluster).await;
    assert!(matches!(error, StorageError::LogMissing { .. }), "{error}");
    fs::rename(directory.join("elsewhere"), directory.join("log.redb")).expect("it is there");
    fs::rename(directory.join("identity"), directory.join("elsewhere")).expect("it is there");
    let error = refusal(&cluster).await;
    assert!(matches!(error, StorageError::IdentityMissing { .. }), "{error}");
    assert!(directory.join("log.redb").exists(), "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_overwritten_file_is_an_error_that_names_it() {
    let (cluster, directory) = stopped().await;
    for file in ["identity", "log.redb"] {
        let path = directory.join(file);
        let whole = fs::read(&path).expect("it is there");
        let mut scribbled = whole.clone();
        let middle = scribbled.len() / 2;
        scribbled.iter_mut().for_each(|byte| *byte ^= 0x5a);
        let mut begun = whole.clone();
        begun[..40.min(whole.len())].fill(0);
        let cases = [
            ("emptied", Vec::new()),
            ("cut in the middle", whole[..middle].to_vec()),
            ("cut to a few bytes", whole[..whole.len().min(7)].to_vec()),
            ("overwritten", scribbled),
            ("overwritten at its beginning", begun),
        ];
        for (case, content) in cases {
            fs::write(&path, &content).expect("it is writable");
            let error = refusal(&cluster).await;
            assert!(chain(&error).contains(file), "{file} {case}: {}", chain(&error));
            assert_eq!(fs::read(&path).expect("it is there").len(), content.len(), "{file} {case}: touched");
        }
        fs::write(&path, &whole).expect("it is writable");
    }
    drop(start(&cluster.nodes[0].config).await.expect("the whole files are fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_block_of_the_log_is_noticed_or_harmless() {
    let (mut cluster, directory) = stopped().await;
    let path = directory.join("log.redb");
    let whole = fs::read(&path).expect("it is there");
    for block in (0..whole.len()).step_by(whole.len() / 40) {
        let mut flipped = whole.clone();
        let end = (block + 512).min(flipped.len());
        flipped[block..end].iter_mut().for_each(|byte| *byte ^= 0xff);
        fs::write(&path, &flipped).expect("it is writable");
        match start(&cluster.nodes[0].config).await {
            Err(StartError::Storage(_)) => {}
            Ok(store) => {
                let read = crate::cluster::get(&store, "a").await;
                assert_eq!(read.as_deref(), Some("19"), "damage at {block} changed the data");
                store.shutdown().await;
            }
            Err(other) => panic!("damage at {block}: {other}"),
        }
    }
    fs::write(&path, &whole).expect("it is writable");
    cluster.nodes[0].start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused_by_its_number() {
    let (cluster, directory) = stopped().await;
    let path = directory.join("identity");
    let mut content = fs::read(&path).expect("it is there");
    content[0] = 2;
    fs::write(&path, content).expect("it is writable");
    let error = refusal(&cluster).await;
    assert!(matches!(error, StorageError::Newer { found: 2, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused() {
    let cluster = Cluster::start(1).await;
    let mut twin = cluster.nodes[0].config.clone();
    twin.self_addr = crate::cluster::free_addresses(1).remove(0);
    let error = bellwether_dcs_raft::RaftStore::start(twin).await.expect_err("the directory is in use");
    assert!(matches!(error, StartError::Storage(StorageError::InUse { .. })), "{error:?}");
}
