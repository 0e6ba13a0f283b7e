//! The client against servers that answer oddly, late or not at all.

mod failures;
mod trust;

use std::{net::SocketAddr, sync::Once};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// reqwest needs a TLS provider, even for plain HTTP.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("nobody else installs one");
    });
}

/// A server that answers each connection's first request with these bytes and closes. Stops when dropped.
struct Canned {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_with(bytes: &'static [u8]) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    Canned { url, task }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/patroni")
}
