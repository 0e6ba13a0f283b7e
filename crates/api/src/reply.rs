//! Answers before they become HTTP.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;

use crate::json;

/// What to answer. Turned into HTTP by [`Reply::into_response`], which alone knows headers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: ReplyBody,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ReplyBody {
    Empty,
    Json(String),
    /// A message for people or scripts to match.
    Message(String),
    Metrics(String),
    /// A small HTML page with an explanation.
    ErrorPage(String),
}

/// A request that is refused, with the status and the text that say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Rejection {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<Rejection> for Reply {
    fn from(rejection: Rejection) -> Self {
        Reply::message(rejection.status, rejection.message)
    }
}

impl Reply {
    fn new(status: u16, body: ReplyBody) -> Self {
        Self { status, body, headers: Vec::new() }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::new(status, ReplyBody::Empty)
    }

    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        Self::new(status, ReplyBody::Json(json::render(value)))
    }

    pub(crate) fn message(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, ReplyBody::Message(text.into()))
    }

    pub(crate) fn metrics(text: String) -> Self {
        Self::new(200, ReplyBody::Metrics(text))
    }

    pub(crate) fn error_page(status: u16, explanation: impl Into<String>) -> Self {
        Self::new(status, ReplyBody::ErrorPage(explanation.into()))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The text of the answer, where it is one for people.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.body {
            ReplyBody::Message(text) | ReplyBody::ErrorPage(text) => Some(text),
            _ => None,
        }
    }

    /// Adds the headers of the kind of answer; `extra` goes to everything that has a body and is no error page.
    pub(crate) fn into_response(
        self,
        server: &HeaderValue,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).expect("all status codes are constants of this crate");
        let (content_type, body, extra) = match self.body {
            ReplyBody::Empty => (None, String::new(), &[][..]),
            ReplyBody::Json(text) => (Some("application/json"), text, extra),
            ReplyBody::Message(text) => (Some("text/html"), text, extra),
            ReplyBody::Metrics(text) => (Some("text/plain"), text, extra),
            ReplyBody::ErrorPage(explanation) => {
                (Some("text/html;charset=utf-8"), error_page(status, &explanation), &[][..])
            }
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(header::SERVER, server.clone());
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in extra.iter().chain(&self.headers) {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

fn error_page(status: StatusCode, explanation: &str) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let explanation = explanation.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>{reason}</title></head>\n\
         <body><h1>{} {reason}</h1><p>{explanation}</p></body></html>\n",
        status.as_u16()
    )
}
