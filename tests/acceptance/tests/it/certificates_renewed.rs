//! Certificates change on disk: a reload takes them into use without a restart, and one that cannot be used changes nothing.

use std::fs;

use bellwether_acceptance::{
    Cluster, Options, PATIENCE, account::Account, eventually, pki::Pki, processes, wait::until,
};
use rustix::process::Signal;
use serde_json::json;

/// Whether the API at this port shows a certificate of the present authority.
async fn is_shown_at(pki: &Pki, port: u16) -> Result<(), String> {
    let answer = pki.stranger().get(format!("https://127.0.0.1:{port}/liveness")).send().await;
    answer.map(drop).map_err(|error| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_taken_into_use_by_a_reload() {
    let mut pki = Pki::new(Account::of_nodes());
    let files = json!({"cafile": pki.path("ca"), "certfile": pki.path("crt"), "keyfile": pki.path("key")});
    let store = json!({"raft": {"password": null}});
    let options = Options::nodes(1).with(store).with(json!({"raft": files}));
    let mut cluster = Cluster::prepare(&options).await;
    cluster.nodes[0].start();
    cluster.whole().await;
    let node = &cluster.nodes[0];
    let starts = node.supervisor().starts();
    let hang_up = || {
        let agent = node.agent_pid().expect("the agent runs");
        assert!(processes::send(agent, Signal::HUP), "it is there");
    };

    // From HTTP to HTTPS, by the API itself.
    let mut document = node.document.clone();
    for key in ["certfile", "keyfile"] {
        document["restapi"][key] = files[key].clone();
    }
    node.rewrite(&document);
    assert_eq!(node.api.post("/reload", json!({})).await.status, 202);
    eventually("HTTPS is spoken", PATIENCE, || is_shown_at(&pki, node.api_port)).await;

    let before = node.log_text().matches("certificates of the store have been read anew").count();
    pki.renew();
    is_shown_at(&pki, node.api_port).await.expect_err("nobody has told the agent");
    hang_up();
    eventually("the renewed certificate is shown", PATIENCE, || is_shown_at(&pki, node.api_port)).await;
    until("the store has read its certificates, too", PATIENCE, || {
        node.log_text().matches("certificates of the store have been read anew").count() > before
    })
    .await;

    fs::write(pki.path("key"), "no key").expect("the file is there");
    hang_up();
    until("the refusals are told", PATIENCE, || {
        let log = node.log_text();
        log.contains("the REST API keeps its old settings and certificates")
            && log.contains("the store keeps its old certificates")
    })
    .await;
    is_shown_at(&pki, node.api_port).await.expect("the pair before is still in force");
    assert_eq!(node.supervisor().starts(), starts, "nothing was restarted");
}
