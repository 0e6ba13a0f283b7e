//! A TCP connection to a server that a test can disturb.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What passes over a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// Nothing arrives, in either direction, and nobody is told.
    Silent,
    /// Questions arrive, answers do not.
    AnswersLost,
    /// Connections break, and new ones are refused.
    Cut,
}

/// Forwards a port of its own to one server, until it is dropped. What is held back arrives when the flow is open again.
#[derive(Debug)]
pub struct Link {
    /// `127.0.0.1:port`, in place of the server's address.
    pub address: String,
    flow: Arc<watch::Sender<Flow>>,
    tasks: JoinSet<()>,
}

impl Link {
    /// An open link to `server` (`host:port`).
    ///
    /// # Panics
    ///
    /// Without a free port on the loopback.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let flow = Arc::new(watch::Sender::new(Flow::Open));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, server.to_owned(), flow.subscribe()));
        Self { address, flow, tasks }
    }

    /// From now on, also for connections that are open.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Disturbs in turns until the returned task is dropped; [`Link::set`] afterwards.
    pub fn disturb(&self) -> JoinSet<()> {
        let flow = self.flow.clone();
        let mut disturbing = JoinSet::new();
        disturbing.spawn(async move {
            let turns = [
                (Flow::Open, 400),
                (Flow::Cut, 60),
                (Flow::Open, 300),
                (Flow::AnswersLost, 450),
                (Flow::Cut, 30),
                (Flow::Open, 500),
                (Flow::AnswersLost, 100),
            ];
            for (state, millis) in turns.into_iter().cycle() {
                flow.send_replace(state);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        });
        disturbing
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn listen(listener: TcpListener, server: String, flow: watch::Receiver<Flow>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *flow.borrow() != Flow::Cut {
            connections.spawn(forward(client, server.clone(), flow.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(client: TcpStream, server: String, mut flow: watch::Receiver<Flow>) {
    let Ok(server) = TcpStream::connect(&server).await else { return };
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
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    passes: impl Fn(Flow) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if flow.wait_for(|flow| passes(*flow)).await.is_err() || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
