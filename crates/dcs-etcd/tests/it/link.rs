//! A connection to a member that a test can disturb.

use std::net::{Ipv4Addr, SocketAddr};

use bellwether_dcs_etcd::Endpoint;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// Nothing arrives, in either direction, and nobody is told.
    Silent,
    /// Questions arrive, answers do not.
    AnswersLost,
    /// Connections break, and new ones are refused.
    Cut,
}

/// Forwards a port of its own to a member.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    flow: watch::Sender<Flow>,
    listening: JoinHandle<()>,
}

impl Link {
    pub(crate) async fn to(target: &Endpoint) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = SocketAddr::new(target.host.parse().unwrap(), target.port);
        let (flow, changes) = watch::channel(Flow::Open);
        let listening = tokio::spawn(listen(listener, target, changes));
        Self { endpoint: Endpoint::new(false, "127.0.0.1", port), flow, listening }
    }

    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: SocketAddr, flow: watch::Receiver<Flow>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *flow.borrow() != Flow::Cut {
            connections.spawn(forward(client, target, flow.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(client: TcpStream, target: SocketAddr, mut flow: watch::Receiver<Flow>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let questions = pump(client_read, server_write, flow.clone(), |flow| flow != Flow::Silent);
    let answers = pump(server_read, client_write, flow.clone(), |flow| flow == Flow::Open);
    tokio::select! {
        () = questions => {}
        () = answers => {}
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    passes: impl Fn(Flow) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if flow.wait_for(|flow| passes(*flow)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
