//! The little of the wire protocol that tokio-postgres does not offer: a probe without login, and replication commands.

use std::{collections::BTreeMap, io, path::PathBuf};

use bytes::{Bytes, BytesMut};
use postgres_protocol::{
    authentication::{md5_hash, sasl},
    message::{
        backend::{ErrorResponseBody, Message},
        frontend,
    },
};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::fallible_iterator::FallibleIterator;

use crate::{
    settings::{Credentials, HostPort},
    tls::Tls,
};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a server. Every call waits without a limit of its own: callers set one.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
}

/// Why a conversation ended.
#[derive(Debug)]
pub(crate) enum WireError {
    Io(io::Error),
    /// The server said no.
    Server {
        sqlstate: String,
        message: String,
    },
    /// It said something else than expected.
    Unexpected(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Rows of a simple query, as text.
pub(crate) type Rows = Vec<Vec<Option<Bytes>>>;

impl Connection {
    /// A host beginning with `/` is a socket directory, which is never encrypted.
    pub(crate) async fn open(address: &HostPort, tls: &Tls) -> io::Result<Self> {
        let stream: Box<dyn Stream> = if address.host.starts_with('/') {
            let socket = PathBuf::from(&address.host).join(format!(".s.PGSQL.{}", address.port));
            Box::new(UnixStream::connect(socket).await?)
        } else {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            negotiate(stream, &address.host, tls).await?
        };
        Ok(Self { stream, input: BytesMut::with_capacity(8192) })
    }

    /// Sends the startup message and returns the first answer.
    pub(crate) async fn startup(&mut self, parameters: &BTreeMap<&str, &str>) -> Result<Message, WireError> {
        let mut message = BytesMut::new();
        frontend::startup_message(parameters.iter().map(|(name, value)| (*name, *value)), &mut message)?;
        self.send(&message).await?;
        self.receive_any().await
    }

    /// Logs in and waits until the server takes commands.
    pub(crate) async fn log_in(
        &mut self,
        parameters: &BTreeMap<&str, &str>,
        credentials: &Credentials,
    ) -> Result<(), WireError> {
        let password = credentials.password.as_ref().map_or("", |password| password.expose_secret());
        let mut next = self.startup(parameters).await?;
        loop {
            match next {
                Message::AuthenticationCleartextPassword => self.send_password(password.as_bytes()).await?,
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(credentials.username.as_bytes(), password.as_bytes(), body.salt());
                    self.send_password(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(_) => self.scram(password.as_bytes()).await?,
                Message::AuthenticationOk
                | Message::ParameterStatus(_)
                | Message::BackendKeyData(_)
                | Message::NoticeResponse(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(server_error(&body)?),
                _ => {
                    return Err(WireError::Unexpected(
                        "an authentication method that is not supported".to_owned(),
                    ));
                }
            }
            next = self.receive_any().await?;
        }
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), WireError> {
        let mut message = BytesMut::new();
        frontend::password_message(password, &mut message)?;
        Ok(self.send(&message).await?)
    }

    /// SCRAM-SHA-256 without channel binding (see [`crate::tls`]).
    async fn scram(&mut self, password: &[u8]) -> Result<(), WireError> {
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut message)?;
        self.send(&message).await?;
        match self.receive_any().await? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data())?,
            Message::ErrorResponse(body) => return Err(server_error(&body)?),
            _ => return Err(WireError::Unexpected("no answer to the SCRAM challenge".to_owned())),
        }
        message.clear();
        frontend::sasl_response(scram.message(), &mut message)?;
        self.send(&message).await?;
        match self.receive_any().await? {
            Message::AuthenticationSaslFinal(body) => Ok(scram.finish(body.data())?),
            Message::ErrorResponse(body) => Err(server_error(&body)?),
            _ => Err(WireError::Unexpected("no end of the SCRAM exchange".to_owned())),
        }
    }

    /// Runs one statement or replication command by the simple protocol.
    pub(crate) async fn query(&mut self, text: &str) -> Result<Rows, WireError> {
        let mut message = BytesMut::new();
        frontend::query(text, &mut message)?;
        self.send(&message).await?;
        let (mut rows, mut failure) = (Rows::new(), None);
        loop {
            match self.receive_any().await? {
                Message::DataRow(body) => {
                    let buffer = body.buffer_bytes().clone();
                    let ranges: Vec<_> = body.ranges().collect().map_err(WireError::Io)?;
                    rows.push(
                        ranges.into_iter().map(|range| range.map(|range| buffer.slice(range))).collect(),
                    );
                }
                Message::ErrorResponse(body) => failure = Some(server_error(&body)?),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn receive_any(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = Message::parse(&mut self.input)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(WireError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Asks for encryption where the mode wants it.
async fn negotiate(mut stream: TcpStream, host: &str, tls: &Tls) -> io::Result<Box<dyn Stream>> {
    let (connector, required) = match tls {
        Tls::Never => return Ok(Box::new(stream)),
        Tls::Preferred(connector) => (connector, false),
        Tls::Required(connector) => (connector, true),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(Box::new(connector.encrypt(host, stream).await?)),
        b'N' if !required => Ok(Box::new(stream)),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the server does not support TLS, but sslmode requires it",
        )),
    }
}

/// The SQLSTATE and text of an error message.
pub(crate) fn server_error(body: &ErrorResponseBody) -> Result<WireError, WireError> {
    use postgres_protocol::message::backend::ErrorField;
    let fields: Vec<ErrorField<'_>> = body.fields().collect().map_err(WireError::Io)?;
    let field = |kind: u8| {
        let found = fields.iter().find(|field| field.type_() == kind);
        found.map_or_else(String::new, |field| String::from_utf8_lossy(field.value_bytes()).into_owned())
    };
    Ok(WireError::Server { sqlstate: field(b'C'), message: field(b'M') })
}
