//! Accepts connections and hands their requests to the node.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use super::{
    Net,
    connection::{self, ConnectError, Frames},
    message::{Hello, PROTOCOL, Refusal, Request, Response, Welcome},
};

/// Connections that may be served at once: a few per node, some for clients.
const CONNECTIONS: usize = 256;
/// Requests of one connection that may be worked on at once.
const REQUESTS: usize = 64;

/// Answers requests of nodes and clients.
pub(crate) trait Service: Send + Sync + 'static {
    fn net(&self) -> &Arc<Net>;

    /// Whether this visitor may talk to us, and who we are.
    fn welcome(&self, hello: &Hello) -> impl Future<Output = Welcome> + Send;

    fn serve(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// Accepts until dropped; all connections end with it.
pub(crate) async fn listen<S: Service>(listener: TcpListener, service: Arc<S>) {
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, visitor)) if visits.len() < CONNECTIONS => {
                    visits.spawn(visit(stream, visitor.ip().to_string(), service.clone()));
                }
                Ok(_) => {
                    if service.net().may_complain("too many connections") {
                        tracing::warn!(limit = CONNECTIONS, "too many connections to the store");
                    }
                }
                // Out of file descriptors, most likely: others may end meanwhile.
                Err(error) => {
                    if service.net().may_complain("cannot accept") {
                        tracing::warn!(error = %error, "the store cannot accept a connection");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = visits.join_next() => {}
        }
    }
}

async fn visit<S: Service>(stream: TcpStream, visitor: String, service: Arc<S>) {
    let net = service.net().clone();
    if net.is_isolated() {
        return;
    }
    let (mut frames, hello) = match connection::accept(&net, stream).await {
        Ok(accepted) => accepted,
        Err(error) => {
            if matches!(error, ConnectError::Unauthorized(_)) && net.may_complain(&visitor) {
                tracing::warn!(peer = %visitor, error = %error, "refused a connection to the store");
            } else {
                tracing::debug!(peer = %visitor, error = %error, "a connection to the store came to nothing");
            }
            return;
        }
    };
    let mut welcome = service.welcome(&hello).await;
    if !hello.is_understood() {
        welcome.refusal = Some(Refusal::Protocol(PROTOCOL));
    }
    if let Some(refusal) = &welcome.refusal
        && net.may_complain(&format!("{visitor} {refusal}"))
    {
        tracing::warn!(
            peer = %visitor, their_cluster = %hello.cluster, our_cluster = %net.cluster,
            "refused a peer of the store: not meant for us: {refusal}"
        );
    }
    let refused = welcome.refusal.is_some();
    if connection::answer_greeting(&mut frames, &welcome).await.is_err() || refused {
        return;
    }
    converse(frames, &visitor, service).await;
}

async fn converse<S: Service>(frames: Frames, visitor: &str, service: Arc<S>) {
    let net = service.net().clone();
    let (mut sink, mut stream) = frames.split();
    let (answers, mut ready) = mpsc::channel(REQUESTS);
    let places = Arc::new(Semaphore::new(REQUESTS));
    let mut work = JoinSet::new();
    let answering = async {
        while let Some(frame) = ready.recv().await {
            if sink.send(frame).await.is_err() {
                return;
            }
        }
    };
    let asking = async {
        while let Some(Ok(frame)) = stream.next().await {
            if net.is_isolated() {
                continue;
            }
            let (number, request) = match connection::read_numbered::<Request>(&frame) {
                Ok(read) => read,
                Err(error) => {
                    if net.may_complain(visitor) {
                        tracing::warn!(peer = %visitor, error = %error, "a peer of the store sent nonsense");
                    }
                    return;
                }
            };
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            let (service, answers, net) = (service.clone(), answers.clone(), net.clone());
            while work.try_join_next().is_some() {}
            work.spawn(async move {
                let response = service.serve(request).await;
                if !net.is_isolated() {
                    let _ = answers.send(connection::numbered(number, &response)).await;
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = answering => {}
        () = asking => {}
    }
}
