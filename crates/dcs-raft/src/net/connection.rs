//! One TCP connection: TLS, the greeting, and frames.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    Net,
    message::{Hello, OLDEST_PROTOCOL, PROTOCOL, Refusal, Welcome},
};
use crate::consensus::NodeId;

/// A batch of the biggest transactions, with room.
const FRAME_LIMIT: usize = 64 << 20;
/// A silent host is given up after this time, so that a new connection can find its successor.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);
const GREETING_LIMIT: Duration = Duration::from_secs(3);

/// Why a connection did not come about. Nothing was asked over it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the credentials do not match: {0}")]
    Unauthorized(String),
    #[error("refused: {0}")]
    Refused(Refusal),
}

pub(crate) type Frames = Framed<Stream, LengthDelimitedCodec>;

/// Either side of a TLS connection.
pub(crate) enum Stream {
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Server(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Opens a connection to `address` and greets the node there.
pub(crate) async fn connect(
    net: &Net,
    address: &str,
    to: Option<NodeId>,
) -> Result<(Frames, Welcome), ConnectError> {
    if net.is_isolated() {
        return Err(ConnectError::Unreachable("this node is isolated for a drill".to_owned()));
    }
    let unreachable = |error: io::Error| ConnectError::Unreachable(error.to_string());
    let credentials = net.credentials();
    let name = credentials.server_name(address).map_err(ConnectError::Unreachable)?;
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    tune(&stream);
    let stream = TlsConnector::from(credentials.client).connect(name, stream).await.map_err(handshake)?;
    let mut frames = framed(Stream::Client(Box::new(stream)));
    let hello = Hello {
        protocol: PROTOCOL,
        oldest_protocol: OLDEST_PROTOCOL,
        cluster: net.cluster.clone(),
        store: net.store(),
        from: net.node,
        to,
    };
    frames.send(plain(&hello)).await.map_err(handshake)?;
    // In TLS 1.3 the server judges our certificate after we are done: its refusal arrives here.
    let answer = frames
        .next()
        .await
        .ok_or_else(|| ConnectError::Unreachable("it hung up on our greeting".to_owned()))?
        .map_err(handshake)?;
    let welcome: Welcome =
        read_plain(&answer).map_err(|error| ConnectError::Unreachable(format!("odd greeting: {error}")))?;
    if let Some(refusal) = welcome.refusal {
        return Err(ConnectError::Refused(refusal));
    }
    if welcome.protocol < OLDEST_PROTOCOL {
        return Err(ConnectError::Refused(Refusal::Protocol(welcome.protocol)));
    }
    Ok((frames, welcome))
}

/// The server's half: TLS and the visitor's greeting. The caller answers it.
pub(crate) async fn accept(net: &Net, stream: TcpStream) -> Result<(Frames, Hello), ConnectError> {
    let greeting = async {
        tune(&stream);
        let stream = TlsAcceptor::from(net.credentials().server).accept(stream).await.map_err(handshake)?;
        let mut frames = framed(Stream::Server(Box::new(stream)));
        let hello = frames
            .next()
            .await
            .ok_or_else(|| ConnectError::Unreachable("it hung up".to_owned()))?
            .map_err(handshake)?;
        let hello = read_plain(&hello)
            .map_err(|error| ConnectError::Unreachable(format!("odd greeting: {error}")))?;
        Ok((frames, hello))
    };
    timeout(GREETING_LIMIT, greeting)
        .await
        .unwrap_or_else(|_| Err(ConnectError::Unreachable("it did not greet in time".to_owned())))
}

pub(crate) async fn answer_greeting(frames: &mut Frames, welcome: &Welcome) -> io::Result<()> {
    frames.send(plain(welcome)).await
}

fn framed(stream: Stream) -> Frames {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_LIMIT).new_framed(stream)
}

/// Has the kernel end a connection whose peer is silent. What it refuses of this costs no connection: the protocol has limits of its own.
fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    let refused = [
        stream.set_nodelay(true),
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)),
        socket.set_tcp_keepalive(&keepalive),
    ];
    for error in refused.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "an option of a connection between nodes was refused");
    }
}

