//! Backups, restore, and the way back after the loss of a majority.

use std::{collections::BTreeSet, time::Duration};

use bellwether_dcs::{CommitOutcome, Store, Write};
use bellwether_dcs_raft::{ForceQuorum, OfflineError, inspect_backup, recover_force_quorum, restore_from};
use bellwether_types::Revision;

use crate::cluster::{Cluster, get, put, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_the_keys_into_a_new_store() {
    let mut cluster = Cluster::start(3).await;
    let store = cluster.nodes[0].store().clone();
    put(&*store, "config", "{\"ttl\":5}").await;
    let before = put(&*store, "history", "[]").await;
    let lease = store.grant_lease(Duration::from_secs(60), soon()).await.expect("a lease");
    store.commit(&[], &[Write::put_leased("leader", "a", lease)], soon()).await;
    let file = cluster.path("backup");
    let backup = store.snapshot_to(&file, soon()).await.expect("a backup");
    assert_eq!((backup.keys, backup.cluster.as_str()), (2, "demo"), "what hangs on a lease is not kept");
    assert!(matches!(store.snapshot_to(&file, soon()).await, Err(OfflineError::Exists(_))));
    drop(store);
    assert_eq!(inspect_backup(&file).expect("it is whole"), backup);

    let first = cluster.nodes[0].config.clone();
    assert!(matches!(
        restore_from(&file, &first.data_dir, "demo", &first.self_addr),
        Err(OfflineError::NotEmpty(_))
    ));
    for node in &mut cluster.nodes {
        node.kill();
        until("its files are closed", || std::fs::remove_dir_all(&node.config.data_dir).is_ok()).await;
    }
    assert!(matches!(
        restore_from(&file, &first.data_dir, "other", &first.self_addr),
        Err(OfflineError::OtherCluster { .. })
    ));
    assert_eq!(restore_from(&file, &first.data_dir, "demo", &first.self_addr).expect("it restores"), backup);
    for node in &mut cluster.nodes {
        node.start().await;
    }
    let store = cluster.nodes[0].store().clone();
    assert_eq!(get(&*store, "config").await.as_deref(), Some("{\"ttl\":5}"));
    let snapshot = store.snapshot(soon()).await.expect("a snapshot");
    assert_eq!(snapshot.entries.len(), 2);
    assert!(snapshot.revision > before, "no revision of before comes again");
    for address in &cluster.addresses()[1..] {
        store.add_member(address, soon()).await.expect("the others join");
    }
    cluster.until_founded().await;
    assert_eq!(get(&**cluster.nodes[2].store(), "history").await.as_deref(), Some("[]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused() {
    let cluster = Cluster::start(1).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    let file = cluster.path("backup");
    cluster.nodes[0].store().snapshot_to(&file, soon()).await.expect("a backup");
    let whole = std::fs::read(&file).expect("it is there");
    std::fs::write(&file, &whole[..whole.len() - 3]).expect("it is writable");
    let target = cluster.path("new");
    assert!(restore_from(&file, &target, "demo", "127.0.0.1:1").is_err());
    assert!(!target.exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_goes_on_after_a_confirmed_loss_and_refuses_the_lost() {
    let mut cluster = Cluster::start(3).await;
    let before = put(&**cluster.nodes[0].store(), "a", "1").await;
    until("everybody has it", || cluster.running().all(|status| status.revision == before.0)).await;
    let addresses = cluster.addresses();
    let old_store = cluster.nodes[0].store().status().store;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    cluster.nodes[0].shut_down().await;
    let survivor = cluster.nodes[0].config.clone();
    let lost = |names: &[String]| ForceQuorum {
        cluster: "demo".to_owned(),
        lost_members: names.iter().cloned().collect::<BTreeSet<_>>(),
    };
    for (case, confirmed) in
        [("nobody", &addresses[..0]), ("only one", &addresses[1..2]), ("itself too", &addresses[..])]
    {
        let refused = recover_force_quorum(&survivor.data_dir, &survivor.self_addr, &lost(confirmed));
        assert!(matches!(refused, Err(OfflineError::NotConfirmed { .. })), "{case}: {refused:?}");
    }
    let record = recover_force_quorum(&survivor.data_dir, &survivor.self_addr, &lost(&addresses[1..]))
        .expect("the loss is confirmed");
    assert!(record.file.exists());
    assert_eq!(record.old_store, old_store);

    cluster.nodes[0].start().await;
    let store = cluster.nodes[0].store().clone();
    assert_eq!(get(&*store, "a").await.as_deref(), Some("1"));
    let after = put(&*store, "b", "2").await;
    assert!(after > Revision(before.0 + 1000), "what the lost nodes may have handed out does not come again");
    assert_eq!(store.members().len(), 1);

    // A lost one comes back with its old data: it is refused, and cannot lead with the other.
    cluster.nodes[1].start().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(cluster.nodes[1].store().status().state, "leader");
    assert_eq!(cluster.nodes[1].store().status().store, old_store);
    let outcome = store.commit(&[], &[Write::put("c", "3")], soon()).await;
    assert!(matches!(outcome, CommitOutcome::Applied(_)), "{outcome:?}");

    // Wiped, it is welcome.
    cluster.nodes[1].kill();
    let node = &cluster.nodes[1];
    until("its files are closed", || std::fs::remove_dir_all(&node.config.data_dir).is_ok()).await;
    cluster.nodes[1].start().await;
    store.add_member(&addresses[1], soon()).await.expect("it joins");
    assert_eq!(get(&**cluster.nodes[1].store(), "c").await.as_deref(), Some("3"));
}
