use super::super::{Client, Database, Pool, Server, User};
use super::*;
use std::time::Duration;

fn snapshot() -> Snapshot {
    let totals = Totals {
        transactions: 100,
        queries: 400,
        query_micros: 8_000,
        received_bytes: 600,
        ..Totals::default()
    };
    Snapshot {
        databases: vec![Database {
            name: "app".into(),
            totals,
            server_lifetime: Some(Duration::from_secs(90)),
            max_server_connections: 7,
            client_connections: 3,
            ..Database::default()
        }],
        users: vec![User {
            name: "alice".into(),
            server_connections: 1,
            max_client_connections: 5,
            ..User::default()
        }],
        pools: vec![Pool {
            user: "alice".into(),
            longest_wait: Duration::from_micros(1_500_007),
            ..Pool::default()
        }],
        clients: vec![Client { id: 17, server: Some(31), ..Client::default() }],
        servers: vec![Server { id: 31, user: "alice".into(), state: "idle", ..Server::default() }],
        stats_period: Duration::from_secs(60),
        ..Snapshot::default()
    }
}

fn cell(show: Show, column: &str) -> Option<String> {
    let table = table(show, &snapshot());
    let at = table.columns.iter().position(|name| *name == column).expect(column);
    table.rows[0][at].clone()
}

#[test]
fn every_row_is_as_wide_as_its_header() {
    for show in Show::ALL {
        let table = table(*show, &snapshot());
        for row in &table.rows {
            assert_eq!(row.len(), table.columns.len(), "{show:?}");
        }
    }
}

#[test]
fn numbers_stand_under_their_names() {
    assert_eq!(cell(Show::Stats, "total_query_count").as_deref(), Some("400"));
    assert_eq!(cell(Show::Stats, "avg_query_count").as_deref(), Some("6"), "a second");
    assert_eq!(cell(Show::Stats, "avg_query_time").as_deref(), Some("20"), "microseconds a query");
    assert_eq!(cell(Show::Stats, "avg_recv").as_deref(), Some("10"));
    assert_eq!(cell(Show::Pools, "maxwait").as_deref(), Some("1"));
    assert_eq!(cell(Show::Pools, "maxwait_us").as_deref(), Some("500007"));
    assert_eq!(cell(Show::Pools, "load_balance_hosts"), None);
    assert_eq!(cell(Show::Clients, "link"), cell(Show::Servers, "ptr"), "who works for whom");
    assert_eq!(cell(Show::Users, "current_connections").as_deref(), Some("1"));
    assert_eq!(cell(Show::Users, "max_user_client_connections").as_deref(), Some("5"));
    assert_eq!(cell(Show::Users, "pool_size"), None);
    let database = |column| cell(Show::Databases, column);
    assert_eq!(database("paused").as_deref(), Some("0"));
    assert_eq!(database("server_lifetime").as_deref(), Some("90"));
    assert_eq!(database("max_connections").as_deref(), Some("7"));
    assert_eq!(database("current_client_connections").as_deref(), Some("3"));
    assert_eq!((database("force_user"), database("load_balance_hosts")), (None, None));
}
