//! The way to the agent: requests with deadline, token and datacenter, and its answers sorted.

use std::{error::Error, time::Duration};

use bellwether_dcs::{Deadline, StoreError};
use reqwest::{Method, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};

use crate::config::{Config, ConfigError};

const INDEX: &str = "X-Consul-Index";

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    http: reqwest::Client,
    url: Url,
    config: Config,
}

/// An answer that is no failure of the store.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Up to where the answer has everything.
    pub(crate) index: Option<u64>,
    body: Vec<u8>,
}

impl Agent {
    pub(crate) fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { http: config.client()?, url: config.base_url()?, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Answer, StoreError> {
        self.send(Method::GET, path, query, None::<&()>, limit).await
    }

    pub(crate) async fn put(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&impl Serialize>,
        by: Deadline,
    ) -> Result<Answer, StoreError> {
        self.send(Method::PUT, path, query, body, by.remaining()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&impl Serialize>,
        limit: Duration,
    ) -> Result<Answer, StoreError> {
        if limit.is_zero() {
            return Err(StoreError::TimedOut);
        }
        let mut url = self.url.clone();
        url.path_segments_mut().expect("the scheme is http or https").pop_if_empty().push("v1").extend(path);
        {
            let mut pairs = url.query_pairs_mut();
            pairs.extend_pairs(query);
            if let Some(dc) = &self.config.dc {
                pairs.append_pair("dc", dc);
            }
        }
        let mut request = self.http.request(method, url).timeout(limit);
        if let Some(token) = &self.config.token {
            request = request.header("X-Consul-Token", token.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| lost(&error))?;
        let status = response.status();
        let index = response.headers().get(INDEX).and_then(|index| index.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(|error| lost(&error))?.to_vec();
        sort(Answer { status, index, body })
    }
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            StoreError::Protocol(format!("{} with an unexpected body: {error}", self.status))
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// The answer, unless it is an unexpected refusal.
    pub(crate) fn expect_success(self) -> Result<Self, StoreError> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(StoreError::Protocol(format!("{}: {}", self.status, self.text()))),
        }
    }
}

fn sort(answer: Answer) -> Result<Answer, StoreError> {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(StoreError::Unauthorized(answer.text())),
        // A rejected session ttl is a 500 in some versions; whoever asks for one looks at the text.
        status if status.is_server_error() => Err(StoreError::NoQuorum(answer.text())),
        _ => Ok(answer),
    }
}

fn lost(error: &reqwest::Error) -> StoreError {
    if error.is_timeout() {
        return StoreError::TimedOut;
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    StoreError::Unreachable(cause.to_string())
}
