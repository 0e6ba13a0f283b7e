//! Reading requests: path, query, body.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, header},
};
use serde_json::{Map, Value};

use crate::reply::Reply;

/// The largest body that is read. A dynamic configuration has a few kilobytes.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// The first segment of a path: `/cluster/x` is answered like `/cluster`.
pub(crate) fn first_segment(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Query parameters, decoded. Parameters without a value do not count, and of several with one name the first does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&') {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (decode(name), decode(value));
            if !value.is_empty() && pairs.iter().all(|(known, _)| *known != name) {
                pairs.push((name, value));
            }
        }
        Self(pairs)
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Parameters whose name begins with `prefix`, without it.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

/// Percent decoding, with `+` for a blank; broken escapes stay as they are.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"));
                at += 2;
            }
            (b'+', _, _) => decoded.push(b' '),
            (byte, _, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Whether a call needs a JSON object as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// Not read.
    Ignored,
    /// An object, which may be empty or absent.
    Optional,
    /// An object that is not empty.
    Required,
}

/// Reads the body as the rule says.
pub(crate) async fn read_body(
    rule: BodyRule,
    headers: &HeaderMap,
    body: Body,
    patience: Duration,
) -> Result<Map<String, Value>, Reply> {
    if rule == BodyRule::Ignored {
        return Ok(Map::new());
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        // A body of unknown length must not pass for none: a filter in it would be lost, and PostgreSQL be restarted.
        let is_absent = !headers.contains_key(header::TRANSFER_ENCODING);
        return if rule == BodyRule::Optional && is_absent {
            Ok(Map::new())
        } else {
            Err(Reply::error_page(411, "the request needs a Content-Length header"))
        };
    };
    let length: usize = length.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    if length > BODY_LIMIT {
        return Err(Reply::error_page(413, format!("the body is larger than {BODY_LIMIT} bytes")));
    }
    let bytes = match tokio::time::timeout(patience, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(Reply::error_page(400, "the body could not be read")),
        Err(_) => return Err(Reply::error_page(408, "the body did not arrive in time")),
    };
    parse_object(rule, &bytes)
}

fn parse_object(rule: BodyRule, bytes: &[u8]) -> Result<Map<String, Value>, Reply> {
    if bytes.is_empty() && rule == BodyRule::Optional {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) if rule == BodyRule::Optional || !map.is_empty() => Ok(map),
        Ok(Value::Object(_)) => Err(Reply::error_page(400, "the body is an empty object")),
        Ok(_) => Err(Reply::error_page(400, "the body is no JSON object")),
        Err(error) => Err(Reply::error_page(400, format!("the body is no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_names_the_handler() {
        for (path, segment) in [
            ("/", ""),
            ("/patroni", "patroni"),
            ("/patroni/x", "patroni"),
            ("//cluster", "cluster"),
            ("", ""),
        ] {
            assert_eq!(first_segment(path), segment, "{path:?}");
        }
    }

    #[test]
    fn queries_are_decoded_and_empty_parameters_do_not_count() {
        let query = Query::parse("lag=1%30MB&lag=5&tag_a=x+y&tag_b=&tag_c&tag_%C3%A9=%zz");
        assert_eq!(query.first("lag"), Some("10MB"));
        assert_eq!(query.with_prefix("tag_").collect::<Vec<_>>(), [("a", "x y"), ("é", "%zz")]);
        assert_eq!(Query::parse(""), Query::default());
    }

    #[test]
    fn bodies_are_objects() {
        let is_ok = |rule, text: &str| parse_object(rule, text.as_bytes()).map_err(|reply| reply.status);
        for (rule, text, expected) in [
            (BodyRule::Optional, "", Ok(0)),
            (BodyRule::Optional, "{}", Ok(0)),
            (BodyRule::Optional, "{\"a\": 1}", Ok(1)),
            (BodyRule::Optional, "[]", Err(400)),
            (BodyRule::Optional, "{", Err(400)),
            (BodyRule::Required, "", Err(400)),
            (BodyRule::Required, "{}", Err(400)),
            (BodyRule::Required, "17", Err(400)),
            (BodyRule::Required, "{\"a\": 1}", Ok(1)),
        ] {
            assert_eq!(is_ok(rule, text).map(|map| map.len()), expected, "{rule:?} {text:?}");
        }
    }
}
