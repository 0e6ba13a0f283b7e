//! One address for everything: reads are answered by replicas, and each client sees what it has written, whatever the replicas lack.

use std::{collections::BTreeSet, time::Duration};

use bellwether_acceptance::{Cluster, Node, Options, PATIENCE, eventually, sql::Session, wait::throughout};
use tokio_postgres::SimpleQueryMessage;

const WHERE: &str = "SELECT inet_server_port()";

/// The port of the server that answered, by the simple protocol.
async fn server_of(session: &Session, query: &str) -> u16 {
    let answer = session.client.simple_query(query).await.expect(query);
    let port = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    port.expect("a row").parse().expect("a port")
}

/// The same by the extended protocol, with a prepared statement.
async fn server_of_prepared(session: &Session) -> u16 {
    let statement = session.client.prepare(WHERE).await.expect("it can be prepared");
    let row = session.client.query_one(&statement, &[]).await.expect("a row");
    u16::try_from(row.get::<_, i32>(0)).expect("a port")
}

/// Sessions on replicas that are in the way of what the primary does next: replay waits for them. (The agent ends a pause of
/// the replay, as somebody may have forgotten it.)
async fn stall(primary: &Node, replicas: &[&Node]) -> Vec<Session> {
    let mut readers = Vec::new();
    for node in replicas {
        let reader = node.sql().await;
        eventually("the table is there", PATIENCE, || async {
            reader.client.batch_execute("ROLLBACK; BEGIN; SELECT FROM in_the_way").await
        })
        .await;
        readers.push(reader);
    }
    primary.sql().await.client.batch_execute("DROP TABLE in_the_way").await.expect("it is dropped");
    readers
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_to_replicas_and_clients_see_their_writes() {
    let cluster = Cluster::start_with(Options::nodes(3).with_routers()).await;
    let primary = cluster.whole().await;
    let others = cluster.others(primary);
    let replicas: BTreeSet<u16> = others.iter().map(|node| node.postgres_port).collect();
    let port = others[0].router.split;
    let session = Session::at(port).await.expect("a session");
    session
        .client
        .batch_execute(
            "CREATE TABLE t (a int);
             CREATE TABLE in_the_way (a int);
             CREATE SEQUENCE numbers;
             CREATE FUNCTION hides_it() RETURNS int STABLE LANGUAGE plpgsql
                AS 'BEGIN PERFORM nextval(''numbers''); RETURN inet_server_port(); END';
             CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (0) RETURNING inet_server_port()'",
        )
        .await
        .expect("the primary takes it");

    let reader = Session::at(port).await.expect("a session");
    eventually("a replica answers", PATIENCE, || async {
        let found = server_of(&reader, WHERE).await;
        if replicas.contains(&found) { Ok(()) } else { Err(format!("{found} answers")) }
    })
    .await;
    assert!(replicas.contains(&server_of_prepared(&reader).await), "by the extended protocol");
    let seen = std::cell::RefCell::new(BTreeSet::new());
    eventually("all replicas have their turn", PATIENCE, || async {
        let found = server_of(&reader, WHERE).await;
        seen.borrow_mut().insert(found);
        if seen.borrow().is_superset(&replicas) { Ok(()) } else { Err(format!("{:?} answer", seen.borrow())) }
    })
    .await;
    for writes in [
        "WITH w AS (INSERT INTO t VALUES (0) RETURNING a) SELECT inet_server_port() FROM w",
        "SELECT inet_server_port() FROM t LIMIT 1 FOR UPDATE",
        "SELECT writes()",
        // What a replica finds out is told to the primary, and the client hears nothing of it.
        "SELECT hides_it()",
        "/* bellwether: leader */ SELECT inet_server_port()",
        "BEGIN; SELECT inet_server_port(); COMMIT",
    ] {
        assert_eq!(server_of(&reader, writes).await, primary.postgres_port, "{writes}");
    }
    let statement = reader.client.prepare("SELECT hides_it()").await.expect("it can be prepared");
    let row = reader.client.query_one(&statement, &[]).await.expect("the primary answers");
    assert_eq!(row.get::<_, i32>(0), i32::from(primary.postgres_port));
    let demanded = reader.client.simple_query("/* bellwether: replica */ SELECT hides_it()").await;
    let refused = demanded.expect_err("whoever demands a replica hears what it says");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
    transactions_and_roles(&reader, &replicas, primary.postgres_port).await;

    // Every write is seen by its client at once, wherever it reads.
    let mut readers = BTreeSet::new();
    for round in 1..=50 {
        let insert = format!("INSERT INTO t VALUES ({round})");
        session.client.batch_execute(&insert).await.expect("a write");
        let row =
            session.client.query_one("SELECT max(a), inet_server_port() FROM t", &[]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), round, "its own write");
        readers.insert(u16::try_from(row.get::<_, i32>(1)).expect("a port"));
    }
    assert!(readers.iter().any(|port| replicas.contains(port)), "and not only at the primary: {readers:?}");

    let bounded = Session::at(others[0].router.bounded).await.expect("a session");
    eventually("a replica shows what is a second old", PATIENCE, || async {
        let found = server_of(&bounded, WHERE).await;
        if replicas.contains(&found) { Ok(()) } else { Err(format!("{found} answers")) }
    })
    .await;

    // Also while the replicas lack it; others go on reading there.
    let readers = stall(primary, &others).await;
    session.client.batch_execute("INSERT INTO t VALUES (1000)").await.expect("a write");
    let seen = "SELECT inet_server_port() FROM t WHERE a = 1000";
    assert_eq!(server_of(&session, seen).await, primary.postgres_port);
    let stranger = Session::at(port).await.expect("a session");
    assert!(replicas.contains(&server_of(&stranger, WHERE).await));
    let old = stranger.client.query(seen, &[]).await.expect("an answer");
    assert!(old.is_empty(), "who has not written it may see it later");
    // Whose reads may be a second old finds it a second later, and from then on.
    let found = async || match bounded.client.query(seen, &[]).await.expect("an answer").is_empty() {
        false => Ok(()),
        true => Err("what others have written is not seen"),
    };
    eventually("the primary answers", PATIENCE, &found).await;
    throughout("the primary answers", Duration::from_secs(2), &found).await;
    drop(readers);
    eventually("the writer reads at a replica again", PATIENCE, || async {
        let found = server_of(&session, seen).await;
        if replicas.contains(&found) { Ok(()) } else { Err(format!("{found} answers")) }
    })
    .await;
}

