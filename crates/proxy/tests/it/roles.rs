//! What happens to clients when roles change.

use std::time::Duration;

use bellwether_proxy::settings::PoolerSettings;
use bellwether_types::Role;
use tokio_postgres::error::SqlState;

use crate::{
    front::{Front, LEASE, ask, client, create_user, member, picture},
    server_under_test::{TestServer, run, settings},
};

async fn port_of(client: &tokio_postgres::Client) -> String {
    ask(client, "inet_server_port()").await.unwrap()
}

/// Waits until the proxy has ended a session.
async fn until_closed(client: &tokio_postgres::Client) {
    let closed = async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the session is ended");
}

#[test]
fn clients_follow_the_primary_and_nobody_writes_to_a_deposed_one() {
    run(async |root| {
        let first = TestServer::primary(settings(&root, "first")).await;
        create_user(&first).await;
        let second = TestServer::standby(settings(&root, "second"), &first).await;
        let members = |timeline| {
            vec![
                member("first", &first, Role::Primary, timeline),
                member("second", &second, Role::Replica, timeline),
            ]
        };
        let front =
            Front::start(picture(Some("first"), members(1), LEASE), &first, PoolerSettings::default()).await;
        let direct = client(front.tcp).await.unwrap();
        let (idle, busy) = (client(front.pooled).await.unwrap(), client(front.pooled).await.unwrap());
        let first_port = first.settings().port.to_string();
        for one in [&direct, &idle] {
            assert_eq!(port_of(one).await, first_port);
        }
        busy.batch_execute("BEGIN").await.unwrap();

        // Another member has the lock, and is still in recovery: its key says otherwise, but the server itself is asked.
        let mut promoted = members(1);
        promoted[0].role = Some(Role::Demoted);
        promoted[1].role = Some(Role::Primary);
        front.show(picture(Some("second"), promoted, LEASE));
        let error = direct.query("SELECT 1", &[]).await.unwrap_err();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
        let error = busy.query("SELECT 1", &[]).await.unwrap_err();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
        let asking = tokio::spawn(async move { (port_of(&idle).await, idle) });
        tokio::time::timeout(Duration::from_millis(500), client(front.tcp))
            .await
            .expect("a standby as primary is refused at once")
            .expect_err("in plain sight it says that it is a standby");
        assert!(!asking.is_finished(), "the idle client waits for a primary that is one");
        second.client().await.execute("SELECT pg_promote()", &[]).await.unwrap();
        let (reached, idle) = asking.await.unwrap();
        assert_eq!(reached, second.settings().port.to_string());

        // A server on an older timeline than the cluster's is none either, though it takes writes.
        let direct = client(front.tcp).await.unwrap();
        front.show(picture(Some("first"), members(2), LEASE));
        until_closed(&direct).await;
        let refused = tokio::time::timeout(Duration::from_millis(700), port_of(&idle)).await;
        assert!(refused.is_err(), "{refused:?}");
    });
}

#[test]
fn nothing_is_routed_on_a_picture_that_is_too_old() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "first")).await;
        create_user(&server).await;
        let lease = Duration::from_millis(1500);
        let members = vec![member("first", &server, Role::Primary, 1)];
        let front =
            Front::start(picture(Some("first"), members.clone(), lease), &server, PoolerSettings::default())
                .await;
        let direct = client(front.tcp).await.unwrap();
        ask(&direct, "1").await.unwrap();

        // With nothing heard since, the session ends with the lease, and no new one begins.
        until_closed(&direct).await;
        let error = client(front.tcp).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CANNOT_CONNECT_NOW), "{error}");

        // Heard again, all is well.
        front.show(picture(Some("first"), members, LEASE));
        ask(&client(front.tcp).await.unwrap(), "1").await.unwrap();
    });
}
