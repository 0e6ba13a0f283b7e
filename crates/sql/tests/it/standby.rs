//! No read of ours is refused by a replica.

use crate::corpus::{self, File};
use crate::server_under_test::{TestServer, run, settings, until};
use bellwether_sql::Reader;
use bellwether_sql::catalogue::{Catalogue, QUERY};
use bellwether_sql::facts::{Class, Shape};
use bellwether_sql::pins::{Block, Pin, Pins};
use bellwether_sql::token::Strings;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Two sessions of one client: what the proxy would give it.
struct Session {
    primary: Client,
    replica: Client,
    pins: Pins,
    in_transaction: bool,
    /// To see how far it has replayed.
    watch: Client,
    /// To read the catalogue: what the statements set does not concern it.
    looker: Client,
    /// What was executed on the primary since it was waited for.
    changed: Changed,
    catalogue: Catalogue,
    reader: Reader,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    Data,
    Definitions,
}

#[derive(Default)]
struct Tally {
    reads: usize,
    others: usize,
    refused: Vec<String>,
    misunderstood: Vec<String>,
}

#[test]
#[expect(clippy::print_stdout, reason = "for whoever reads another corpus")]
fn no_read_is_refused_by_a_replica() {
    run(|root| async move {
        let primary = TestServer::primary(settings(&root, "a")).await;
        let standby = TestServer::standby(settings(&root, "b"), &primary).await;
        let mut total = Tally::default();
        for (at, file) in corpus::all().into_iter().enumerate() {
            let database = format!("corpus_{at}");
            primary.sql(&format!("CREATE DATABASE {database}")).await;
            play(&primary, &standby, &database, &file, &mut total).await;
        }
        println!("{} reads, {} others, misunderstood: {:#?}", total.reads, total.others, total.misunderstood);
        assert!(
            total.refused.is_empty(),
            "{} of {} reads: {:#?}",
            total.refused.len(),
            total.reads,
            total.refused
        );
        assert!(total.reads >= 25, "the reads among our own statements");
    });
}

#[test]
fn what_is_a_read_and_what_is_not() {
    // The statements of our own corpus that a replica may have, told by their beginnings.
    let wanted = [
        "SELECT 1;",
        "SELECT * FROM t WHERE a = 1",
        "select b, count",
        "SELECT a, b FROM t WHERE a BETWEEN",
        "SELECT c->>'g'",
        "SELECT x.a",
        "WITH n AS",
        "WITH RECURSIVE",
        "VALUES",
        "TABLE t",
        "SELECT now()",
        "SELECT random()",
        "SELECT rank()",
        "SELECT * FROM t TABLESAMPLE",
        "SELECT * FROM generate_series",
        "SELECT array_agg",
        "SELECT CASE a",
        "SELECT reads(1)",
        "SELECT * FROM plain_view",
        "SHOW server_version",
        "EXPLAIN SELECT",
        "COPY (SELECT a",
        "COPY t TO STDOUT",
        "SELECT xmlelement",
        "SELECT * FROM pg_class",
    ];
    run(|root| async move {
        let primary = TestServer::primary(settings(&root, "a")).await;
        let client = primary.client().await;
        for statement in corpus::own().statements {
            let _ = client.batch_execute(&statement).await;
            let _ = client.batch_execute("ROLLBACK").await;
        }
        let catalogue = read_catalogue(&client).await;
        let mut reader = Reader::new(1 << 20);
        for statement in corpus::own().statements {
            let class = reader.facts(statement.as_bytes(), Strings::Standard).class(Some(&catalogue));
            let expected = wanted.iter().any(|start| statement.starts_with(start))
                && !statement.contains("FOR KEY SHARE");
            assert_eq!(class == Class::Read, expected, "{statement}\n{class:?}");
        }
    });
}

async fn play(primary: &TestServer, standby: &TestServer, database: &str, file: &File, total: &mut Tally) {
    let client = connect(primary, database).await;
    let looker = connect(primary, database).await;
    looker.batch_execute("SET statement_timeout = 0").await.unwrap();
    let catalogue = read_catalogue(&looker).await;
    caught_up(&client, &standby.client().await).await;
    let mut session = Session {
        primary: client,
        replica: connect(standby, database).await,
        pins: Pins::default(),
        in_transaction: false,
        watch: standby.client().await,
        looker,
        changed: Changed::Definitions,
        catalogue,
        reader: Reader::new(1 << 20),
    };
    for statement in &file.statements {
        session.step(file, statement, total).await;
        if session.primary.is_closed() {
            session.primary = connect(primary, database).await;
        }
        if session.replica.is_closed() {
            session.replica = connect(standby, database).await;
        }
    }
}

