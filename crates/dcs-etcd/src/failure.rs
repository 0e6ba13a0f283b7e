//! What a failed request may have done. Everything about writes rests on this.

use bellwether_dcs::StoreError;
use tonic::{Code, Status};

/// How a request to one endpoint failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request never left: another endpoint may be asked, whatever the request is.
    NotSent(StoreError),
    /// etcd answered, and did nothing. Whether to ask again is in [`Rejection`].
    Rejected(Status),
    /// It may have been carried out, now or later.
    Unknown(StoreError),
    /// Answered by a member that lags behind or belongs to another cluster.
    Untrusted(String),
}

/// What a rejection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Log in anew, then ask again.
    LogIn,
    /// This member, or this moment, was the wrong one.
    Again,
    /// The answer would be the same everywhere.
    Final,
}

/// Carried inside a [`Status`] by requests that never left.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed before the request was sent")]
pub(crate) struct NeverSent;

const BAD_TOKENS: [&str; 3] = ["invalid auth token", "revision of auth store is old", "user name is empty"];

impl Failure {
    pub(crate) fn from_status(status: Status) -> Self {
        if was_never_sent(&status) {
            return Self::NotSent(StoreError::Unreachable(NeverSent.to_string()));
        }
        // A status with a source was made on this side, from a broken connection or an answer that nobody understands.
        if std::error::Error::source(&status).is_some() {
            return Self::Unknown(StoreError::Unreachable(described(&status)));
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Rejected(status),
            // Members refuse at the door while they know no leader. Every other kind of unavailability may come late.
            Code::Unavailable if status.message() == "etcdserver: no leader" => Self::Rejected(status),
            Code::Unavailable | Code::DeadlineExceeded => Self::Unknown(no_quorum(&status)),
            _ => Self::Unknown(StoreError::Protocol(described(&status))),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) | Failure::Unknown(error) => error,
            Failure::Untrusted(why) => Self::Unreachable(why),
            Failure::Rejected(status) => rejection_error(&status),
        }
    }
}

/// What an unanswered question is told to the caller as.
pub(crate) fn rejection_error(status: &Status) -> StoreError {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => no_quorum(status),
        Code::PermissionDenied | Code::Unauthenticated => StoreError::Unauthorized(described(status)),
        _ if is_bad_token(status) || is_wrong_password(status) => StoreError::Unauthorized(described(status)),
        _ => StoreError::Protocol(described(status)),
    }
}

pub(crate) fn rejection(status: &Status) -> Rejection {
    match status.code() {
        _ if is_bad_token(status) => Rejection::LogIn,
        // Rights are changed by people, in several steps: what is forbidden now may be allowed in a moment.
        Code::PermissionDenied | Code::Unavailable => Rejection::Again,
        Code::ResourceExhausted if status.message().contains("too many requests") => Rejection::Again,
        _ => Rejection::Final,
    }
}

pub(crate) fn is_wrong_password(status: &Status) -> bool {
    status.message().contains("invalid user ID or password")
}

fn is_bad_token(status: &Status) -> bool {
    BAD_TOKENS.iter().any(|text| status.message().contains(text))
}

fn no_quorum(status: &Status) -> StoreError {
    StoreError::NoQuorum(status.message().to_owned())
}

fn described(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<NeverSent>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_what_etcd_itself_refused_counts_as_not_done() {
        for (code, text, done_nothing) in [
            (Code::NotFound, "etcdserver: requested lease not found", true),
            (Code::Unavailable, "etcdserver: no leader", true),
            (Code::Unauthenticated, "etcdserver: invalid auth token", true),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", true),
            (Code::Unavailable, "etcdserver: request timed out", false),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                false,
            ),
            (Code::Unavailable, "etcdserver: server stopped", false),
            (Code::Unknown, "etcdserver: not a primary lessor", false),
            (Code::Internal, "stream terminated by RST_STREAM", false),
        ] {
            let failure = Failure::from_status(Status::new(code, text));
            assert_eq!(matches!(failure, Failure::Rejected(_)), done_nothing, "{text}");
        }
        // The same code from our own side of a broken connection.
        let mut local = Status::new(Code::PermissionDenied, "h2 protocol error");
        local.set_source(Arc::new(std::io::Error::other("broken")));
        assert!(matches!(Failure::from_status(local), Failure::Unknown(_)));
        let mut unsent = Status::new(Code::Unknown, "closed");
        unsent.set_source(Arc::new(NeverSent));
        assert!(matches!(Failure::from_status(unsent), Failure::NotSent(_)));
    }

    #[test]
    fn rejections_call_for_the_right_thing() {
        for (code, text, expected) in [
            (Code::Unauthenticated, "etcdserver: invalid auth token", Rejection::LogIn),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", Rejection::LogIn),
            (Code::InvalidArgument, "etcdserver: user name is empty", Rejection::LogIn),
            (Code::PermissionDenied, "etcdserver: permission denied", Rejection::Again),
            (Code::Unavailable, "etcdserver: no leader", Rejection::Again),
            (Code::ResourceExhausted, "etcdserver: too many requests", Rejection::Again),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Rejection::Final),
            (Code::NotFound, "etcdserver: requested lease not found", Rejection::Final),
        ] {
            assert_eq!(rejection(&Status::new(code, text)), expected, "{text}");
        }
    }
}
