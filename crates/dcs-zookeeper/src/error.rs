//! The client library's errors in the words of the trait, and deadlines.

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
pub(crate) async fn within<T>(
    by: Deadline,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(by.remaining(), call).await.unwrap_or(Err(StoreError::TimedOut))
}
