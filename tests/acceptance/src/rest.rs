//! The REST API, as an operator's script would call it.

use std::{sync::OnceLock, time::Duration};

use reqwest::{Client, Method};
use serde_json::Value;

pub const USER: &str = "operator";
pub const PASSWORD: &str = "api-secret";
/// Longer than a switchover request may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// An answer: `text` is the body, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{self:?} is no JSON: {error}"))
    }
}

/// One member's REST API.
#[derive(Clone, Debug)]
pub struct Api {
    url: String,
    client: Client,
}

impl Api {
    pub fn on(port: u16) -> Self {
        Self::at(&format!("127.0.0.1:{port}"))
    }

    /// The one at this address and port.
    pub fn at(place: &str) -> Self {
        Self { url: format!("http://{place}"), client: client() }
    }

    /// HTTPS, by a client that has what it takes.
    pub fn secured(port: u16, client: Client) -> Self {
        Self { url: format!("https://127.0.0.1:{port}"), client }
    }

    /// `Err` has the reason in words if there was no HTTP answer.
    pub async fn get(&self, path: &str) -> Result<Reply, String> {
        self.call(Method::GET, path, None, Duration::from_secs(2)).await
    }

    /// Calls with credentials and panics if there is no HTTP answer.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.unsafe_call(Method::POST, path, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.unsafe_call(Method::PATCH, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.unsafe_call(Method::DELETE, path, Value::Null).await
    }

    async fn unsafe_call(&self, method: Method, path: &str, body: Value) -> Reply {
        let answer = self.call(method.clone(), path, Some(body), ANSWERED_WITHIN).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} at {}: {error}", self.url))
    }

    /// As [`Api::post`], where the agent may be down: its answer is waited for as long.
    pub async fn wait_for_post(&self, path: &str, body: Value) -> Result<Reply, String> {
        self.call(Method::POST, path, Some(body), ANSWERED_WITHIN).await
    }

    /// The same for servers that may not answer.
    pub async fn try_post(&self, path: &str, body: Value) -> Result<Reply, String> {
        self.call(Method::POST, path, Some(body), Duration::from_secs(2)).await
    }

    /// The status document, `null` if there was no answer.
    pub async fn status(&self) -> Value {
        self.get("/patroni").await.map_or(Value::Null, |reply| reply.json())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        within: Duration,
    ) -> Result<Reply, String> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).timeout(within);
        if let Some(body) = &body {
            request = request.basic_auth(USER, Some(PASSWORD));
            if !body.is_null() {
                request = request.json(body);
            }
        }
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>(Reply { status, text: response.text().await? })
        };
        answer.await.map_err(|error| format!("{error:?}"))
    }

    /// An unsafe call without credentials.
    pub async fn post_as_stranger(&self, path: &str, body: &Value) -> Reply {
        let request = self.client.post(format!("{}{path}", self.url)).json(body).timeout(ANSWERED_WITHIN);
        let response = request.send().await.expect("the API answers");
        Reply { status: response.status().as_u16(), text: response.text().await.expect("a body") }
    }
}

/// Once for the whole process.
pub(crate) fn provide_tls() {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn client() -> Client {
    provide_tls();
    Client::builder().no_proxy().build().expect("a client without certificates needs no files")
}