impl Session {
    async fn step(&mut self, file: &File, statement: &str, total: &mut Tally) {
        let facts = self.reader.facts(statement.as_bytes(), Strings::Standard);
        let block = if self.in_transaction { Block::Inside } else { Block::Outside };
        facts.effects.iter().for_each(|effect| self.pins.apply(effect, block, |_| false));
        let could_read = facts.shape == Shape::Query && facts.effects.is_empty();
        // The pooler carries settings from connection to connection; whatever else pins keeps the client with the primary.
        let free = !self.in_transaction && self.pins.reasons().iter().all(|pin| *pin == Pin::Setting);
        if could_read && free {
            let changed = std::mem::replace(&mut self.changed, Changed::Nothing);
            if changed == Changed::Definitions {
                self.catalogue = read_catalogue(&self.looker).await;
            }
            if changed >= Changed::Data {
                caught_up(&self.primary, &self.watch).await;
            }
            if facts.class(Some(&self.catalogue)) == Class::Read {
                total.reads += 1;
                if let Some(told) = refusal(self.replica.simple_query(statement).await) {
                    total.refused.push(format!("{}: {statement}: {told}", file.name));
                }
                return;
            }
        }
        total.others += 1;
        if facts.shape == Shape::Primary(bellwether_sql::facts::Because::NotUnderstood)
            && self.primary.prepare(statement).await.is_ok()
        {
            total.misunderstood.push(format!("{}: {statement}", file.name));
        }
        let sets = statement.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("set "))
            || statement.starts_with("RESET");
        if sets && !self.in_transaction {
            let _ = self.replica.batch_execute(statement).await;
        }
        let _ = self.primary.simple_query(statement).await;
        let first = statement.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let data = ["insert", "update", "delete", "select", "with", "fetch", "set", "begin", "explain"];
        let changed = if data.contains(&first.as_str()) { Changed::Data } else { Changed::Definitions };
        self.changed = self.changed.max(changed);
        match first.trim_end_matches(';') {
            "begin" | "start" => self.in_transaction = true,
            "commit" | "rollback" | "end" | "abort" => {
                self.in_transaction = self.primary.simple_query("SAVEPOINT still_inside").await.is_ok();
            }
            _ => {}
        }
    }
}

/// What a replica says that a primary would not.
fn refusal(result: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>) -> Option<String> {
    let error = result.err()?;
    let error = error.as_db_error()?;
    let of_replica = error.code().code() == "25006"
        || error.message().contains("recovery")
        || error.message().contains("hot standby");
    of_replica.then(|| format!("{} {}", error.code().code(), error.message()))
}

async fn connect(server: &TestServer, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(server.settings().port)
        .user("admin")
        .password("super'geheim")
        .dbname(database);
    config.options("-c statement_timeout=1s -c lock_timeout=1s -c max_parallel_workers_per_gather=0");
    let mut client = None;
    until("the database is there", async || match config.connect(tokio_postgres::NoTls).await {
        Ok((found, connection)) => {
            tokio::spawn(connection);
            client = Some(found);
            true
        }
        Err(_) => false,
    })
    .await;
    client.unwrap()
}

async fn read_catalogue(client: &Client) -> Catalogue {
    let rows = client.simple_query(QUERY).await.expect("the catalogue can be read");
    let rows: Vec<(&str, &str)> = rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?, row.get(1)?)),
            _ => None,
        })
        .collect();
    Catalogue::from_rows(rows).unwrap()
}

/// Waits until the standby has replayed what the primary has written.
async fn caught_up(primary: &Client, watch: &Client) {
    let Ok(row) = primary.query_one("SELECT pg_catalog.pg_current_wal_flush_lsn()::text", &[]).await else {
        return;
    };
    let wanted: String = row.get(0);
    let query = format!("SELECT pg_last_wal_replay_lsn() >= '{wanted}'::pg_lsn");
    until("the standby has caught up", async || {
        watch.query_one(&query, &[]).await.expect("the standby answers").get(0)
    })
    .await;
}
