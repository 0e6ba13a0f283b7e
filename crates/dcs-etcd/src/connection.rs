//! One HTTP/2 connection to one member.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::TlsConnector;
use tonic::{Request, Status, Streaming, body::Body, client::Grpc, metadata::AsciiMetadataValue};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::{
    config::{Endpoint, TlsFiles},
    failure::NeverSent,
    proto::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, Rpc, WATCH_PATH, WatchRequest, WatchResponse},
    renewals::Renewals,
    tls,
};

/// A peer that acknowledges nothing for so long is gone, even if nobody waits for an answer.
const SILENT_PEER: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;
/// Linux refuses more than this between two probes.
const LONGEST_TIME: Duration = Duration::from_secs(32_767);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Clones share the connection, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Connection {
    grpc: Grpc<Sender>,
    sender: http2::SendRequest<Body>,
    renewals: Arc<Renewals>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the first address of the endpoint that accepts. The caller limits the time.
    pub(crate) async fn open(endpoint: &Endpoint, files: &TlsFiles) -> io::Result<Self> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        notice_silence(&stream, SILENT_PEER);
        if !endpoint.tls {
            return Self::over(stream, endpoint).await;
        }
        let files = files.clone();
        let config = tokio::task::spawn_blocking(move || tls::client_config(&files))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Self::over(stream, endpoint).await
    }

    async fn over<S>(stream: S, endpoint: &Endpoint) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the last sender, or with the connection.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to etcd has ended");
            }
        });
        let origin = endpoint.to_string().parse().map_err(io::Error::other)?;
        // A limit on our side would turn a write that was done into an error.
        let grpc = Grpc::with_origin(Sender(sender.clone()), origin).max_decoding_message_size(usize::MAX);
        Ok(Self { grpc, sender, renewals: Arc::default() })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn renewals(&self) -> &Renewals {
        &self.renewals
    }

    /// Asks in a request of its own; see [`Rpc::ask`].
    pub(crate) async fn unary<R: Rpc>(
        &self,
        message: R,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<R::Answer, Status> {
        let codec = ProstCodec::<R, R::Answer>::default();
        let path = PathAndQuery::from_static(R::PATH);
        let answer = self.grpc.clone().unary(request(message, token), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream of renewals, which ends with the queue or with an error when this member loses its leader.
    pub(crate) async fn renew(
        &self,
        queue: mpsc::Receiver<LeaseKeepAliveRequest>,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<Streaming<LeaseKeepAliveResponse>, Status> {
        let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
        let path = PathAndQuery::from_static(LeaseKeepAliveRequest::PATH);
        let messages =
            stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|next| (next, queue)) });
        let answer = self.grpc.clone().streaming(request(messages, token), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Opens a watch. The stream ends with an error when this member loses its leader.
    pub(crate) async fn watch(
        &self,
        message: WatchRequest,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = PathAndQuery::from_static(WATCH_PATH);
        // Our half stays open as long as the watch is wanted.
        let messages = |message| stream::iter([message]).chain(stream::pending());
        let answer = self.grpc.clone().streaming(request(message, token).map(messages), path, codec).await?;
        Ok(answer.into_inner())
    }
}

/// Has the kernel end a connection whose peer has acknowledged nothing for so long. A kernel that refuses one of these options is no
/// reason to do without etcd: every call has a limit of its own.
fn notice_silence(stream: &TcpStream, limit: Duration) {
    let probes = TcpKeepalive::new()
        .with_time(limit.min(LONGEST_TIME))
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    for set in [socket.set_tcp_keepalive(&probes), socket.set_tcp_user_timeout(Some(limit))] {
        if let Err(error) = set {
            tracing::debug!(%error, "an option of a connection to etcd was refused");
        }
    }
}

fn request<M>(message: M, token: Option<&AsciiMetadataValue>) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

/// Passes requests on, and tells those that never left from those that may have.
#[derive(Clone)]
struct Sender(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut sender = self.0.clone();
        Box::pin(async move {
            if sender.ready().await.is_err() {
                return Err(NeverSent.into());
            }
            sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => NeverSent.into(),
                None => error.into_error().into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_kernel_allows_is_cut_and_what_it_refuses_costs_no_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        notice_silence(&stream, 2 * LONGEST_TIME);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), LONGEST_TIME);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(2 * LONGEST_TIME), "it is set all the same");
        assert!(stream.writable().await.is_ok());
    }
}
