//! What the proxy asks of other members.

use std::{pin::Pin, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_proxy::Peers;

const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const CANCELLED_WITHIN: Duration = Duration::from_secs(6);

/// By its REST API: `/primary` is answered from the lease.
#[derive(Debug)]
pub(super) struct ByRest(pub(super) ApiClient);

impl Peers for ByRest {
    fn holds_lease(&self, api_url: String) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let answer = client.call(Method::GET, &api_url, "primary", None, ANSWERED_WITHIN).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
    }

    fn cancel(
        &self,
        api_url: String,
        process: u32,
        secret: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let body = serde_json::json!({"process": process, "secret": hex::encode(secret)});
            let answer = client.call(Method::POST, &api_url, "cancel", Some(&body), CANCELLED_WITHIN).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
    }
}