async fn transactions_and_roles(reader: &Session, replicas: &BTreeSet<u16>, primary: u16) {
    // Right behind a write its position is not known yet, and the primary answers.
    eventually("a transaction that only reads runs at a replica", PATIENCE, || async {
        reader.client.batch_execute("BEGIN READ ONLY").await.expect("a transaction");
        let found = server_of(reader, WHERE).await;
        if replicas.contains(&found) {
            return Ok(());
        }
        reader.client.batch_execute("ROLLBACK").await.expect("its end");
        Err(format!("{found} answers"))
    })
    .await;
    let refused = reader.client.batch_execute("INSERT INTO t VALUES (0)").await.expect_err("a replica");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
    reader.client.batch_execute("ROLLBACK").await.expect("its end");

    reader.client.batch_execute("SET bellwether.role = 'leader'").await.expect("a command to the proxy");
    assert_eq!(server_of(reader, WHERE).await, primary);
    reader.client.batch_execute("RESET bellwether.role").await.expect("a command to the proxy");
    // The session has written by now: that replica answers which shows it.
    eventually("a replica answers", PATIENCE, || async {
        let found = server_of(reader, WHERE).await;
        if replicas.contains(&found) { Ok(()) } else { Err(format!("{found} answers")) }
    })
    .await;
}
