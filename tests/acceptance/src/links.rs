//! Links between the store's nodes that a test can cut, as a broken switch would: nothing is refused and nothing arrives.
//!
//! Each node of the store is reached by the others through a forwarder on its published address. Nodes keep talking over
//! everything else (REST, replication), which is what failsafe mode is about.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Forwarders to all nodes of a store.
#[derive(Debug)]
pub struct Links {
    flowing: watch::Sender<bool>,
    listening: Vec<JoinHandle<()>>,
}

impl Links {
    /// Forwards each first port to its second.
    pub async fn open(ports: &[(u16, u16)]) -> Self {
        let (flowing, _) = watch::channel(true);
        let mut listening = Vec::new();
        for &(from, to) in ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from)).await.expect("the port is ours");
            listening.push(tokio::spawn(forward(listener, to, flowing.subscribe())));
        }
        Self { flowing, listening }
    }

    /// Nothing arrives any more.
    pub fn cut(&self) {
        self.flowing.send_replace(false);
    }

    /// What was on its way arrives after all.
    pub fn mend(&self) {
        self.flowing.send_replace(true);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
    }
}

/// The same with nothing to be cut: all that arrives at `listener` goes on to this port.
pub(crate) fn forward_all(listener: TcpListener, to: u16) -> JoinHandle<()> {
    let (flowing, flows) = watch::channel(true);
    tokio::spawn(async move {
        forward(listener, to, flows).await;
        drop(flowing);
    })
}

async fn forward(listener: TcpListener, to: u16, flowing: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, to, flowing.clone()));
    }
}

async fn connect(client: TcpStream, to: u16, mut flowing: watch::Receiver<bool>) {
    if flowing.wait_for(|flows| *flows).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(from_client, to_server, flowing.clone()) => {}
        () = pump(from_server, to_client, flowing) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flowing: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        // What was read just now is still on its way.
        if count == 0 || flowing.wait_for(|flows| *flows).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
