//! What the proxy asks of the leader itself.

use std::{pin::Pin, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_proxy::Peers;

const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

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
}
