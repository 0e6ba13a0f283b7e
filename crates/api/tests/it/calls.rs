//! Unsafe calls: access, bodies, answers, records.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bellwether_api::{
    BasicAuth, ServerTokens,
    control::{ConfigOutcome, RestartOutcome, SwitchoverOutcome},
};
use bellwether_types::failsafe::FailsafeAnswer;
use serde_json::json;

use crate::{
    harness::{Agent, config, serve},
    situations::*,
};

#[tokio::test]
async fn each_call_reaches_the_agent_and_is_answered_in_known_words() {
    let server = serve(Agent::new(replica()), config()).await;
    for (method, path, body, status, text, asked) in [
        ("PATCH", "/config", r#"{"ttl": 20}"#, 200, r#"{"ttl": 20}"#, Some(r#"patch {"ttl":20}"#)),
        ("PUT", "/config", r#"{"ttl": 20}"#, 200, r#"{"ttl": 20}"#, Some(r#"put {"ttl":20}"#)),
        ("POST", "/reload", "", 202, "reload scheduled", Some("reload")),
        ("POST", "/restart", "", 200, "restarted successfully", Some("restart {}")),
        (
            "POST",
            "/restart/x",
            r#"{"role": "replica", "timeout": "1min"}"#,
            200,
            "restarted successfully",
            Some(r#"restart {"role":"replica","timeout":60}"#),
        ),
        (
            "POST",
            "/restart",
            r#"{"role": "x"}"#,
            400,
            "PostgreSQL role should be either primary, standby_leader, or replica",
            None,
        ),
        ("DELETE", "/restart", "", 404, "no restarts are scheduled", None),
        (
            "POST",
            "/reinitialize",
            "{}",
            200,
            "reinitialize started",
            Some("reinitialize force=false from_leader=false"),
        ),
        (
            "POST",
            "/reinitialize",
            r#"{"force": true, "from_leader": true}"#,
            200,
            "reinitialize started",
            Some("reinitialize force=true from_leader=true"),
        ),
        (
            "POST",
            "/switchover",
            r#"{"leader": "a"}"#,
            200,
            r#"Successfully switched over to "b""#,
            Some(r#"Switchover Some(a) None by 127.0.0.1"#),
        ),
        (
            "POST",
            "/failover",
            r#"{"candidate": "c"}"#,
            200,
            r#"Failed over to "b" instead of "c""#,
            Some(r#"Failover None Some(c) by 127.0.0.1"#),
        ),
        (
            "POST",
            "/failover",
            r#"{"leader": "a"}"#,
            400,
            "Failover could be performed only to a specific candidate",
            None,
        ),
        ("DELETE", "/switchover", "", 404, "no switchover is scheduled", None),
        (
            "POST",
            "/citus",
            r#"{"type": "after_promote", "group": 1, "leader": "w", "timeout": 30, "cooldown": 10}"#,
            200,
            "OK",
            Some("after_promote of group 1 by w"),
        ),
        (
            "POST",
            "/mpp",
            r#"{"type": "after_promote"}"#,
            400,
            "the body is no report of a leader: `group`",
            None,
        ),
        ("POST", "/sigterm", "", 202, "shutdown scheduled", None),
    ] {
        let before = server.agent.asked().len();
        let answer = server.call(method, path, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{method} {path} {body}");
        let json = text.starts_with('{');
        let kind = if json { "application/json" } else { "text/html" };
        assert_eq!(answer.header("content-type"), Some(kind), "{method} {path}");
        assert_eq!(server.agent.asked()[before..], asked.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn outcomes_of_the_agent_have_their_codes() {
    let mut agent = Agent::new(leader());
    agent.restart = RestartOutcome::Refused { why: "restart conditions are not satisfied".to_owned() };
    agent.switchover = SwitchoverOutcome::NoGoodCandidates;
    agent.config = ConfigOutcome::LostRace;
    agent.failsafe = FailsafeAnswer::RunningAsLeader;
    agent.status.scheduled_restart = Some(json!({"schedule": "x"}));
    let server = serve(agent, config()).await;
    let heartbeat = r#"{"name": "c", "conn_url": "postgres://x/", "api_url": "http://x/patroni"}"#;
    for (method, path, body, status, text) in [
        ("POST", "/restart", "", 503, "restart conditions are not satisfied"),
        ("DELETE", "/restart", "", 200, "scheduled restart deleted"),
        ("POST", "/reinitialize", "", 503, "I am the leader, can not reinitialize"),
        (
            "POST",
            "/switchover",
            r#"{"leader":"a"}"#,
            412,
            "switchover is not possible: no good candidates have been found",
        ),
        ("POST", "/failsafe", heartbeat, 500, "Running as a leader"),
    ] {
        let answer = server.call(method, path, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{method} {path}");
    }
    let answer = server.call("PATCH", "/config", r#"{"ttl": 20}"#).await;
    assert_eq!((answer.status, answer.header("content-type")), (409, Some("text/html;charset=utf-8")));

    for (outcome, patch, put) in [
        (ConfigOutcome::NoConfig, 503, 503),
        (ConfigOutcome::Unavailable { why: "the store did not answer in time".to_owned() }, 503, 502),
    ] {
        let mut agent = Agent::new(leader());
        agent.config = outcome;
        let server = serve(agent, config()).await;
        assert_eq!(server.call("PATCH", "/config", r#"{"ttl": 20}"#).await.status, patch);
        assert_eq!(server.call("PUT", "/config", r#"{"ttl": 20}"#).await.status, put);
    }
}

#[tokio::test]
async fn a_failsafe_heartbeat_is_accepted_with_the_position() {
    let mut status = replica();
    status.settings.failsafe_mode = true;
    let server = serve(Agent::new(status), config()).await;
    let body =
        r#"{"name": "a", "conn_url": "postgres://x/", "api_url": "http://x/patroni", "slots": {"b": 17}}"#;
    let answer = server.call("POST", "/failsafe", body).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("lsn")), (200, "Accepted", Some("4711")));
    assert_eq!(answer.header("promised-ms"), Some("5500"));
    assert_eq!(server.agent.asked(), ["failsafe a Some({\"b\": 0/11}) None"], "Patroni's body");
    assert_eq!(server.call("POST", "/failsafe", r#"{"name": "a"}"#).await.status, 400);

    let mut agent = Agent::new(replica());
    agent.status.settings.failsafe_mode = false;
    agent.failsafe = FailsafeAnswer::Off;
    let server = serve(agent, config()).await;
    for body in [body, "", "{}", r#"{"name": "a"}"#] {
        assert_eq!(server.call("POST", "/failsafe", body).await.status, 502, "{body}");
    }
}

#[tokio::test]
async fn without_a_view_of_the_store_no_leader_is_changed() {
    let server = serve(Agent::new(without_store(leader())), config()).await;
    let answer = server.call("POST", "/switchover", r#"{"leader": "a"}"#).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("the store could not be read"), "{}", answer.body);
    assert!(server.agent.asked().is_empty());
}

#[tokio::test]
async fn bodies_follow_the_rules() {
    let server = serve(Agent::new(replica()), config()).await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (case, method, path, body, headers, status) in [
        ("needed, no length", "PATCH", "/config", "", "", 411),
        ("needed, empty", "PATCH", "/config", "", "Content-Length: 0\r\n", 400),
        ("needed, empty object", "PUT", "/config", "{}", "", 400),
        ("needed, not an object", "POST", "/switchover", "[1]", "", 400),
        ("needed, no JSON", "POST", "/failover", "ttl: 5", "", 400),
        ("optional, zero length", "POST", "/restart", "", "Content-Length: 0\r\n", 200),
        ("optional, broken", "POST", "/restart", "{", "", 400),
        ("optional, broken reinitialize does nothing", "POST", "/reinitialize", "{", "", 400),
        ("optional, unknown length", "POST", "/restart", "", chunked, 411),
        ("too large", "PATCH", "/config", "", "Content-Length: 1048577\r\n", 413),
        ("unknown call", "POST", "/nonsense", "", "", 501),
        ("unknown method of a known path", "PUT", "/restart", "", "", 501),
        ("unknown deletion", "DELETE", "/config", "", "", 501),
    ] {
        let answer = server.call_with(method, path, body, headers).await;
        assert_eq!(answer.status, status, "{case}");
        if status >= 400 {
            assert!(answer.body.starts_with("<!DOCTYPE html>"), "{case}: {}", answer.body);
        }
    }
    let answer = server.call("POST", "/nonsense", "").await;
    assert!(answer.body.contains("Server does not support this operation"));
    assert_eq!(server.agent.asked(), ["restart {}"], "nothing but the one good call reached the agent");
}

#[tokio::test]
async fn unsafe_calls_need_the_password_and_are_recorded() {
    let mut config = config();
    config.authentication =
        Some(BasicAuth { username: "admin".to_owned(), password: "secret".to_owned().into() });
    let server = serve(Agent::new(replica()), config).await;
    let header = |text: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));

    for (headers, text) in
        [(String::new(), "no auth header received"), (header("admin:wrong"), "not authenticated")]
    {
        let answer = server.call_with("POST", "/restart", "", &headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, text));
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Patroni\""));
    }
    assert!(server.agent.asked().is_empty());
    let answer = server.call_with("POST", "/restart?x=y", "", &header("admin:secret")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.get("/patroni").await.status, 200, "reading is open");
    assert_eq!(server.get("/journal").await.status, 401, "the journal tells who did what: guarded");
    let answer = server.call_with("GET", "/journal?limit=5", "", &header("admin:secret")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"[{"limit": 5}]"#));

    let records = server.agent.records();
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let identity = record.caller.identity.as_deref();
            (record.method.as_str(), record.path.as_str(), identity, record.status, record.message.as_deref())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("POST", "/restart", None, 401, Some("no auth header received")),
            ("POST", "/restart", None, 401, Some("not authenticated")),
            ("POST", "/restart", Some("admin"), 200, Some("restarted successfully")),
        ]
    );
    assert!(records.iter().all(|record| record.caller.origin.to_string() == "127.0.0.1"));
}

#[tokio::test]
async fn only_listed_addresses_may_call() {
    let body = r#"{"name": "a", "conn_url": "postgres://x/", "api_url": "http://x/patroni"}"#;
    for (case, allowlist, include_members, restart, failsafe) in [
        ("no list", &[][..], false, 200, 200),
        ("another address", &["10.0.0.0/8"], false, 403, 403),
        ("this address", &["127.0.0.0/8"], false, 200, 200),
        ("members, which are on this address", &["10.0.0.0/8"], true, 200, 403),
        ("members only", &[], true, 200, 200),
    ] {
        let mut config = config();
        config.allowlist = allowlist.iter().map(|&text| text.to_owned()).collect();
        config.allowlist_include_members = include_members;
        let server = serve(Agent::new(replica()), config).await;
        let answer = server.call("POST", "/restart", "").await;
        assert_eq!(answer.status, restart, "{case}");
        assert!(restart == 200 || answer.body == "Access is denied", "{case}: {}", answer.body);
        assert_eq!(server.call("POST", "/failsafe", body).await.status, failsafe, "{case}");
        assert_eq!(server.get("/health").await.status, 200, "{case}");
    }
}

#[tokio::test]
async fn headers_follow_the_configuration() {
    let mut config = config();
    config.server_tokens = ServerTokens::Minimal;
    config.http_extra_headers = BTreeMap::from([("X-Frame-Options".to_owned(), "SAMEORIGIN".to_owned())]);
    config.https_extra_headers = BTreeMap::from([("X-Only-Tls".to_owned(), "1".to_owned())]);
    let server = serve(Agent::new(replica()), config.clone()).await;
    let answer = server.get("/primary").await;
    assert_eq!(answer.header("server"), Some("Patroni/4.1.5"));
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(answer.header("x-only-tls"), None);
    assert_eq!(server.call("POST", "/nonsense", "").await.header("x-frame-options"), None);

    config.server_tokens = ServerTokens::ProductOnly;
    config.listen.port = server.address.port();
    config.http_extra_headers = BTreeMap::from([("no header".to_owned(), "x".to_owned())]);
    assert!(server.handle.reload(config.clone()).await.is_err(), "a header that cannot be sent");
    assert_eq!(server.get("/").await.header("server"), Some("Patroni/4.1.5"), "the old settings stay");
}