/// TLS errors are I/O errors with a cause inside.
fn handshake(error: io::Error) -> ConnectError {
    use rustls::{AlertDescription as Alert, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::AlertReceived(
                Alert::BadCertificate
                | Alert::CertificateRequired
                | Alert::DecryptError
                | Alert::AccessDenied
                | Alert::UnknownCA
                | Alert::CertificateUnknown
                | Alert::HandshakeFailure,
            ),
        ) => ConnectError::Unauthorized(error.to_string()),
        _ => ConnectError::Unreachable(error.to_string()),
    }
}

fn plain<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("our own types have string keys and no failing serializers").into()
}

fn read_plain<T: DeserializeOwned>(frame: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(frame)
}

/// A frame with the number that ties an answer to its request.
pub(crate) fn numbered<T: Serialize>(number: u64, value: &T) -> Bytes {
    let mut frame = BytesMut::with_capacity(256);
    frame.put_u64(number);
    let mut writer = frame.writer();
    serde_json::to_writer(&mut writer, value)
        .expect("our own types have string keys and no failing serializers");
    writer.into_inner().freeze()
}

pub(crate) fn read_numbered<T: DeserializeOwned>(frame: &[u8]) -> Result<(u64, T), String> {
    let (number, body) = frame.split_first_chunk::<8>().ok_or("the frame is too short")?;
    let value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok((u64::from_be_bytes(*number), value))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Server(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Client(stream) => Pin::new(stream).poll_write(context, data),
            Self::Server(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(stream) => Pin::new(stream).poll_flush(context),
            Self::Server(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Server(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::net::{
        credentials::Credentials,
        listener::{Service, listen},
        message::{Request, Response},
    };

    /// Lets everybody in whom the listener lets in.
    struct Host(Arc<Net>);

    impl Service for Host {
        fn net(&self) -> &Arc<Net> {
            &self.0
        }

        async fn welcome(&self, _: &Hello) -> Welcome {
            Welcome { protocol: PROTOCOL, node: 1, store: None, refusal: None }
        }

        async fn serve(&self, _: Request) -> Response {
            Response::Failed("nothing is asked here".to_owned())
        }
    }

    async fn greet(net: &Net, address: &str, protocol: u8, oldest_protocol: u8) -> Welcome {
        let credentials = net.credentials();
        let name = credentials.server_name(address).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = TlsConnector::from(credentials.client).connect(name, stream).await.unwrap();
        let mut frames = framed(Stream::Client(Box::new(stream)));
        let cluster = net.cluster.clone();
        let hello = Hello { protocol, oldest_protocol, cluster, store: None, from: None, to: None };
        frames.send(plain(&hello)).await.unwrap();
        read_plain(&frames.next().await.unwrap().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_visitor_of_an_unknown_protocol_is_told_ours_and_let_go() {
        let net = Net::new("demo".to_owned(), Credentials::new("demo", None, None).unwrap(), None, None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let host = tokio::spawn(listen(listener, Arc::new(Host(net.clone()))));
        for (case, protocol, oldest, refusal) in [
            ("ours", PROTOCOL, OLDEST_PROTOCOL, None),
            ("newer, and speaks ours", PROTOCOL + 1, PROTOCOL, None),
            ("too new", PROTOCOL + 2, PROTOCOL + 1, Some(Refusal::Protocol(PROTOCOL))),
        ] {
            let welcome = greet(&net, &address, protocol, oldest).await;
            assert_eq!(welcome.refusal, refusal, "{case}");
        }
        let told = Refusal::Protocol(PROTOCOL).to_string();
        assert!(told.contains("too new or too old"), "{told}");
        host.abort();
    }
}
