//! Renewals on one stream per connection: a message each, where a stream of its own for each would cost etcd twice as much.
//!
//! Answers bear no number. So one caller at a time has the stream, and takes it with him: if he does not wait for his answer, or gets
//! none, it ends with him. Nobody else may take that answer for his own: it would make a lease look younger than it is.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tonic::{Status, Streaming, metadata::AsciiMetadataValue};

use crate::{
    connection::Connection,
    proto::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, Rpc},
};

impl Rpc for LeaseKeepAliveRequest {
    const PATH: &'static str = "/etcdserverpb.Lease/LeaseKeepAlive";
    type Answer = LeaseKeepAliveResponse;

    fn ask(
        self,
        connection: &Connection,
        token: Option<&AsciiMetadataValue>,
    ) -> impl Future<Output = Result<LeaseKeepAliveResponse, Status>> + Send {
        connection.renewals().ask(connection, self, token)
    }
}

/// The stream of a connection that nobody is waiting at.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    idle: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
    /// Whose it is.
    token: Option<AsciiMetadataValue>,
}

impl Renewals {
    async fn ask(
        &self,
        connection: &Connection,
        request: LeaseKeepAliveRequest,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        let mut open = match self.take(request, token) {
            Some(open) => open,
            None => open(connection, request, token).await?,
        };
        match open.answers.message().await? {
            Some(answer) if answer.id == request.id => {
                *self.lock() = Some(open);
                Ok(answer)
            }
            Some(_) => Err(Status::internal("etcd has renewed another lease than it was asked to")),
            None => Err(Status::unavailable("etcd has ended the stream of renewals")),
        }
    }

    /// The stream with the request on its way, if there is one that is still good.
    fn take(&self, request: LeaseKeepAliveRequest, token: Option<&AsciiMetadataValue>) -> Option<Open> {
        let mut open = self.lock().take().filter(|open| open.token.as_ref() == token)?;
        // Whatever it has to tell now is no answer to us; most likely it has ended.
        let is_quiet = open.answers.message().now_or_never().is_none();
        (is_quiet && open.requests.try_send(request).is_ok()).then_some(open)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// etcd answers the opening together with the first request.
async fn open(
    connection: &Connection,
    request: LeaseKeepAliveRequest,
    token: Option<&AsciiMetadataValue>,
) -> Result<Open, Status> {
    // One at a time is asked.
    let (requests, queue) = mpsc::channel(1);
    requests.try_send(request).expect("an empty queue has room");
    let answers = connection.renew(queue, token).await?;
    Ok(Open { requests, answers, token: token.cloned() })
}
