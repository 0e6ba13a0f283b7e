//! What the proxy asks of other members.

use std::{pin::Pin, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_proxy::Peers;
use bellwether_types::{Duty, MemberName};

const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
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

    fn set_duty(
        &self,
        api_url: String,
        member: MemberName,
        duty: Duty,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            // What is ready is not written down.
            let value = (duty != Duty::Ready).then_some(duty);
            let body = serde_json::json!({"routing": {member.as_str(): value}});
            match client.call(Method::PATCH, &api_url, "config", Some(&body), WRITTEN_WITHIN).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("status {}: {}", answer.status, answer.body)),
                Err(error) => Err(error.to_string()),
            }
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
