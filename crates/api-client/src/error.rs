//! What can go wrong with a call, as far as a caller would act differently.

use std::{path::PathBuf, time::Duration};

/// A client could not be made from its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientSetupError {
    #[error("could not read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("`{}` holds no usable PEM data: {reason}", path.display())]
    Pem { path: PathBuf, reason: String },
    #[error("the HTTP client could not be built")]
    Build(#[source] reqwest::Error),
}

/// A call had no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The host is there and nobody listens on the port: evidence that no agent runs.
    #[error("{url}: connection refused")]
    Refused { url: String },
    /// Silence: the host may be gone, frozen, or cut off.
    #[error("{url}: no answer within {limit:?}")]
    TimedOut { url: String, limit: Duration },
    #[error("{url}: no connection")]
    Connect {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    #[error("{url}: the answer could not be read")]
    Broken {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    #[error("{url}: the answer is no member's status")]
    NotAStatus { url: String },
}

impl ClientError {
    pub(crate) fn from_reqwest(url: &str, limit: Duration, error: reqwest::Error) -> Self {
        let url = url.to_owned();
        if is_refused(&error) {
            Self::Refused { url }
        } else if error.is_timeout() {
            Self::TimedOut { url, limit }
        } else if error.is_connect() {
            Self::Connect { url, cause: error }
        } else {
            Self::Broken { url, cause: error }
        }
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}
