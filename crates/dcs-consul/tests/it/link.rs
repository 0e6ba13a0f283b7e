//! A TCP connection that a test can disturb.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// Requests arrive, answers do not.
    Mute,
    /// Every connection is closed, and every new one.
    Cut,
}

/// Stands between clients and one server.
pub(crate) struct Proxy {
    pub(crate) address: String,
    link: Arc<watch::Sender<Link>>,
    tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (link, server) = (Arc::new(watch::Sender::new(Link::Open)), server.to_owned());
        let watched = link.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *watched.borrow() == Link::Cut {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = upstream.into_split();
                connections.spawn(carry(from_client, to_server, watched.subscribe(), Link::Cut));
                connections.spawn(carry(from_server, to_client, watched.subscribe(), Link::Mute));
            }
        });
        Self { address, link, tasks }
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Disturbs in turns, until [`Proxy::set`] is called after the returned tasks are dropped.
    pub(crate) fn disturb(&self) -> JoinSet<()> {
        let link = self.link.clone();
        let mut disturbing = JoinSet::new();
        disturbing.spawn(async move {
            for (state, millis) in [
                (Link::Open, 400),
                (Link::Cut, 60),
                (Link::Open, 300),
                (Link::Mute, 450),
                (Link::Cut, 30),
                (Link::Open, 500),
                (Link::Mute, 100),
            ]
            .into_iter()
            .cycle()
            {
                link.send_replace(state);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        });
        disturbing
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Carries bytes one way; holds them back while the link is in the state `waits`.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    waits: Link,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = link.wait_for(|link| *link == Link::Cut) => return,
        };
        let Ok(length @ 1..) = read else { return };
        let passes = link.wait_for(|link| *link != waits || *link == Link::Cut).await.map(|link| *link);
        if passes.is_ok_and(|link| link == Link::Cut) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
