//! The client library's errors in the words of the trait, and deadlines.

use std::future::Future;

use bellwether_dcs::{Deadline, StoreError};
use zookeeper_client::Error;

pub(crate) fn unavailable(error: Error) -> StoreError {
    match error {
        Error::Timeout => StoreError::TimedOut,
        Error::AuthFailed | Error::NoAuth => StoreError::Unauthorized(error.to_string()),
        Error::NotReadOnly | Error::Throttled => StoreError::NoQuorum(error.to_string()),
        Error::NoHosts
        | Error::ConnectionLoss
        | Error::ClientClosed
        | Error::SessionMoved
        | Error::SessionExpired
        | Error::Custom(_) => StoreError::Unreachable(error.to_string()),
        other => StoreError::Protocol(other.to_string()),
    }
}

/// Waits for the end of a call, until its deadline.
pub(crate) async fn within<T, E>(
    by: Deadline,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError>
where
    E: Into<Failed>,
{
    match tokio::time::timeout(by.remaining(), call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.into().0),
        Err(_) => Err(StoreError::TimedOut),
    }
}

/// Why a call of either layer failed.
pub(crate) struct Failed(StoreError);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(unavailable(error))
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}
