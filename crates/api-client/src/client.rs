//! The client.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_types::failsafe::{FailsafeAnswer, FailsafeRequest};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{ClientError, ClientSetupError, PeerStatus};

/// How a client identifies itself and whom it trusts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientConfig {
    /// User name and password for HTTP Basic authentication.
    pub basic_auth: Option<(String, SecretString)>,
    /// A PEM bundle to trust beside nothing else; `None` = the system's.
    pub cacert: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    /// `None`: the key is in `client_cert`.
    pub client_key: Option<PathBuf>,
    /// Do not check the server's certificate.
    pub insecure: bool,
}

/// A REST client with warm connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    basic_auth: Option<(String, SecretString)>,
}

/// Any answer: the status code and the text of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl ApiClient {
    pub fn new(config: ClientConfig) -> Result<Self, ClientSetupError> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(path) = &config.cacert {
            let bundle = reqwest::Certificate::from_pem_bundle(&read(path)?);
            let roots = bundle.map_err(|error| pem(path, &error))?;
            builder = builder.tls_certs_only(roots);
        }
        if let Some(path) = &config.client_cert {
            let mut identity = read(path)?;
            if let Some(key) = &config.client_key {
                identity.push(b'\n');
                identity.extend(read(key)?);
            }
            builder =
                builder.identity(reqwest::Identity::from_pem(&identity).map_err(|error| pem(path, &error))?);
        }
        if config.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let http = builder.build().map_err(ClientSetupError::Build)?;
        Ok(Self { http, basic_auth: config.basic_auth })
    }

    /// One call. `url` is complete; every status code is an answer. Ends within `limit`.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let failed = |error| ClientError::from_reqwest(url, limit, error);
        let mut request = self.http.request(method, url).timeout(limit);
        if let Some((user, password)) = &self.basic_auth {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(failed)?;
        Ok(Reply { status, body })
    }

    /// What the member behind `api_url` says about itself. The URL is used as it was published.
    pub async fn get_status(&self, api_url: &str, limit: Duration) -> Result<PeerStatus, ClientError> {
        let reply = self.call(Method::GET, api_url, None, limit).await?;
        serde_json::from_str(&reply.body)
            .ok()
            .and_then(PeerStatus::parse)
            .ok_or_else(|| ClientError::NotAStatus { url: api_url.to_owned() })
    }

    /// Whether a live agent answers at all, with any status, on its `/liveness`.
    pub async fn is_alive(&self, api_url: &str, limit: Duration) -> bool {
        self.call(Method::GET, &sibling(api_url, "liveness"), None, limit).await.is_ok()
    }

    /// Tells a member that its leader lives although the store is silent. Only a clear acceptance counts as one.
    pub async fn post_failsafe(
        &self,
        api_url: &str,
        request: &FailsafeRequest,
        limit: Duration,
    ) -> Result<FailsafeAnswer, ClientError> {
        let body = serde_json::to_value(request).expect("a request has only text keys");
        let reply = self.call(Method::POST, &sibling(api_url, "failsafe"), Some(&body), limit).await?;
        Ok(match reply.status {
            200 if reply.body.trim() == "Accepted" => FailsafeAnswer::Accepted { lsn: None },
            code if code == StatusCode::INTERNAL_SERVER_ERROR.as_u16() => FailsafeAnswer::RunningAsLeader,
            _ => FailsafeAnswer::Off,
        })
    }
}

/// Another path on the server of `api_url`, which ends in `/patroni`.
pub fn sibling(api_url: &str, path: &str) -> String {
    let base = api_url.trim_end_matches('/').rsplit_once("/patroni").map_or(api_url, |(base, _)| base);
    format!("{}/{path}", base.trim_end_matches('/'))
}

fn read(path: &Path) -> Result<Vec<u8>, ClientSetupError> {
    std::fs::read(path).map_err(|cause| ClientSetupError::Read { path: path.to_owned(), cause })
}

fn pem(path: &Path, error: &reqwest::Error) -> ClientSetupError {
    ClientSetupError::Pem { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_paths_are_beside_the_published_url() {
        for url in ["http://h:8008/patroni", "http://h:8008/patroni/", "http://h:8008"] {
            assert_eq!(sibling(url, "failsafe"), "http://h:8008/failsafe");
        }
    }
}
