//! The agent is killed: no client notices, and the next agent adopts the PostgreSQL that runs.

use bellwether_acceptance::{Cluster, PATIENCE, journal::Moment, wait::until};

#[tokio::test(flavor = "multi_thread")]
async fn not_one_statement_fails_when_the_agent_is_killed() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.whole().await;
    let timeline = leader.api.status().await["timeline"].clone();
    let postmaster = leader.postmaster_pid().expect("the leader has a postmaster");
    cluster.synchronous(leader).await;
    let settings = || {
        let file = leader.data_dir().join("postgresql.conf");
        let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("it is there");
        (std::fs::read_to_string(file).expect("it can be read"), modified)
    };
    let before = settings();
    let writer = cluster.writer();
    writer.writes(50).await;

    for kill in 1..=3 {
        let killed_at = Moment::now();
        leader.kill_agent();
        until("another agent runs", PATIENCE, || leader.supervisor().starts() == kill + 1).await;
        let now = cluster.whole().await;
        assert_eq!(now.name, leader.name, "nobody took over");
        until("the new agent leads", PATIENCE, || {
            leader.journal().since(killed_at).decision("leader_with_the_lock").is_some()
        })
        .await;
        let journal = leader.journal().since(killed_at);
        assert_eq!(
            leader.postmaster_pid(),
            Some(postmaster),
            "adopted, not restarted: {:?}",
            journal.codes()
        );
        assert!(journal.decision("resuming_lock").is_some(), "{:?}", journal.codes());
        writer.writes(50).await;
        assert_eq!(settings(), before, "what is in force, synchronous standbys above all, goes on");
    }

    assert_eq!(leader.api.status().await["timeline"], timeline);
    let guardians = leader.guardian_pids();
    assert_eq!(guardians.len(), 1, "earlier guardians were dismissed: {guardians:?}");
    let ledger = writer.stop().await;
    assert_eq!(ledger.failed, Vec::<String>::new(), "no statement failed");
    assert_eq!(ledger.sessions, 1, "the session was never interrupted");
    cluster.holds(&ledger).await;
}
