//! The calls.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bellwether_types::{Lsn, failsafe::FailsafeRequest};
use reqwest::{Method, RequestBuilder, Response, Url};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::{BasicAuth, ClientConfig, ClientError, ConfigError, PeerStatus};

/// The largest answer that is read.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// Calls REST APIs. Cheap to clone; clones share their connections, which stay open between calls, so that a poll in a
/// leader race costs one round trip. Dropping a call's future gives it up; whether the server carries it out is then unknown.
#[derive(Clone)]
pub struct ApiClient {
    /// Shared by all clones, so that [`ApiClient::reload`] reaches them.
    in_force: Arc<RwLock<InForce>>,
}

#[derive(Clone)]
struct InForce {
    http: reqwest::Client,
    authentication: Option<BasicAuth>,
}

impl InForce {
    fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self { http: config.build()?, authentication: config.authentication })
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authentication = self.in_force().authentication;
        f.debug_struct("ApiClient").field("authentication", &authentication).finish_non_exhaustive()
    }
}

/// Any answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// A member's answer to the heartbeat of a leader without a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailsafeReply {
    /// It will not race. `lsn`: where its WAL ends; `promised`: for how long, from its answer; each if it told.
    Accepted { lsn: Option<Lsn>, promised: Option<Duration> },
    /// Any other answer: the leader must not count on this member.
    Refused { status: u16, message: String },
}

impl ApiClient {
    /// Reads the files of the settings; connects to nobody yet.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self { in_force: Arc::new(RwLock::new(InForce::new(config)?)) })
    }

    /// Puts other settings in force and reads the files anew, for all clones. Calls under way end as they began; after an
    /// error the old settings stay in force.
    pub fn reload(&self, config: ClientConfig) -> Result<(), ConfigError> {
        let renewed = InForce::new(config)?;
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    fn in_force(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `GET` of a member's `api_url`, verbatim.
    pub async fn get_status(&self, api_url: &str, timeout: Duration) -> Result<PeerStatus, ClientError> {
        self.get_status_text(api_url, timeout).await.map(|(status, _)| status)
    }

    /// The same, with the text of the answer.
    pub async fn get_status_text(
        &self,
        api_url: &str,
        timeout: Duration,
    ) -> Result<(PeerStatus, String), ClientError> {
        let request = self.in_force().http.get(parse(api_url)?).timeout(timeout);
        let answer = read(send(request, api_url, timeout).await?, api_url, timeout).await?;
        if answer.status != 200 {
            let Answer { status, body } = answer;
            return Err(ClientError::Status { url: api_url.to_owned(), status, message: body });
        }
        let malformed = |reason: String| ClientError::Malformed { url: api_url.to_owned(), reason };
        let document = serde_json::from_str(&answer.body).map_err(|error| malformed(error.to_string()))?;
        let status = PeerStatus::parse(&document).ok_or_else(|| malformed("not a JSON object".to_owned()))?;
        Ok((status, answer.body))
    }

    /// `POST /failsafe` to the member with this `api_url`. Only status 200 with the body `Accepted` counts.
    pub async fn post_failsafe(
        &self,
        api_url: &str,
        heartbeat: &FailsafeRequest,
        timeout: Duration,
    ) -> Result<FailsafeReply, ClientError> {
        let url = endpoint(api_url, "failsafe")?;
        let request = self.authenticated(Method::POST, &url)?.json(heartbeat).timeout(timeout);
        let response = send(request, &url, timeout).await?;
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
        let (lsn, promised) = (number("lsn").map(Lsn), number("promised-ms").map(Duration::from_millis));
        let Answer { status, body } = read(response, &url, timeout).await?;
        if status == 200 && body == "Accepted" {
            Ok(FailsafeReply::Accepted { lsn, promised })
        } else {
            Ok(FailsafeReply::Refused { status, message: body })
        }
    }

    /// Any call to the member with this `api_url`; `path` (with its query) replaces that of the URL. Every status is an answer.
    pub async fn call(
        &self,
        method: Method,
        api_url: &str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let url = endpoint(api_url, path)?;
        let mut request = self.authenticated(method, &url)?.timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(send(request, &url, timeout).await?, &url, timeout).await
    }

    fn authenticated(&self, method: Method, url: &str) -> Result<RequestBuilder, ClientError> {
        let InForce { http, authentication } = self.in_force();
        let request = http.request(method, parse(url)?);
        Ok(match authentication {
            Some(BasicAuth { username, password }) => {
                request.basic_auth(username, Some(password.expose_secret()))
            }
            None => request,
        })
    }
}

/// Another path of the API behind an `api_url`: `http://10.0.0.1:8008/patroni` and `switchover` make
/// `http://10.0.0.1:8008/switchover`.
pub fn endpoint(api_url: &str, path: &str) -> Result<String, ClientError> {
    let mut url = parse(api_url)?;
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(path);
    url.set_query(query);
    Ok(url.into())
}

fn parse(url: &str) -> Result<Url, ClientError> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed.filter(Url::has_host).ok_or_else(|| ClientError::BadUrl { url: url.to_owned() })
}

async fn send(request: RequestBuilder, url: &str, timeout: Duration) -> Result<Response, ClientError> {
    request.send().await.map_err(|error| ClientError::sort(&error, url, timeout))
}

async fn read(mut response: Response, url: &str, timeout: Duration) -> Result<Answer, ClientError> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ClientError::sort(&error, url, timeout))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT {
            let reason = format!("it is longer than {ANSWER_LIMIT} bytes");
            return Err(ClientError::Malformed { url: url.to_owned(), reason });
        }
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_replace_the_path() {
        for (api_url, path, expected) in [
            ("http://10.0.0.1:8008/patroni", "switchover", Some("http://10.0.0.1:8008/switchover")),
            (
                "https://[::1]:8008/patroni?x=1",
                "/journal?limit=5",
                Some("https://[::1]:8008/journal?limit=5"),
            ),
            ("http://db1:8008", "cluster", Some("http://db1:8008/cluster")),
            ("db1:8008/patroni", "cluster", None),
            ("ftp://db1/patroni", "cluster", None),
            ("", "cluster", None),
        ] {
            assert_eq!(endpoint(api_url, path).ok().as_deref(), expected, "{api_url}");
        }
    }
}
