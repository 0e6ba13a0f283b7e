//! Members as services.

use std::time::{Duration, Instant};

use bellwether_dcs_consul::service::{Registrar, Registration};
use serde_json::Value;

use crate::server::{LOOK_AGAIN, SOON, Server, config, soon};

async fn tags(server: &Server) -> Vec<String> {
    let url = format!("http://{}/v1/catalog/service/batman", server.address);
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let found: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    let tags = found.pointer("/0/ServiceTags").and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect()
}

async fn until(server: &Server, expected: &[&str]) {
    let limit = Instant::now() + SOON;
    while tags(server).await != expected {
        assert!(Instant::now() < limit, "the tags are {:?}", tags(server).await);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_found_by_its_role_until_it_is_taken_out() {
    let server = Server::start().await;
    let registrar = Registrar::new(config(&server.address, "service/batman/")).unwrap();
    let mut registration = Registration {
        scope: "batman".to_owned(),
        member: "a".to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 5432,
        role: "primary".to_owned(),
        tags: vec!["mine".to_owned()],
        api_url: "http://127.0.0.1:8008".to_owned(),
        check_interval: Duration::from_secs(5),
        check_tls_server_name: None,
        session_ttl: Duration::from_secs(15),
    };
    registrar.register(&registration, soon()).await.unwrap();
    until(&server, &["mine", "primary", "master"]).await;
    registration.role = "replica".to_owned();
    registrar.register(&registration, soon()).await.unwrap();
    until(&server, &["mine", "replica"]).await;
    registrar.deregister("batman", "a", soon()).await.unwrap();
    until(&server, &[]).await;
    registrar.deregister("batman", "a", soon()).await.unwrap();
}
