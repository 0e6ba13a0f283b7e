//! What happens to clients when roles change.

use std::{sync::Arc, time::Duration};

use bellwether_proxy::{
    routes::Target,
    settings::{Limits, Mode, PoolerSettings, Settings},
};
use bellwether_types::{Duty, Role};
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

#[test]
fn a_replica_that_does_not_answer_is_left_alone_for_a_while() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "first")).await;
        create_user(&server).await;
        // A reader is whoever the picture says: here the same server, and one behind whose port nobody is.
        let there = member("there", &server, Role::Replica, 1);
        let mut gone = member("gone", &server, Role::Replica, 1);
        gone.conn_url = Some("postgres://127.0.0.1:1/postgres".to_owned());
        let members = vec![member("first", &server, Role::Primary, 1), gone, there];
        let front =
            Front::start(picture(Some("first"), members, LEASE), &server, PoolerSettings::default()).await;
        let before = front.settings.borrow().clone();
        let mut listeners = before.listeners.clone();
        listeners[1].target = Target::Replicas;
        front.settings.send_replace(Arc::new(Settings { listeners, ..(*before).clone() }));
        let failures = "bellwether_proxy_pool_server_failures_total{database=\"postgres\",user=\"app\",role=\"replicas\",mode=\"transaction\"}";
        let by = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut busy = Vec::new();
        while busy.len() < 12 {
            assert!(tokio::time::Instant::now() < by, "{} clients", busy.len());
            if let Ok(client) = client(front.pooled).await {
                // Each needs a server of its own.
                client.batch_execute("BEGIN").await.unwrap();
                busy.push(client);
            }
        }
        // Each thread notices by itself, and tries again only after seconds.
        let failed = front.metric(failures).await;
        assert!((1.0..=6.0).contains(&failed), "{failed} of the attempts were made at a member that is gone");
    });
}

#[test]
fn a_member_is_drained_taken_out_and_brought_back() {
    run(async |root| {
        let first = TestServer::primary(settings(&root, "first")).await;
        create_user(&first).await;
        let second = TestServer::standby(settings(&root, "second"), &first).await;
        let seen = |duty| {
            let mut reader = member("second", &second, Role::Replica, 1);
            reader.duty = duty;
            picture(Some("first"), vec![member("first", &first, Role::Primary, 1), reader], LEASE)
        };
        let front = Front::start(seen(Duty::Ready), &first, PoolerSettings::default()).await;
        let before = front.settings.borrow().clone();
        let mut listeners = before.listeners.clone();
        for (listener, mode) in listeners.iter_mut().zip([Mode::Tcp, Mode::Session]) {
            (listener.target, listener.mode) = (Target::Replicas, mode);
        }
        front.settings.send_replace(Arc::new(Settings { listeners, ..(*before).clone() }));
        let reader = second.settings().port.to_string();
        let by = tokio::time::Instant::now() + Duration::from_secs(20);
        let reads = async |port| match client(port).await {
            Ok(session) => (port_of(&session).await == reader).then_some(session),
            Err(_) => None,
        };
        let mut sessions = Vec::new();
        for port in [front.tcp, front.pooled] {
            for _ in 0..2 {
                sessions.push(loop {
                    match reads(port).await {
                        Some(session) => break session,
                        None => assert!(tokio::time::Instant::now() < by, "readers reach the replica"),
                    }
                });
            }
        }
        let [idle, busy, idle_pooled, busy_pooled] = &sessions[..] else { unreachable!() };
        for one in [busy, busy_pooled] {
            one.batch_execute("BEGIN").await.unwrap();
        }

        // Drained: whoever is there stays, and goes on; nobody else comes.
        front.show(seen(Duty::Drain));
        let refused = async |port| loop {
            match client(port).await {
                // The pools tell of it after `query_wait_timeout` only.
                Err(error) => break error.code().cloned(),
                Ok(_) => assert!(tokio::time::Instant::now() < by, "nobody is led to a drained member"),
            }
        };
        assert_eq!(refused(front.tcp).await, Some(SqlState::CANNOT_CONNECT_NOW));
        for one in &sessions {
            assert_eq!(port_of(one).await, reader);
        }

        // Taken out: who is between transactions goes at once, the others with their transaction.
        front.show(seen(Duty::Maint));
        for one in [idle, idle_pooled] {
            until_closed(one).await;
        }
        for one in [busy, busy_pooled] {
            assert_eq!(port_of(one).await, reader, "in a transaction");
            one.batch_execute("COMMIT").await.unwrap();
        }
        until_closed(busy).await;
        until_closed(busy_pooled).await;

        front.show(seen(Duty::Ready));
        while reads(front.tcp).await.is_none() || reads(front.pooled).await.is_none() {
            assert!(tokio::time::Instant::now() < by, "it is led to again");
        }
    });
}

#[test]
fn a_transaction_at_a_member_that_is_taken_out_ends_with_the_patience() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "first")).await;
        create_user(&server).await;
        // The picture alone says who is a replica.
        let seen = |duty| {
            let mut reader = member("reader", &server, Role::Replica, 1);
            reader.duty = duty;
            // So that nobody gets through before the listener leads to replicas.
            let mut gone = member("first", &server, Role::Primary, 1);
            gone.conn_url = Some("postgres://127.0.0.1:1/postgres".to_owned());
            picture(Some("first"), vec![gone, reader], LEASE)
        };
        let front = Front::start(seen(Duty::Ready), &server, PoolerSettings::default()).await;
        let before = front.settings.borrow().clone();
        let mut listeners = before.listeners.clone();
        listeners[0].target = Target::Replicas;
        let limits = Limits { drain_timeout: Duration::from_millis(300), ..before.limits.clone() };
        front.settings.send_replace(Arc::new(Settings { listeners, limits, ..(*before).clone() }));
        let by = tokio::time::Instant::now() + Duration::from_secs(20);
        let busy = loop {
            match client(front.tcp).await {
                Ok(session) => break session,
                Err(error) => assert!(tokio::time::Instant::now() < by, "{error}"),
            }
        };
        busy.batch_execute("BEGIN").await.unwrap();
        front.show(seen(Duty::Maint));
        until_closed(&busy).await;
    });
}
