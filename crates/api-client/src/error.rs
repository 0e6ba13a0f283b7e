//! How calls fail.

use std::{error::Error, io, path::PathBuf, time::Duration};

/// Why a client could not be made from its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("could not read `{}` (`ctl.{key}`)", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` has no usable certificate of an authority (`ctl.cacert`)", path.display())]
    Authorities {
        path: PathBuf,
        #[source]
        cause: Option<reqwest::Error>,
    },
    #[error(
        "`{}` and its key are no usable client certificate (`ctl.certfile`, `ctl.keyfile`)",
        path.display()
    )]
    Certificate {
        path: PathBuf,
        #[source]
        cause: reqwest::Error,
    },
    #[error("the key in `{}` cannot be used (`ctl.keyfile`, `ctl.keyfile_password`)", path.display())]
    EncryptedKey {
        path: PathBuf,
        #[source]
        cause: bellwether_pem::KeyError,
    },
    #[error("could not set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Why a call did not get its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("`{url}` is not the URL of a REST API")]
    BadUrl { url: String },
    /// The host answered that nobody listens: the machine lives, the agent does not. Where a name has several addresses,
    /// this is the answer of the last one tried.
    #[error("{url}: connection refused")]
    Refused { url: String },
    /// Nothing is known about the other side, and a call that changes something may have been carried out.
    #[error("{url}: no answer within {} ms", after.as_millis())]
    TimedOut { url: String, after: Duration },
    /// No connection for another reason: no route, no such name.
    #[error("{url}: not reachable: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url}: TLS failed: {reason}")]
    Tls { url: String, reason: String },
    /// The connection ended in the middle. A call that changes something may have been carried out.
    #[error("{url}: the connection broke off: {reason}")]
    BrokenOff { url: String, reason: String },
    /// An answer, but not the expected one.
    #[error("{url}: HTTP status {status}")]
    Status { url: String, status: u16, message: String },
    #[error("{url}: the answer makes no sense: {reason}")]
    Malformed { url: String, reason: String },
}

impl ClientError {
    /// Sorts an error of the HTTP library.
    pub(crate) fn sort(error: &reqwest::Error, url: &str, timeout: Duration) -> Self {
        let url = url.to_owned();
        let reason = innermost(error);
        if error.is_timeout() {
            return Self::TimedOut { url, after: timeout };
        }
        if error.is_builder() {
            return Self::BadUrl { url };
        }
        if has_cause(error, |cause| io_kind(cause) == Some(io::ErrorKind::ConnectionRefused)) {
            return Self::Refused { url };
        }
        if has_cause(error, is_tls) {
            return Self::Tls { url, reason };
        }
        match error.is_connect() {
            true => Self::Unreachable { url, reason },
            false => Self::BrokenOff { url, reason },
        }
    }
}

type Cause<'a> = &'a (dyn Error + 'static);

fn has_cause(error: &(dyn Error + 'static), holds: impl Fn(Cause<'_>) -> bool) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if holds(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn io_kind(cause: Cause<'_>) -> Option<io::ErrorKind> {
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// A TLS failure travels inside I/O errors, which hide what they hold from `source`.
fn is_tls(cause: Cause<'_>) -> bool {
    let mut cause = cause;
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    cause.is::<rustls::Error>()
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
