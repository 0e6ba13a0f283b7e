//! The server: accepting connections, TLS, limits, reload and shutdown.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    task::Poll,
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    ApiConfig, BindError, Control, ListenOn, ServerTokens, VerifyClient,
    access::{Access, Peer},
    allowlist::Allowlist,
    config,
    dispatch::{App, dispatch},
    listen, tls,
};

/// Connections at one time. Beyond it new ones are closed at once, so that a flood cannot exhaust the process's files.
const MAX_CONNECTIONS: usize = 1024;
/// How long requests and operations may go on after `stop`, and how long the last answers may take after that.
const GRACE: Duration = Duration::from_secs(5);
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The way in.
#[derive(Debug)]
pub struct Api;

impl Api {
    /// Opens the port and reads the certificates; answers nothing yet. Connections made meanwhile wait.
    pub async fn bind(config: ApiConfig) -> Result<BoundApi, BindError> {
        let live = Live::new(&config)?;
        let listeners = listen::listen(&config.listen).await?;
        let (moves, moved) = mpsc::channel(1);
        let shared = Shared { live: RwLock::new(Arc::new(live)), listen: Mutex::new(config.listen), moves };
        Ok(BoundApi { listeners, moved, handle: ApiHandle { shared: Arc::new(shared) } })
    }
}

/// An API that owns its port.
#[derive(Debug)]
pub struct BoundApi {
    listeners: Vec<TcpListener>,
    moved: mpsc::Receiver<Vec<TcpListener>>,
    handle: ApiHandle,
}

/// Changes the settings of a running API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiHandle {
    shared: Arc<Shared>,
}

impl ApiHandle {
    /// Puts new settings in force and reads the certificates anew, also when only the files changed. Applies to new
    /// connections; requests on old ones see everything but the certificates. After an error the old settings stay in force.
    pub async fn reload(&self, config: ApiConfig) -> Result<(), BindError> {
        let live = Live::new(&config)?;
        let mut listen = self.shared.listen.lock().await;
        if *listen != config.listen {
            let listeners = listen::listen(&config.listen).await?;
            info!(listen = %config.listen, "the API listens on another address");
            // Nobody receives once the server has stopped, and then nothing matters.
            let _ = self.shared.moves.send(listeners).await;
            *listen = config.listen;
        }
        *self.shared.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
        Ok(())
    }
}

/// What connections and the handle share.
pub(crate) struct Shared {
    live: RwLock<Arc<Live>>,
    listen: Mutex<ListenOn>,
    /// New listeners replace the old ones. One place: a reload waits until the one before is done.
    moves: mpsc::Sender<Vec<TcpListener>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The settings in force now.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The settings in force, ready to use.
pub(crate) struct Live {
    pub(crate) access: Access,
    pub(crate) server_tokens: ServerTokens,
    pub(crate) extra_headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) slow_client_timeout: Duration,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Live {
    fn new(config: &ApiConfig) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
        let mut extra_headers = config::headers(&config.http_extra_headers)?;
        if tls.is_some() {
            extra_headers.extend(config::headers(&config.https_extra_headers)?);
        }
        let access = Access {
            allowlist: Allowlist::new(&config.allowlist, config.allowlist_include_members),
            authentication: config.authentication.clone(),
            verify_client: config.tls.as_ref().map_or(VerifyClient::None, |files| files.verify_client),
        };
        let slow_client_timeout = config.slow_client_timeout;
        Ok(Self { access, server_tokens: config.server_tokens, extra_headers, slow_client_timeout, tls })
    }
}

impl BoundApi {
    /// For changing the settings later.
    pub fn handle(&self) -> ApiHandle {
        self.handle.clone()
    }

    /// Where it listens: the real ports, also when any free one was asked for.
    pub fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Answers until `stop`; then takes no new connections, finishes what runs within a few seconds and gives up the rest.
    /// Dropping the future closes everything at once and gives up running operations.
    pub async fn serve(mut self, control: Arc<dyn Control>, stop: CancellationToken) {
        let abandon = CancellationToken::new();
        let _abandon_if_dropped = abandon.clone().drop_guard();
        let operations = TaskTracker::new();
        let app = Arc::new(App {
            control,
            shared: Arc::clone(&self.handle.shared),
            operations: operations.clone(),
            abandon: abandon.clone(),
        });
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(listeners) = self.moved.recv() => {
                    self.listeners = listeners;
                    continue;
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = accept(&self.listeners) => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        debug!(peer = %address, "closed a connection: there are too many");
                        continue;
                    };
                    let live = app.shared.live();
                    let connection = serve_connection(Arc::clone(&app), live, stream, address, stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(%error, "could not accept an API connection");
                    // Out of files, most likely: do not spin until some connection ends.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listeners);
        operations.close();
        let finish = async {
            while connections.join_next().await.is_some() {}
            operations.wait().await;
        };
        if tokio::time::timeout(GRACE, finish).await.is_err() {
            warn!(
                operations = operations.len(),
                connections = connections.len(),
                "API calls outlived the shutdown"
            );
            abandon.cancel();
            let last = async { while connections.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(LAST_ANSWERS, last).await;
        }
    }
}

/// The next connection on any of the listeners.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

async fn serve_connection(
    app: Arc<App>,
    live: Arc<Live>,
    stream: TcpStream,
    address: SocketAddr,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let patience = live.slow_client_timeout;
    let mut peer = Peer { address: address.ip().to_canonical(), is_tls: false, certificate: None };
    let Some(config) = &live.tls else {
        return serve_http(app, stream, peer, patience, stop).await;
    };
    let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
    match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => {
            peer.is_tls = true;
            peer.certificate = tls::client_fingerprint(stream.get_ref().1);
            serve_http(app, stream, peer, patience, stop).await;
        }
        Ok(Err(error)) => debug!(peer = %address, %error, "TLS handshake failed"),
        Err(_) => debug!(peer = %address, "TLS handshake took too long"),
    }
}

async fn serve_http(
    app: Arc<App>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    patience: Duration,
    stop: CancellationToken,
) {
    let address = peer.address;
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = dispatch(Arc::clone(&app), peer.clone(), request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        // As clients that look at the text know them.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(peer = %address, %error, "an API connection broke off");
    }
}
